"""Plans the closing orders that are due, and how each addresses its position. Pure.

A position is closed at the end or reversal of its run, at the end of the market week, or by an
operator's flatten or close. A trade of the executor is closed completely by its id: that cannot
affect other trades, cannot close twice, and needs no number of units. For venues that do not know
or allow ids, see ``VenueState``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from decimal import Decimal
from typing import Literal, NamedTuple

from streams.records.trading_events import OrderIntent
from streams.trading.brokers.broker import OpenTrade
from streams.trading.brokers.units import units_of
from streams.trading.guards import sending_guards
from streams.trading.holdings import Holding, joined_by
from streams.trading.planning_state import Order, PlanningState, order_intent, said_before
from streams.trading.runs import JoinedTrade, RunState
from streams.trading.week_end import why_week_end

By = Literal["trade", "position", "units"]
CLOSING = ("reduce", "close")


class VenueState(NamedTuple):
    """The state of the venue used to plan closings; any part may be old or missing.

    Attributes
    ----------
    by_trade
        Whether the venue closes single trades.
    trades
        The open trades as last read.
    foreign
        Instruments with untracked positions, as far as known.
    no_ids
        Instruments in which the venue refused to close a trade by its id (the FIFO rule).
    gone
        Trades that are not open at the venue.
    in_flight
        Ids of orders being sent by this process now.
    books_stale
        Whether the venue's transactions cannot be read: an unresolved order may then have opened a
        trade.
    """

    by_trade: bool
    trades: tuple[OpenTrade, ...] = ()
    foreign: frozenset[str] = frozenset()
    no_ids: frozenset[str] = frozenset()
    gone: frozenset[str] = frozenset()
    in_flight: frozenset[str] = frozenset()
    books_stale: bool = False


class Closing(NamedTuple):
    """One closing that is due.

    Attributes
    ----------
    direction
        Of the position: 1 for long.
    units
        Unsigned, from the ledger.
    by, trade_id
        How the venue is asked to close, and which trade; ``@`` and a client id where the venue's id
        is not known.
    opening_id
        Id of the opening order.
    """

    instrument: str
    direction: int
    units: Decimal
    by: By
    trade_id: str
    opening_id: str
    reason: str

    @property
    def subject(self) -> tuple[str, str]:
        """Key for counting refusals: the trade, or the opening order if no trade is named."""
        return self.instrument, self.trade_id or self.opening_id


def wanted(desk: PlanningState, sight: VenueState) -> list[Closing]:
    """Return every closing that is due, whatever was attempted before."""
    found: list[Closing] = []
    for _, held in sorted(desk.ledger.holdings.items()):
        reason = why_close(desk, held)
        if reason:
            found += _of_holding(held, sight, reason)
    if sight.by_trade:
        found += _not_booked(desk, sight)
    return found


def _of_holding(held: Holding, sight: VenueState, reason: str) -> Iterator[Closing]:
    name, way, opening = held.instrument, held.direction, held.opening_id
    if not sight.by_trade:
        yield Closing(name, way, held.units, "units", "", opening, reason)
    elif name in sight.no_ids and name not in sight.foreign:
        yield Closing(name, way, held.units, "position", "", opening, reason)
    else:
        for trade, units in held.trades.items():
            by: By = "trade" if trade else "units"
            if trade not in sight.gone:
                yield Closing(name, way, units, by, trade, opening, reason)


def _not_booked(desk: PlanningState, sight: VenueState) -> Iterator[Closing]:
    """Yield the executor's trades missing in the ledger: an answer was lost, or came too late.

    They are booked and then closed normally once the venue's transactions can be read. This covers
    the time until then, and a flatten command.
    """
    ledger = desk.ledger
    seen: set[str] = set()
    for trade in sight.trades:
        intent = ledger.intents.get(trade.client_id)
        seen.add(trade.client_id)
        if intent is None or trade.trade_id in ledger.openers:
            continue
        if {trade.trade_id, f"@{trade.client_id}"} & sight.gone:
            continue
        reason = _why_close_order(desk, intent, sight)
        if reason:
            way = 1 if trade.units > 0 else -1
            yield Closing(
                trade.instrument, way, abs(trade.units), "trade", trade.trade_id, intent.order_id,
                reason,
            )  # fmt: skip
    if not sight.books_stale:
        return
    for intent in ledger.unresolved.values():
        trade_id = f"@{intent.order_id}"
        known = {intent.order_id, trade_id} & {*seen, *sight.in_flight, *sight.gone}
        reason = "" if intent.kind in CLOSING or known else _why_close_order(desk, intent, sight)
        if reason:
            way = 1 if intent.side == "buy" else -1
            yield Closing(
                intent.instrument, way, units_of(intent.units), "trade", trade_id, intent.order_id,
                reason,
            )  # fmt: skip


def _why_close_order(desk: PlanningState, intent: OrderIntent, sight: VenueState) -> str:
    """Return why the possible position of an unresolved opening order is to be closed."""
    if desk.commands.releases(intent.instrument, intent.control_offset):
        return ""
    flat = why_asked(desk, intent.instrument, intent.control_offset)
    if flat or not sight.books_stale or intent.request_id:
        return flat
    return _why_left(desk, intent.instrument, joined_by(intent))


def closings(
    desk: PlanningState, sight: VenueState, *, held_back: Collection[tuple[str, str]] = ()
) -> list[tuple[Closing, OrderIntent]]:
    """Return the closing orders to send now; write each one before planning the next.

    Parameters
    ----------
    held_back
        Subjects of refused closings that are retried later.
    """
    found = []
    guards = sending_guards(desk.trading, desk.mode)
    for one in wanted(desk, sight):
        if one.subject in held_back or _under_way(desk, sight, one):
            continue
        if one.by == "units" and sight.by_trade and one.instrument in sight.foreign:
            continue  # by units the venue would close the oldest trade, which may be untracked
        opened = desk.ledger.intents[one.opening_id]
        entry_bar_ms = -1 if opened.entry_bar_ms is None else opened.entry_bar_ms
        order = Order(
            one.instrument, "close", -one.direction, one.units, entry_bar_ms, opened.weight,
            Decimal(0), one.reason, one.opening_id,
        )  # fmt: skip
        by = one.by if sight.by_trade else ""
        intent = order_intent(desk, order, guards)._replace(close_by=by, trade_id=one.trade_id)
        if not said_before(desk, intent):
            found.append((one, intent))
    return found


def _under_way(desk: PlanningState, sight: VenueState, one: Closing) -> bool:
    """Return whether a pending order excludes this one.

    A trade can be closed completely only once, so a closing by trade is sent again even if the
    result of the previous one is unknown.
    """
    out = [i for i in desk.ledger.waiting(one.instrument) if i.kind in CLOSING]
    if one.by == "trade":
        return any(i.order_id in sight.in_flight and i.trade_id == one.trade_id for i in out)
    return bool(out)


def why_close(desk: PlanningState, held: Holding) -> str:
    """Return why a position is to be closed now; empty if it stays open."""
    if desk.commands.releases(held.instrument, held.control_offset):
        return ""
    flat = why_asked(desk, held.instrument, held.control_offset)
    if not flat and held.ended:
        return f"its trade had ended when it was filled: {held.ended}"
    left = "" if held.by_operator else _why_left(desk, held.instrument, held.joined)
    return flat or left or before_weekend(desk, held.instrument)


def before_weekend(desk: PlanningState, instrument: str) -> str:
    """Return the reason to close before the weekend; empty when the market week does not end
    soon."""
    minutes = desk.trading.weekend_reduce_minutes
    return why_week_end(desk.calendar, desk.placed_ms(instrument), minutes) if minutes else ""


def why_asked(desk: PlanningState, instrument: str, control_offset: int) -> str:
    """Return the operator's reason to close positions opened under ``control_offset``."""
    closed = desk.commands.closes(instrument, control_offset)
    if closed is not None:
        return f"close {closed.words}"
    flatten = desk.flatten
    if flatten is not None and control_offset <= flatten.offset:
        return f"flatten by {flatten.actor}: {flatten.reason}"
    return ""


def _why_left(desk: PlanningState, instrument: str, joined: JoinedTrade) -> str:
    run = desk.runs.of(instrument)
    unconfirmed = _why_unconfirmed(desk, instrument, joined)
    if unconfirmed:
        return unconfirmed
    if run is None or run.follows(joined) or behind(desk, instrument, joined, run):
        return ""
    if run.decision.position == joined.direction:
        return "the run is in another trade than the one that was joined"
    return f"the run is out of the trade: position {run.decision.position}"


def _why_unconfirmed(desk: PlanningState, instrument: str, joined: JoinedTrade) -> str:
    """Return why to close by a decision that could not be checked; empty when it does not ask."""
    decision, run = desk.unconfirmed.get(instrument), desk.runs.of(instrument)
    if decision is None or decision.position == joined.direction:
        return ""
    known_ms = followed_ms(desk, instrument, joined)
    if run is not None:
        known_ms = max(known_ms, run.decision.as_of_ms)
    if decision.as_of_ms < known_ms:
        return ""
    return (
        f"the run is out of the trade: position {decision.position} (by a decision that could not "
        "be checked; it may close, not open)"
    )


def behind(desk: PlanningState, instrument: str, joined: JoinedTrade, run: RunState) -> bool:
    """Return whether the log is being derived again up to the last order's decision.

    Earlier decisions were already followed.
    """
    return run.decision.as_of_ms < followed_ms(desk, instrument, joined)


def followed_ms(desk: PlanningState, instrument: str, joined: JoinedTrade) -> int:
    """Return ``as_of`` of the newest decision behind an order of a joined trade."""
    return max(joined.entry_ms, desk.ledger.decided_ms.get(instrument, 0))
