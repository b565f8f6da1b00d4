"""Which trade an OANDA transaction closes.

``PUT /trades/{id}/close`` takes no client id. The order that it creates names its trade
(``tradeClose``), and so does a rejected one; its fill names the closed trade, and its cancellation
names only the order.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from streams.oanda.transactions import TransactionState

ORDERS_KEPT = 1_000


class TradeClosings:
    """The fold of an account's transactions, in their order."""

    def __init__(self) -> None:
        self._trades: OrderedDict[str, str] = OrderedDict()

    def note(self, found: TransactionState) -> None:
        """Apply one transaction."""
        if found.kind == "MARKET_ORDER" and found.content.get("tradeClose"):
            self._trades[found.transaction_id] = _named(found.content["tradeClose"])
            while len(self._trades) > ORDERS_KEPT:
                self._trades.popitem(last=False)

    def trade_of(self, found: TransactionState) -> str:
        """Return the trade that a transaction was to close; empty for other transactions."""
        if found.content.get("tradeClose"):
            return _named(found.content["tradeClose"])
        if found.kind == "ORDER_FILL" and found.reason == "MARKET_ORDER_TRADE_CLOSE":
            return next(iter(found.trade_ids), "")
        return self._trades.get(found.order_id, "")


def _named(trade_close: Any) -> str:
    if not isinstance(trade_close, dict):
        return ""
    trade_id, client_id = trade_close.get("tradeID"), trade_close.get("clientTradeID")
    return str(trade_id) if trade_id else f"@{client_id}" if client_id else ""
