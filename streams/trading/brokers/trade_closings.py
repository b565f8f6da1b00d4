"""Which trade an OANDA transaction closes.

``PUT /trades/{id}/close`` takes no client id. The order that it makes says which trade it is for
(``tradeClose``), and so does a rejected one; its fill names the trade by what it closed, and its
cancellation only names the order.
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
        """Take in one transaction."""
        if found.kind == "MARKET_ORDER" and found.content.get("tradeClose"):
            self._trades[found.transaction_id] = _named(found.content["tradeClose"])
            while len(self._trades) > ORDERS_KEPT:
                self._trades.popitem(last=False)

    def trade_of(self, found: TransactionState) -> str:
        """Return the trade that a transaction is about to close; empty when it is not of one."""
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
