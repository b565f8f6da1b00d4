"""Which orders the log asks for: from runs, weights and what is held to intents. Pure.

Closing follows the run alone: its end, its turn, or an operator's flatten. Opening needs the run's
own entry, eligibility and a weight in that bar's epoch; increasing needs the joined trade to go on,
eligibility and a weight in the newest one. An entry has one chance: what a guard refuses, the
broker rejects or nobody hears of again is not tried a second time, because later is the middle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from streams.events import GateDecision, GuardVerdict, OrderIntent, Weights
from streams.execution.brackets import in_precision, level_rule, levels
from streams.execution.broker import Account, InstrumentTerms, LevelRule, Mode, Quote
from streams.execution.conversion import base_currency
from streams.execution.guards import Exposure, Market, Plan, Switches, judge, sending_guards
from streams.execution.ledger import Holding, Ledger
from streams.execution.order_ids import order_id
from streams.execution.runs import Allocation, Entry, Runs, RunState, entry_of
from streams.execution.settings import Trading
from streams.execution.sizing import (
    SizingRefused,
    StepRules,
    account_base,
    next_change,
    target_units,
)
from streams.settings import Config

Kind = Literal["open", "increase", "reduce", "close"]


class Flatten(NamedTuple):
    """An operator's word that everything held is to be closed: where it lies, and why."""

    offset: int
    actor: str
    reason: str


class Desk(NamedTuple):
    """Everything an order follows that is in the log.

    Attributes
    ----------
    control_end
        End of ``ops.control`` as far as it has been read.
    cursor
        The venue's transaction up to which everything booked has been looked at.
    config_of
        The configuration (with the instrument's parameters) that a decision was made under.
    placed_ms
        The venue's clock for an order in an instrument.
    """

    application: str
    account_id: str
    mode: Mode
    trading: Trading
    runs: Runs
    allocation: Allocation
    ledger: Ledger
    flatten: Flatten | None
    control_end: int
    cursor: str
    config_of: Callable[[GateDecision], Config]
    placed_ms: Callable[[str], int]


class Venue(NamedTuple):
    """What the venue says at the moment of planning.

    Attributes
    ----------
    foreign
        Instrument -> what others hold or have ordered there, in words.
    foreign_held
        Instruments in which others hold something.
    late
        Instrument -> why its entry is not the run's own.
    ranges
        Instrument -> average true range at its entry, in atr mode.
    """

    now_ms: int
    account: Account
    terms: Mapping[str, InstrumentTerms]
    quotes: Mapping[str, Quote]
    rates: Mapping[str, float]
    price_interval_ms: int
    switches: Switches
    margin_blocked: bool
    foreign: Mapping[str, str]
    foreign_held: frozenset[str]
    late: Mapping[str, str]
    ranges: Mapping[str, float | None]


class Order(NamedTuple):
    """What all intents have in common before they become one."""

    instrument: str
    kind: Kind
    direction: int
    units: float
    entry_bar_ms: int
    weight: float
    target: float
    reason: str


def closings(desk: Desk) -> list[OrderIntent]:
    """Return the closing orders that are due now."""
    found = []
    guards = sending_guards(desk.trading, desk.mode)
    for name, held in sorted(desk.ledger.holdings.items()):
        reason = why_close(desk, held)
        busy = any(i.kind in ("reduce", "close") for i in desk.ledger.waiting(name))
        if not reason or busy:
            continue
        order = Order(
            name, "close", -held.direction, held.units, held.entry_bar_ms, held.weight, 0.0, reason
        )
        intent = _intent(desk, order, guards)
        if not _said_before(desk, intent):
            found.append(intent)
    return found


def why_close(desk: Desk, held: Holding) -> str:
    """Return why a position is to be closed now; empty when it is to be kept."""
    flatten = desk.flatten
    if flatten is not None and held.control_offset <= flatten.offset:
        return f"flatten by {flatten.actor}: {flatten.reason}"
    run = desk.runs.of(held.instrument)
    if run is None or run.follows(held.joined) or _behind(desk, held, run):
        return ""
    if run.decision.position == held.direction:
        return "the run is in another trade than the one that was joined"
    return f"the run is out of the trade: position {run.decision.position}"


def _behind(desk: Desk, held: Holding, run: RunState) -> bool:
    """Return whether the log is being derived again and has not come to the last order's decision.

    What came before it has been followed already.
    """
    return run.decision.as_of_ms < _followed_ms(desk, held)


def _followed_ms(desk: Desk, held: Holding) -> int:
    return max(held.entry_ms, desk.ledger.decided_ms.get(held.instrument, 0))


class Candidate(NamedTuple):
    """A run's entry that has a weight and may be joined."""

    instrument: str
    entry: Entry
    weights: Weights


def candidates(desk: Desk) -> list[Candidate]:
    """Return the entries that are eligible, selected in their bar's epoch, and not tried yet."""
    found = []
    for name, entry in desk.runs.entries().items():
        decision = entry.decision
        if not decision.eligible or desk.ledger.attempted(name, decision.bar_ms):
            continue
        interval_ms = desk.config_of(decision).alloc_interval_sec * 1000
        if desk.allocation.awaited(decision.as_of_ms, interval_ms):
            continue
        weights = desk.allocation.at(decision.as_of_ms)
        if weights is not None and entry_of(weights, name) is not None:
            found.append(Candidate(name, entry, weights))
    return found


def resizable(desk: Desk, now_ms: int) -> list[Holding]:
    """Return the positions whose size may be looked at now: joined, selected, nothing under way."""
    found = []
    newest = desk.allocation.newest
    step_ms = desk.trading.reconcile_interval_sec * 1000
    for name, held in sorted(desk.ledger.holdings.items()):
        run = desk.runs.of(name)
        opened_ms = desk.ledger.last_opened_ms.get(name, 0)
        if run is None or not run.follows(held.joined) or why_close(desk, held):
            continue
        interval_ms = desk.config_of(run.decision).alloc_interval_sec * 1000
        behind = _behind(desk, held, run) or desk.allocation.awaited(
            _followed_ms(desk, held), interval_ms
        )
        idle = not desk.ledger.waiting(name) and now_ms - opened_ms >= step_ms
        if not behind and idle and entry_of(newest, name) is not None:
            found.append(held)
    return found


def openings(desk: Desk, venue: Venue) -> list[OrderIntent]:
    """Return the orders that join a trade, each with every guard's verdict."""
    found: list[OrderIntent] = []
    for candidate in candidates(desk):
        name, entry = candidate.instrument, candidate.entry
        selected = entry_of(candidate.weights, name)
        weight = selected.weight if selected else 0.0
        pct = selected.target_exposure_pct if selected else 0.0
        under_way = found  # what this very call opens counts for the limits of what follows
        target, units, problem = _size(desk, venue, name, pct, 0.0, under_way)
        order = Order(
            name, "open", entry.direction, max(units, 0.0), entry.decision.bar_ms, weight, target,
            f"the run's entry: position {entry.decision.position}",
        )  # fmt: skip
        mistimed = venue.late.get(name, "")
        if name in desk.ledger.holdings or desk.ledger.waiting(name):
            mistimed = "an earlier trade of it is not done with"
        plan = Plan(
            True, entry.decision, desk.config_of(entry.decision), mistimed,
            candidate.weights.epoch_ms, selected is not None,
        )  # fmt: skip
        guards = _judged(desk, venue, plan, order, 0.0, under_way, problem)
        intent, levels_problem = _with_levels(desk, venue, plan, order, guards)
        if levels_problem:
            verdict = GuardVerdict("levels", False, levels_problem)
            intent = intent._replace(guards=(*intent.guards, verdict), submitted=False)
        found.append(intent)
    return found


def resizings(desk: Desk, venue: Venue) -> list[OrderIntent]:
    """Return the increases (guarded) and reductions (at once) of joined positions."""
    found: list[OrderIntent] = []
    for held in resizable(desk, venue.now_ms):
        intent = _resizing(desk, venue, held, found)
        if intent is not None and not _said_before(desk, intent):
            found.append(intent)
    return found


def _resizing(
    desk: Desk, venue: Venue, held: Holding, under_way: list[OrderIntent]
) -> OrderIntent | None:
    name, run, newest = held.instrument, desk.runs.of(held.instrument), desk.allocation.newest
    selected = entry_of(newest, name)
    if run is None or selected is None or newest is None:
        return None
    target, change, problem = _size(
        desk, venue, name, selected.target_exposure_pct, held.units, under_way
    )
    kind: Kind = "increase" if change > 0.0 else "reduce"
    if change == 0.0 or (kind == "increase" and not run.decision.eligible):
        return None
    sign = held.direction if change > 0.0 else -held.direction
    order = Order(
        name, kind, sign, abs(change), held.entry_bar_ms, selected.weight, target,
        f"{held.units:g} held, {target:g} wanted",
    )  # fmt: skip
    if kind == "reduce":
        return _intent(desk, order, sending_guards(desk.trading, desk.mode))
    plan = Plan(False, run.decision, desk.config_of(run.decision), "", newest.epoch_ms, True)
    guards = _judged(desk, venue, plan, order, held.units, under_way, problem)
    terms = venue.terms[name]
    stop, target_price = (
        None if price is None else in_precision(price, terms)
        for price in (held.stop_loss, held.take_profit)
    )
    return _intent(desk, order, guards)._replace(
        stop_loss=stop, take_profit=target_price, nav=venue.account.nav
    )


def _size(
    desk: Desk, venue: Venue, name: str, pct: float, held: float, under_way: list[OrderIntent]
) -> tuple[float, float, str]:
    """Return (target units, change now, what stands in the way of sizing)."""
    terms, value = venue.terms.get(name), venue.rates.get(base_currency(name))
    if terms is None:
        return 0.0, 0.0, f"the venue does not trade {name}"
    if value is None:
        home = venue.account.currency
        return 0.0, 0.0, f"no pair with a price leads from {base_currency(name)} to {home}"
    trading = desk.trading
    try:
        base = account_base(venue.account)
        gross = gross_value(desk, venue, under_way)
        if gross is None:
            return 0.0, 0.0, "a position held has no value in the account's currency"
        run = desk.runs.of(name)
        limit = 0.0 if run is None else desk.config_of(run.decision).risk_alloc_target_pct
        room = max(0.0, limit - (gross - held * value) / base)
        limit_units = trading.risk_max_net_units_per_pair
        target = target_units(min(pct, room), base, value, terms, limit_units)
        rules = StepRules(
            trading.pm_ramp_step_pct, trading.pm_rebalance_min_pct, trading.risk_max_position_size
        )
        return target, next_change(held, target, rules, terms), ""
    except SizingRefused as error:
        return 0.0, 0.0, str(error)


def gross_value(desk: Desk, venue: Venue, under_way: list[OrderIntent]) -> float | None:
    """Return the notional of all our positions and open orders, in the account's currency."""
    units: dict[str, float] = {n: h.units for n, h in desk.ledger.holdings.items()}
    for intent in (*desk.ledger.unresolved.values(), *under_way):
        if intent.submitted and intent.kind in ("open", "increase"):
            units[intent.instrument] = units.get(intent.instrument, 0.0) + intent.units
    total = 0.0
    for name, count in sorted(units.items()):
        value = venue.rates.get(base_currency(name))
        if value is None:
            return None
        total += count * value
    return total


def _judged(
    desk: Desk,
    venue: Venue,
    plan: Plan,
    order: Order,
    held_units: float,
    under_way: list[OrderIntent],
    problem: str,
) -> tuple[GuardVerdict, ...]:
    name, ledger = order.instrument, desk.ledger
    others = {n for n in (*ledger.holdings, *venue.foreign_held) if n != name}
    others |= {i.instrument for i in under_way if i.submitted and i.instrument != name}
    others |= {i.instrument for i in ledger.unresolved.values() if i.instrument != name}
    try:
        base: float | None = account_base(venue.account)
    except SizingRefused:
        base = None
    market = Market(
        venue.now_ms, venue.account, venue.terms.get(name), venue.quotes.get(name),
        venue.price_interval_ms, venue.rates.get(base_currency(name)),
    )  # fmt: skip
    held = ledger.holdings.get(name)
    exposure = Exposure(
        order.units, held_units, len(held.trade_ids) if held else 0, len(others),
        venue.foreign.get(name, ""), gross_value(desk, venue, under_way), base,
        ledger.last_opened_ms.get(name), venue.margin_blocked,
        ledger.worth.daily_loss(venue.now_ms), ledger.worth.drawdown(),
    )  # fmt: skip
    guards = judge(desk.trading, venue.switches, plan, market, exposure)
    return (*guards, GuardVerdict("sizing", not problem, problem or f"target {order.target:g}"))


def _with_levels(
    desk: Desk, venue: Venue, plan: Plan, order: Order, guards: tuple[GuardVerdict, ...]
) -> tuple[OrderIntent, str]:
    intent = _intent(desk, order, guards)._replace(nav=venue.account.nav)
    quote, terms = venue.quotes.get(order.instrument), venue.terms.get(order.instrument)
    if quote is None or terms is None or not desk.trading.auto_tp_on_fill_enabled:
        return intent, ""
    try:
        rule = level_rule(plan.config, venue.ranges.get(order.instrument))
        if rule is None:
            return intent, ""
        expected = quote.ask if order.direction > 0 else quote.bid
        stop, target = levels(rule, expected, order.direction)
    except SizingRefused as error:
        return intent, str(error)
    return _levelled(intent, rule, in_precision(stop, terms), in_precision(target, terms)), ""


def _levelled(intent: OrderIntent, rule: LevelRule, stop: float, target: float) -> OrderIntent:
    return intent._replace(
        stop_loss=stop,
        take_profit=target,
        level_kind=rule.kind,
        level_stop=rule.stop,
        level_target=rule.target,
    )


def _intent(desk: Desk, order: Order, guards: tuple[GuardVerdict, ...]) -> OrderIntent:
    name, ledger = order.instrument, desk.ledger
    run = desk.runs.of(name)
    sequence = ledger.next_sequence(name, order.entry_bar_ms)
    return OrderIntent(
        name,
        *_stamps(run, ledger, order),
        desk.control_end,
        order_id(desk.application, desk.mode, desk.account_id, name, order.entry_bar_ms, sequence),
        "buy" if order.direction > 0 else "sell",
        order.units,
        order.kind,
        order.weight,
        order.target,
        None,
        None,
        guards,
        all(verdict.passed for verdict in guards),
        desk.account_id,
        desk.mode,
        order.entry_bar_ms,
        sequence,
        max(desk.placed_ms(name), run.candle_end_ms if run else 0),
        order.reason,
        transaction_id=desk.cursor,
    )


def _stamps(run: RunState | None, ledger: Ledger, order: Order) -> tuple[str, int, int, str]:
    """Return granularity, bar, as_of and config of the decision that the order follows."""
    if run is not None:
        decision = run.decision
        return decision.granularity, decision.bar_ms, decision.as_of_ms, decision.config_id
    held = ledger.holdings[order.instrument]
    opened = ledger.intents[held.opening_id]
    return opened.granularity, opened.bar_ms, opened.as_of_ms, opened.config_id


def _said_before(desk: Desk, intent: OrderIntent) -> bool:
    """Return whether the log already holds this very order as one that was not sent."""
    before = desk.ledger.unsent(intent.instrument)
    if before is None or intent.submitted:
        return False
    return (before.kind, before.entry_bar_ms, _failing(before)) == (
        intent.kind,
        intent.entry_bar_ms,
        _failing(intent),
    )


def _failing(intent: OrderIntent) -> tuple[str, ...]:
    return tuple(verdict.guard for verdict in intent.guards if not verdict.passed)
