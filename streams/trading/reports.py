"""Makes the records of ``exec.fills`` from the venue's answers."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Literal, NamedTuple

from streams.instants import GRANULARITY_MS
from streams.records.trading_events import BrokerReport, OrderIntent
from streams.trading.brokers.broker import OrderResult
from streams.trading.brokers.price_bounds import reason_words
from streams.trading.brokers.transaction import Transaction
from streams.trading.brokers.units import units_of
from streams.trading.holdings import Holding
from streams.trading.ledger import RELEASED

Status = Literal["filled", "rejected", "cancelled", "unknown"]

ACCEPTED = "accepted by the venue, waits for the next price"
"""Reason of the report ``unknown`` for an order accepted by the venue and not filled yet."""


class Told(NamedTuple):
    """Time of an observation: the venue's clock, its resolution, and the NAV."""

    now_ms: int
    price_interval_ms: int
    nav: float | None


def accepted(made: BrokerReport) -> bool:
    """Return whether a report says that the order is accepted and waits for a price.

    The order is then not unresolved; the record schema has no separate status for it.
    """
    return made.status == "unknown" and made.reason == ACCEPTED


def status_word(made: BrokerReport) -> str:
    """Return a report's status for display and metrics: that of the record, or ``accepted``."""
    return "accepted" if accepted(made) else made.status


def own_report(
    intent: OrderIntent, status: Status, told: Told, reason: str, raw: str = "{}"
) -> BrokerReport:
    """Return the executor's own report about an order: not sent, lost, or unknown to the venue."""
    return _stamped(intent, told.now_ms, 0, told)._replace(status=status, reason=reason, raw=raw)


def report_of_result(intent: OrderIntent, result: OrderResult, told: Told) -> BrokerReport:
    """Return the report of the venue's answer to an order.

    An order accepted and not filled yet is ``unknown``, with ``WAITING`` as the reason.
    """
    time_ms = result.time_ms or told.now_ms
    made = _stamped(intent, time_ms, told.price_interval_ms, told)
    return made._replace(
        broker_ids=result.broker_ids,
        status="unknown" if result.outcome == "pending" else result.outcome,
        units=float(abs(result.units)),
        price=result.price,
        reason=result.reason,
        raw=result.raw,
        side=_side(result.units),
        trade_ids=result.trade_ids,
        transaction_id=result.transaction_id,
        realized_pl=result.realized_pl,
    )


def report_of_transaction(intent: OrderIntent, booked: Transaction, told: Told) -> BrokerReport:
    """Return the report of a transaction of an order, or of a trade it opened."""
    statuses: dict[str, Status] = {"fill": "filled", "cancel": "cancelled", "reject": "rejected"}
    made = _stamped(intent, booked.time_ms, told.price_interval_ms, told)
    return made._replace(
        broker_ids=(booked.transaction_id,),
        status=statuses[booked.kind],
        units=float(abs(booked.units)),
        price=booked.price,
        reason=booked.reason,
        raw=booked.raw,
        side=_side(booked.units),
        cause=booked.cause,
        trade_ids=booked.trade_ids,
        transaction_id=booked.transaction_id,
        realized_pl=booked.realized_pl,
    )


def adjustment(
    intent: OrderIntent,
    signed_units: Decimal,
    price: float,
    told: Told,
    reason: str,
    trade_ids: Sequence[str] = (),
) -> BrokerReport:
    """Return the report that corrects the ledger to the broker; made at a reconciliation."""
    return _stamped(intent, told.now_ms, 0, told)._replace(
        status="filled",
        units=float(abs(signed_units)),
        price=price,
        reason=reason,
        side=_side(signed_units),
        cause="other",
        trade_ids=tuple(trade_ids),
    )


def release_report(intent: OrderIntent, held: Holding, told: Told, reason: str) -> BrokerReport:
    """Return the report that removes a released position from the ledger."""
    made = adjustment(intent, -held.signed_units, held.average_price, told, reason, held.trade_ids)
    return made._replace(cause=RELEASED)


def report_words(intent: OrderIntent, made: BrokerReport) -> str:
    """Return a report as one line: the result of an order, or an event without one."""
    why = f" ({reason_words(made.reason)})" if made.reason else ""
    filled = made.status == "filled"
    units = units_of(made.units if filled else intent.units)
    if made.cause == RELEASED:
        return f"{made.instrument}: {units:f} units are ours no more{why}"
    if made.cause == "order":
        status = status_word(made)
        return f"{made.instrument} {intent.kind} {intent.side} {units:f} units: {status}{why}"
    what = "by no order of ours" if made.cause == "other" else f"by {made.cause}"
    return f"{made.instrument}: {made.side} {units:f} units {what}: {made.status}{why}"


def doubt_words(intent: OrderIntent) -> str:
    """Return an unresolved order as text."""
    return f"order {intent.order_id} without an outcome"


def _side(units: Decimal) -> str:
    return "buy" if units > 0 else "sell" if units < 0 else ""


def _stamped(intent: OrderIntent, time_ms: int, known_after_ms: int, told: Told) -> BrokerReport:
    bar_ms = time_ms - time_ms % GRANULARITY_MS[intent.granularity]
    return BrokerReport(
        intent.instrument,
        intent.granularity,
        bar_ms,
        time_ms + known_after_ms,
        intent.config_id,
        intent.control_offset,
        intent.order_id,
        (),
        "unknown",
        0.0,
        None,
        None,
        "{}",
        account_id=intent.account_id,
        time_ms=time_ms,
        nav=told.nav,
    )
