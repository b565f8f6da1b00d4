"""From an operator's order to an intent, with all guard results. Pure."""

from __future__ import annotations

from decimal import Decimal
from typing import Final, NamedTuple

from streams.records.trading_events import GuardVerdict, OrderIntent
from streams.trading.brokers.brackets import in_precision
from streams.trading.brokers.broker import InstrumentTerms, Quote
from streams.trading.brokers.units import ZERO, floored
from streams.trading.closing_plan import VenueState
from streams.trading.fifo import distinct_increase, distinct_reduction
from streams.trading.guards import OrderBasis, foreign_guard, sending_guards
from streams.trading.holdings import NO_RUN, Holding
from streams.trading.operator_orders import OperatorOrder
from streams.trading.plan import guard_results, priced
from streams.trading.planning_state import Kind, Order, PlanningState, Venue, order_intent

WITHIN_S: Final = 60.0
"""Maximum age in s of an operator order when it is carried out: prices change."""
OF_A_RUN: Final = frozenset({"own_entry", "trades_apart", "selected", "weights_age", "sizing"})
"""Guards about the run and its weights, which do not apply to operator orders."""


class Request(NamedTuple):
    """An operator order, and how it is carried out.

    Attributes
    ----------
    direction
        1 buys, -1 sells; 0 when there is no position to reduce.
    kind
        Kind of the intent.
    """

    order: OperatorOrder
    kind: Kind
    direction: int


def due(desk: PlanningState) -> list[Request]:
    """Return the orders without an intent, in the order in which they were given.

    Excluded are orders in an instrument with an unresolved order, or before its first decision,
    whose configuration the guards use.
    """
    found = []
    for order in desk.operator_orders:
        name = order.instrument
        if order.request_id in desk.ledger.requests or desk.ledger.waiting(name):
            continue
        held, run = desk.ledger.holdings.get(name), desk.runs.of(name)
        if run is None and held is None:
            continue
        way = {"buy": 1, "sell": -1}.get(order.side, -held.direction if held else 0)
        kind: Kind = "open" if held is None else "increase"
        if order.side == "reduce" or (held is not None and way != held.direction):
            kind = "reduce"
        found.append(Request(order, kind, way))
    return found


def needs_venue(desk: PlanningState, request: Request, now_ms: int) -> bool:
    """Return whether an order needs prices and account: when it may open or increase."""
    held = desk.ledger.holdings.get(request.order.instrument)
    verdicts = _rules(desk, request, held, now_ms)
    return request.kind in ("open", "increase") and all(v.passed for v in verdicts)


def without_venue(desk: PlanningState, request: Request, sight: VenueState, now_ms: int,
                  terms: InstrumentTerms | None) -> OrderIntent:  # fmt: skip
    """Return the intent of a reduction, or of an order that is refused whatever the venue says.

    Parameters
    ----------
    now_ms
        The machine's clock, used for the timestamps of orders.
    terms
        Of the instrument, if known.
    """
    name = request.order.instrument
    held = desk.ledger.holdings.get(name)
    guards = [*_rules(desk, request, held, now_ms), *sending_guards(desk.trading, desk.mode)]
    units = request.order.units
    if request.kind == "reduce":
        least = ZERO if held is None else held.units
        units = min(units, least)
        if terms is not None:
            units = floored(units, terms.units_digits)
        if desk.ledger.fifo and held is not None and terms is not None and units < held.units:
            units = distinct_reduction(units, list(held.trades.values()), terms)
        guards += _reducing(name, units, held, sight)
    return _intent(desk, request, held, units, tuple(guards))


def with_venue(
    desk: PlanningState, request: Request, venue: Venue, now_ms: int, under_way: list[OrderIntent]
) -> OrderIntent:
    """Return the intent of an order that opens or increases, with all guard results.

    Parameters
    ----------
    under_way
        Orders planned with the same reading of the venue.
    """
    order, name = request.order, request.order.instrument
    held, run = desk.ledger.holdings.get(name), desk.runs.of(name)
    terms = venue.terms.get(name)
    units = order.units if terms is None else floored(order.units, terms.units_digits)
    if desk.ledger.fifo and held is not None and terms is not None:
        units = distinct_increase(units, list(held.trades.values()), terms)
    rules = _rules(desk, request, held, now_ms)
    if run is None:  # not evaluated here: see needs_venue
        return _intent(desk, request, held, units, tuple(rules))
    plan = OrderBasis(held is None, run.decision, desk.config_of(run.decision), "", None, True)
    made = _order(request, held, units)
    problem = "" if terms is not None else f"the venue does not trade {name}"
    verdicts = guard_results(
        desk, venue, plan, made, ZERO if held is None else held.units, under_way, problem
    )
    guards = tuple(v for v in verdicts if v.guard not in OF_A_RUN or (problem and not v.passed))
    levels = _levels(desk, request, held, terms, venue.quotes.get(name))
    intent = priced(desk, venue, made, (*rules, *guards, levels.verdict))
    return intent._replace(
        stop_loss=levels.stop, take_profit=levels.target, request_id=order.request_id
    )


def _rules(
    desk: PlanningState, request: Request, held: Holding | None, now_ms: int
) -> tuple[GuardVerdict, ...]:
    """Return the guard results that need no venue."""
    order, name = request.order, request.order.instrument
    age_s = (now_ms - order.given.at_ms) / 1000
    timely = GuardVerdict(
        "order_age", -WITHIN_S <= age_s <= WITHIN_S, f"{age_s:.1f} s, limit {WITHIN_S:g} s"
    )
    if request.kind == "reduce":
        return (timely,)
    allowed = desk.trading.operator_orders == "open"
    return (
        timely,
        GuardVerdict(
            "reduce_only",
            allowed,
            f"OPERATOR_ORDERS={desk.trading.operator_orders}"
            + ("" if allowed else f": nothing is held in {name} that this order would reduce"),
        ),
        GuardVerdict(
            "own_position",
            held is None or held.by_operator,
            "no position of a run"
            if held is None or held.by_operator
            else "the position follows its run: its size is that of risk.weights",
        ),
        GuardVerdict(
            "decision",
            desk.runs.of(name) is not None,
            f"no decision of {name} is in the log" if desk.runs.of(name) is None else "known",
        ),
    )


def _reducing(
    name: str, units: Decimal, held: Holding | None, sight: VenueState
) -> tuple[GuardVerdict, ...]:
    there = held is not None and units > 0
    shown = f"{held.signed_units:f} units" if held else f"no position of the executor in {name}"
    others = sight.by_trade and name in sight.foreign
    return (GuardVerdict("held", there, shown), foreign_guard(others))


class _Levels(NamedTuple):
    stop: float | None
    target: float | None
    verdict: GuardVerdict


def _levels(
    desk: PlanningState,
    request: Request,
    held: Holding | None,
    terms: InstrumentTerms | None,
    quote: Quote | None,
) -> _Levels:
    """Return the brackets of an order that opens or increases: those of the position."""
    order = request.order
    asked = (order.stop_loss, order.take_profit)
    if held is not None:
        said = "those of the position"
        if asked != (None, None):
            return _Levels(None, None, _no_levels("they are given with the order that opens"))
        asked = (held.stop_loss, held.take_profit)
    elif asked == (None, None):
        return _Levels(None, None, GuardVerdict("levels", True, "none"))
    elif not desk.trading.auto_tp_on_fill_enabled:
        return _Levels(None, None, _no_levels("AUTO_TP_ON_FILL_ENABLED=0: no bracket is set"))
    elif quote is None:
        return _Levels(None, None, _no_levels("the venue has no price"))
    else:
        side = quote.bid if request.direction > 0 else quote.ask
        worse = [p for p, sign in zip(asked, (-1, 1), strict=True)
                 if p is not None and sign * request.direction * (p - side) <= 0]  # fmt: skip
        if worse:
            return _Levels(None, None, _no_levels(f"{worse[0]:g} would be hit at once ({side:g})"))
        said = "as asked for"
    stop, target = (
        None if price is None or terms is None else in_precision(price, terms) for price in asked
    )
    return _Levels(stop, target, GuardVerdict("levels", True, said))


def _no_levels(why: str) -> GuardVerdict:
    return GuardVerdict("levels", False, why)


def _order(request: Request, held: Holding | None, units: Decimal) -> Order:
    order = request.order
    sign = -1 if request.kind == "reduce" else 1
    target = max(ZERO, (ZERO if held is None else held.units) + sign * units)
    entry_bar_ms = NO_RUN if held is None else held.entry_bar_ms
    return Order(
        order.instrument, request.kind, request.direction or 1, units, entry_bar_ms,
        0.0 if held is None else held.weight, target, f"order {order.given.words}",
        "" if held is None else held.opening_id,
    )  # fmt: skip


def _intent(
    desk: PlanningState,
    request: Request,
    held: Holding | None,
    units: Decimal,
    guards: tuple[GuardVerdict, ...],
) -> OrderIntent:
    made = order_intent(desk, _order(request, held, units), guards)
    return made._replace(request_id=request.order.request_id)
