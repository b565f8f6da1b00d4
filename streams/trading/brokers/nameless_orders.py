"""Orders without a client id, matched by instrument, units and time.

An account that is associated with MT4 accepts no client extensions. The order's own transaction has
the request; its fill and its cancellation name the order.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from decimal import Decimal

from streams.oanda.transactions import TransactionState
from streams.records.trading_events import OrderIntent
from streams.trading.brokers.transaction import Ordered
from streams.trading.brokers.units import units_of

ORDERS_KEPT = 1_000
EARLIER_MS = 5_000
"""Milliseconds by which an order may be earlier than the estimated clock of the venue."""
SETTLE_MS = 900_000
"""Milliseconds after an order was made in which it may appear at the venue."""


class NamelessOrders:
    """The fold of an account's transactions, in their order."""

    def __init__(self) -> None:
        self._orders: OrderedDict[str, Ordered] = OrderedDict()

    def note(self, found: TransactionState) -> None:
        """Apply one transaction."""
        if found.kind == "MARKET_ORDER" and _by_units(found):
            self._orders[found.transaction_id] = _ordered(found)
            while len(self._orders) > ORDERS_KEPT:
                self._orders.popitem(last=False)

    def ordered(self, found: TransactionState) -> Ordered | None:
        """Return the request of the order that a transaction ends; None for other transactions."""
        if found.kind == "MARKET_ORDER_REJECT" and _by_units(found):
            return _ordered(found)
        return self._orders.get(found.order_id)


def _by_units(found: TransactionState) -> bool:
    named = ("tradeClose", "longPositionCloseout", "shortPositionCloseout", "marginCloseout")
    return not found.client_id and not any(found.content.get(name) for name in named)


def _ordered(found: TransactionState) -> Ordered:
    return Ordered(found.instrument, found.units, found.time_ms)


def matching_order(ordered: Ordered | None, waiting: Iterable[OrderIntent]) -> OrderIntent | None:
    """Return the executor's order that matches one at the venue; the oldest of several.

    Parameters
    ----------
    waiting
        The executor's orders without a known result.
    """
    if ordered is None:
        return None
    found = [intent for intent in waiting if _may_be(intent, ordered)]
    return min(found, key=lambda intent: intent.placed_ms, default=None)


def _may_be(intent: OrderIntent, ordered: Ordered) -> bool:
    after_ms = ordered.time_ms - intent.placed_ms
    return (
        intent.close_by in ("", "units")
        and intent.instrument == ordered.instrument
        and signed_units(intent) == ordered.units
        and -EARLIER_MS <= after_ms <= SETTLE_MS
    )


def signed_units(intent: OrderIntent) -> Decimal:
    """Return the signed units of an order, positive for a buy."""
    return units_of(intent.units) * (1 if intent.side == "buy" else -1)
