"""Sends operator orders that reduce, and reports the result of each."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Final

from streams.trading.closing_plan import VenueState
from streams.trading.context import ExecutorContext
from streams.trading.ledger import Ledger
from streams.trading.operator_orders import OperatorOrder
from streams.trading.operator_plan import due, needs_venue, without_venue
from streams.trading.planning_state import PlanningState
from streams.trading.terms import Terms

SHOWN: Final = 20

log = logging.getLogger("manifold.executor")


def wall_ms() -> int:
    """Return the machine's clock in epoch ms, used for the timestamps of operator orders."""
    return int(time.time() * 1000)


async def reduce_by_order(
    parts: ExecutorContext,
    terms: Terms,
    desk: Callable[[], PlanningState],
    sight: Callable[[], VenueState],
    ordering: asyncio.Lock,
) -> None:
    """Send the operator orders that reduce, and record those that are refused in any case.

    Like closing it needs no query of the venue. One at a time: each result affects the next.

    Parameters
    ----------
    terms
        Of the instruments, as far as known.
    desk, sight
        Return the current planning state of the log, and of the venue.
    ordering
        Lock, held from planning an order until it is in the log.
    """
    while True:
        async with ordering:
            now, now_ms = desk(), wall_ms()
            request = next((r for r in due(now) if not needs_venue(now, r, now_ms)), None)
            if request is None:
                return
            known = terms.of(request.order.instrument)
            intent = without_venue(now, request, sight(), now_ms, known)
            written = await parts.dispatch.write(intent)
        order = request.order
        log.info("%s: order %s %s", order.instrument, order.request_id, order.given.words)
        await parts.dispatch.send(written)


def orders_shown(ledger: Ledger, orders: list[OperatorOrder]) -> list[dict[str, Any]]:
    """Return the newest operator orders and their results, newest first."""
    return [_shown(ledger, order) for order in reversed(orders[-SHOWN:])]


def _shown(ledger: Ledger, order: OperatorOrder) -> dict[str, Any]:
    intent = ledger.requests.get(order.request_id)
    reports = [] if intent is None else ledger.reports.get(intent.order_id, [])
    status = "waiting" if intent is None else "sent" if intent.submitted else "refused"
    detail = "waits for the executor"
    if intent is not None:
        failing = [f"{v.guard}: {v.detail}" for v in intent.guards if not v.passed]
        detail = "; ".join(failing) or "handed over, no answer yet"
    if reports:
        status, detail = reports[-1].status, reports[-1].reason or ""
    return {
        "request_id": order.request_id,
        "instrument": order.instrument,
        "side": order.side,
        "units": float(order.units),
        "actor": order.given.actor,
        "reason": order.given.reason,
        "at_ms": order.given.at_ms,
        "status": status,
        "detail": detail,
        "kind": None if intent is None else intent.kind,
        "order_id": None if intent is None else intent.order_id,
        "filled_units": next((r.units for r in reversed(reports) if r.status == "filled"), None),
        "price": next((r.price for r in reversed(reports) if r.status == "filled"), None),
    }
