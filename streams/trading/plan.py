"""Plans the opening and resizing orders: from runs, weights and positions to intents. Pure.

Closing depends on the run alone: its end, its reversal, or an operator's flatten. Opening needs the
entry of the run, eligibility and a weight in that bar's epoch; increasing needs an unfinished
joined trade, eligibility and a weight in the newest epoch. An entry is tried once: if a guard
refuses, the broker rejects or the answer is lost, it is not retried, because a later order would
not be at the entry.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from decimal import Decimal
from typing import NamedTuple

from streams.records.events import Weights
from streams.records.trading_events import GuardVerdict, OrderIntent
from streams.trading.brokers.brackets import in_precision, level_rule, levels
from streams.trading.brokers.broker import InstrumentTerms, LevelRule
from streams.trading.brokers.conversion import base_currency, quote_currency
from streams.trading.brokers.price_bounds import price_bound
from streams.trading.brokers.sizing import (
    SizingRefused,
    StepRules,
    account_base,
    next_change,
    target_units,
)
from streams.trading.brokers.units import ZERO, units_of
from streams.trading.closing_plan import before_weekend, behind, followed_ms, why_close
from streams.trading.currency_exposure import CurrencyShare, net_values, shares
from streams.trading.fifo import distinct_increase, distinct_reduction
from streams.trading.guards import (
    Exposure,
    OrderBasis,
    VenueFacts,
    evaluate_guards,
    foreign_guard,
    sending_guards,
)
from streams.trading.holdings import Holding, losses_in_a_row
from streams.trading.planning_state import (
    Kind,
    Order,
    PlanningState,
    Venue,
    order_intent,
    said_before,
)
from streams.trading.runs import Entry, entry_of

LONGEST_PAUSE_MS = 900_000
"""Maximum pause in ms after a size that the venue refused."""


class RunCandidate(NamedTuple):
    """A run's entry that has a weight and may be joined."""

    instrument: str
    entry: Entry
    weights: Weights


def candidates(desk: PlanningState) -> list[RunCandidate]:
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
            found.append(RunCandidate(name, entry, weights))
    return found


def resizable(desk: PlanningState, now_ms: int) -> list[Holding]:
    """Return the positions that may be resized now: joined, selected, no pending order."""
    found = []
    newest = desk.allocation.newest
    step_ms = desk.trading.reconcile_interval_sec * 1000
    for name, held in sorted(desk.ledger.holdings.items()):
        run = desk.runs.of(name)
        opened_ms = desk.ledger.last_opened_ms.get(name, 0)
        if run is None or not run.follows(held.joined) or why_close(desk, held):
            continue
        if desk.commands.releases(name, held.control_offset):
            continue
        interval_ms = desk.config_of(run.decision).alloc_interval_sec * 1000
        late = behind(desk, name, held.joined, run) or desk.allocation.awaited(
            followed_ms(desk, name, held.joined), interval_ms
        )
        refusals, refused_ms = desk.ledger.refused.get(name, (0, 0))
        pause_ms = min(step_ms * 2.0 ** min(refusals, 30), max(step_ms, LONGEST_PAUSE_MS))
        idle = not desk.ledger.waiting(name) and now_ms - opened_ms >= step_ms
        idle = idle and (not refusals or now_ms - refused_ms >= pause_ms)
        if not late and idle and entry_of(newest, name) is not None:
            found.append(held)
    return found


def openings(
    desk: PlanningState, venue: Venue, entries: Iterable[RunCandidate] | None = None
) -> list[OrderIntent]:
    """Return the opening orders, each with all guard results.

    Parameters
    ----------
    entries
        The candidates that ``venue`` was queried for; all by default.
    """
    found: list[OrderIntent] = []
    for candidate in candidates(desk) if entries is None else entries:
        name, entry = candidate.instrument, candidate.entry
        selected = entry_of(candidate.weights, name)
        weight = selected.weight if selected else 0.0
        pct = selected.target_exposure_pct if selected else 0.0
        under_way = found  # orders planned by this call count towards the limits of the next ones
        target, units, problem = _size(desk, venue, name, pct, ZERO, under_way)
        order = Order(
            name, "open", entry.direction, max(units, ZERO), entry.decision.bar_ms, weight, target,
            f"the run's entry: position {entry.decision.position}", "",
        )  # fmt: skip
        not_at_entry = venue.late.get(name, "")
        if name in desk.ledger.holdings or desk.ledger.waiting(name):
            not_at_entry = "an earlier trade of it is not done with"
        plan = OrderBasis(
            True, entry.decision, desk.config_of(entry.decision), not_at_entry,
            candidate.weights.epoch_ms, selected is not None,
        )  # fmt: skip
        guards = guard_results(desk, venue, plan, order, ZERO, under_way, problem)
        intent, levels_problem = _with_levels(desk, venue, plan, order, guards)
        if levels_problem:
            verdict = GuardVerdict("levels", False, levels_problem)
            intent = intent._replace(guards=(*intent.guards, verdict), submitted=False)
        found.append(intent)
    return found


def resizings(
    desk: PlanningState, venue: Venue, names: Collection[str] | None = None
) -> list[OrderIntent]:
    """Return the increases (guarded) and reductions (at once) of joined positions.

    Parameters
    ----------
    names
        The instruments that ``venue`` was queried for; all by default.
    """
    found: list[OrderIntent] = []
    for held in resizable(desk, venue.now_ms):
        if names is not None and held.instrument not in names:
            continue
        intent = _resizing(desk, venue, held, found)
        if intent is not None and not said_before(desk, intent):
            found.append(intent)
    return found


def _resizing(
    desk: PlanningState, venue: Venue, held: Holding, under_way: list[OrderIntent]
) -> OrderIntent | None:
    name, run, newest = held.instrument, desk.runs.of(held.instrument), desk.allocation.newest
    selected = entry_of(newest, name)
    if run is None or selected is None or newest is None:
        return None
    target, change, problem = _size(
        desk, venue, name, selected.target_exposure_pct, held.units, under_way
    )
    kind: Kind = "increase" if change > 0 else "reduce"
    if desk.ledger.fifo and change != 0:
        change = _distinct(change, held, venue.terms[name])
    if change == 0 or (kind == "increase" and not run.decision.eligible):
        return None
    sign = held.direction if change > 0 else -held.direction
    order = Order(
        name, kind, sign, abs(change), held.entry_bar_ms, selected.weight, target,
        f"{held.units:f} held, {target:f} wanted", held.opening_id,
    )  # fmt: skip
    if kind == "reduce":
        guards = (
            *sending_guards(desk.trading, desk.mode),
            foreign_guard(name in venue.foreign_held),
        )
        return order_intent(desk, order, guards)
    plan = OrderBasis(False, run.decision, desk.config_of(run.decision), "", newest.epoch_ms, True)
    guards = guard_results(desk, venue, plan, order, held.units, under_way, problem)
    whole = GuardVerdict("reduced", not held.reduced, held.reduced or "nothing closed by others")
    guards = (*guards, whole)
    terms = venue.terms[name]
    stop, target_price = (
        None if price is None else in_precision(price, terms)
        for price in (held.stop_loss, held.take_profit)
    )
    return priced(desk, venue, order, guards)._replace(stop_loss=stop, take_profit=target_price)


def _distinct(change: Decimal, held: Holding, terms: InstrumentTerms) -> Decimal:
    """Return a change of size that leaves all trades with different sizes."""
    sizes = list(held.trades.values())
    if change > 0:
        return distinct_increase(change, sizes, terms)
    return -distinct_reduction(-change, sizes, terms)


def _size(
    desk: PlanningState,
    venue: Venue,
    name: str,
    pct: float,
    held: Decimal,
    under_way: list[OrderIntent],
) -> tuple[Decimal, Decimal, str]:
    """Return (target units, change now, problem that prevents sizing)."""
    terms, value = venue.terms.get(name), venue.rates.get(base_currency(name))
    if terms is None:
        return ZERO, ZERO, f"the venue does not trade {name}"
    if value is None:
        home = venue.account.currency
        return ZERO, ZERO, f"no pair with a price leads from {base_currency(name)} to {home}"
    trading = desk.trading
    try:
        base = account_base(venue.account)
        gross = gross_value(desk, venue, under_way)
        if gross is None:
            return ZERO, ZERO, "a position held has no value in the account's currency"
        run = desk.runs.of(name)
        limit = 0.0 if run is None else desk.config_of(run.decision).risk_alloc_target_pct
        room = max(0.0, limit - (gross - float(held) * value) / base)
        limit_units = trading.risk_max_net_units_per_pair
        target = target_units(min(pct, room), base, value, terms, limit_units)
        rules = StepRules(
            trading.pm_ramp_step_pct, trading.pm_rebalance_min_pct, trading.risk_max_position_size
        )
        return target, next_change(held, target, rules, terms), ""
    except SizingRefused as error:
        return ZERO, ZERO, str(error)


def gross_value(desk: PlanningState, venue: Venue, under_way: list[OrderIntent]) -> float | None:
    """Return the notional of the executor's positions and open orders, in the account's currency.

    A position in an instrument without a price counts at its entry price: it is still open, and
    must neither vanish from the total nor block every other instrument.
    """
    units: dict[str, Decimal] = {n: h.units for n, h in desk.ledger.holdings.items()}
    for intent in (*desk.ledger.unresolved.values(), *under_way):
        if intent.submitted and intent.kind in ("open", "increase"):
            units[intent.instrument] = units.get(intent.instrument, ZERO) + units_of(intent.units)
    total = 0.0
    for name, count in sorted(units.items()):
        value = _unit_value(desk, venue, name)
        if value is None:
            return None
        total += float(count) * value
    return total


def _unit_value(desk: PlanningState, venue: Venue, name: str) -> float | None:
    value = venue.rates.get(base_currency(name))
    held, rate = desk.ledger.holdings.get(name), venue.rates.get(quote_currency(name))
    if value is None and held is not None and rate is not None:
        return held.average_price * rate
    return value


def currency_shares(
    desk: PlanningState,
    venue: Venue,
    order: Order,
    under_way: list[OrderIntent],
    base: float | None,
) -> tuple[CurrencyShare, ...] | None:
    """Return the currencies of an order before and after it; None when unknown."""
    units: dict[str, Decimal] = {n: h.signed_units for n, h in desk.ledger.holdings.items()}
    for intent in (*desk.ledger.unresolved.values(), *under_way):
        if intent.submitted and intent.kind in ("open", "increase"):
            count = units_of(intent.units) * (1 if intent.side == "buy" else -1)
            units[intent.instrument] = units.get(intent.instrument, ZERO) + count
    values = {name: _unit_value(desk, venue, name) for name in (*units, order.instrument)}
    known = {name: value for name, value in values.items() if value is not None}
    if base is None or len(known) < len(values):
        return None
    change = float(order.direction * order.units) * known[order.instrument]
    return shares(net_values(units, known), order.instrument, change, base)


def guard_results(
    desk: PlanningState,
    venue: Venue,
    plan: OrderBasis,
    order: Order,
    held_units: Decimal,
    under_way: list[OrderIntent],
    problem: str,
) -> tuple[GuardVerdict, ...]:
    """Return the guard results for an order that opens or increases.

    Parameters
    ----------
    held_units
        Unsigned, of the instrument.
    under_way
        Orders planned with the same reading of the venue.
    problem
        Problem that prevents sizing; empty for none.
    """
    name, ledger = order.instrument, desk.ledger
    others = {n for n in (*ledger.holdings, *venue.foreign_held) if n != name}
    others |= {i.instrument for i in under_way if i.submitted and i.instrument != name}
    others |= {i.instrument for i in ledger.unresolved.values() if i.instrument != name}
    try:
        base: float | None = account_base(venue.account)
    except SizingRefused:
        base = None
    market = VenueFacts(
        venue.now_ms, venue.account, venue.terms.get(name), venue.quotes.get(name),
        venue.price_interval_ms, venue.rates.get(base_currency(name)),
    )  # fmt: skip
    held = ledger.holdings.get(name)
    exposure = Exposure(
        order.units, held_units, len(held.trade_ids) if held else 0, len(others),
        venue.foreign.get(name, ""), gross_value(desk, venue, under_way), base,
        ledger.last_opened_ms.get(name), venue.margin_blocked,
        ledger.worth.daily_loss(venue.now_ms), ledger.worth.drawdown(),
        len(losses_in_a_row(ledger.closed, ledger.losses_judged_to)),
        currency_shares(desk, venue, order, under_way, base), before_weekend(desk, name),
    )  # fmt: skip
    guards = evaluate_guards(desk.trading, venue.switches, plan, market, exposure)
    paused = desk.commands.paused.get(name)
    return (
        *guards,
        GuardVerdict("paused", paused is None, f"paused {paused.words}" if paused else "no"),
        GuardVerdict("sizing", not problem, problem or f"target {order.target:f}"),
    )


def priced(
    desk: PlanningState, venue: Venue, order: Order, guards: tuple[GuardVerdict, ...]
) -> OrderIntent:
    """Return the intent of an opening or increase, with its price bound."""
    name = order.instrument
    bound = price_bound(
        venue.quotes.get(name), venue.terms.get(name), order.direction,
        desk.trading.max_slippage_bps,
    )  # fmt: skip
    intent = order_intent(desk, order, guards)
    return intent._replace(nav=venue.account.nav, price_bound=bound)


def _with_levels(
    desk: PlanningState,
    venue: Venue,
    plan: OrderBasis,
    order: Order,
    guards: tuple[GuardVerdict, ...],
) -> tuple[OrderIntent, str]:
    intent = priced(desk, venue, order, guards)
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
