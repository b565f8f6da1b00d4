"""An account: the fold of its transactions, and nothing else changes it.

What a client asks for becomes transactions (``matching``); a transaction becomes state here. So an
account that was written down line by line comes back the same after the process was killed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from tests.support.v20.amounts import ZERO

Json = dict[str, Any]

ORDER_TYPES = {
    "MARKET_ORDER": "MARKET",
    "LIMIT_ORDER": "LIMIT",
    "STOP_ORDER": "STOP",
    "MARKET_IF_TOUCHED_ORDER": "MARKET_IF_TOUCHED",
    "TAKE_PROFIT_ORDER": "TAKE_PROFIT",
    "STOP_LOSS_ORDER": "STOP_LOSS",
    "TRAILING_STOP_LOSS_ORDER": "TRAILING_STOP_LOSS",
}
"""Transaction type that creates an order -> type of the order."""

NOT_OF_AN_ORDER = frozenset(
    ("type", "time", "userID", "accountID", "batchID", "requestID", "reason")
)


@dataclass
class Trade:
    """One trade, open or closed."""

    id: str
    instrument: str
    price: Decimal
    open_time: str
    initial_units: Decimal
    units: Decimal
    initial_margin: Decimal
    realized: Decimal = ZERO
    state: str = "OPEN"
    extensions: Json | None = None
    closing_ids: list[str] = field(default_factory=list)
    closed_value: Decimal = ZERO
    close_time: str | None = None
    orders: dict[str, str] = field(default_factory=dict)
    """Order type -> id of the pending order that depends on the trade."""

    @property
    def client_id(self) -> str | None:
        """The client's name for it."""
        return (self.extensions or {}).get("id")


@dataclass
class SideTotals:
    """What one side of an instrument's position has brought so far."""

    realized: Decimal = ZERO


class Account:
    """State after every transaction so far.

    Parameters
    ----------
    account_id
        OANDA's form, ``site-division-user-number``.
    """

    def __init__(self, account_id: str) -> None:
        self.id = account_id
        self.fifo = self.guaranteed_stops = False
        self.mt4_account_id = 0
        self.user_id = int(account_id.split("-")[2])
        self.currency = ""
        self.alias: str | None = None
        self.margin_rate: Decimal | None = None
        self.created = ""
        self.balance = ZERO
        self.realized = ZERO
        self.last_fill_time: str | None = None
        self.transactions: list[Json] = []
        self.orders: dict[str, Json] = {}
        self.pending: dict[str, Json] = {}
        self.trades: dict[str, Trade] = {}
        self.open: dict[str, Trade] = {}
        self.sides: dict[str, dict[str, SideTotals]] = {}

    @property
    def last_id(self) -> str:
        """Id of the newest transaction."""
        return str(len(self.transactions))

    def apply(self, transaction: Json) -> None:
        """Take one transaction over; the ids must come without a gap."""
        if int(transaction["id"]) != len(self.transactions) + 1:
            raise ValueError(f"transaction {transaction['id']} after {self.last_id}")
        self.transactions.append(transaction)
        kind = transaction["type"]
        if kind in ORDER_TYPES:
            self._order_created(transaction)
        else:
            handler = getattr(self, f"_{kind.lower()}", None)
            if handler is not None:
                handler(transaction)

    def _create(self, transaction: Json) -> None:
        self.currency, self.created = transaction["homeCurrency"], transaction["time"]

    def _transfer_funds(self, transaction: Json) -> None:
        self.balance += Decimal(transaction["amount"])

    def _client_configure(self, transaction: Json) -> None:
        if "alias" in transaction:
            self.alias = transaction["alias"]
        if "marginRate" in transaction:
            self.margin_rate = Decimal(transaction["marginRate"])

    def _order_created(self, transaction: Json) -> None:
        kept = {k: v for k, v in transaction.items() if k not in NOT_OF_AN_ORDER}
        order = kept | {
            "type": ORDER_TYPES[transaction["type"]],
            "createTime": transaction["time"],
            "state": "PENDING",
        }
        order.pop("cancellingTransactionID", None)
        order.pop("orderFillTransactionID", None)
        self.orders[order["id"]] = self.pending[order["id"]] = order
        trade = self.trades.get(order.get("tradeID", ""))
        if trade is not None:
            trade.orders[order["type"]] = order["id"]

    def _order_cancel(self, transaction: Json) -> None:
        order = self.pending.pop(transaction["orderID"])
        order |= {
            "state": "CANCELLED",
            "cancellingTransactionID": transaction["id"],
            "cancelledTime": transaction["time"],
        }
        if "replacedByOrderID" in transaction:
            order["replacedByOrderID"] = transaction["replacedByOrderID"]
        self._forget_dependent(order)

    def _forget_dependent(self, order: Json) -> None:
        trade = self.trades.get(order.get("tradeID", ""))
        if trade is not None and trade.orders.get(order["type"]) == order["id"]:
            del trade.orders[order["type"]]

    def _order_fill(self, transaction: Json) -> None:
        order = self.pending.pop(transaction["orderID"])
        order |= {
            "state": "FILLED",
            "fillingTransactionID": transaction["id"],
            "filledTime": transaction["time"],
        }
        self._forget_dependent(order)
        self.last_fill_time = transaction["time"]
        for reduced in transaction.get("tradesClosed", []):
            self._reduce(transaction, reduced)
            order.setdefault("tradeClosedIDs", []).append(reduced["tradeID"])
        if "tradeReduced" in transaction:
            self._reduce(transaction, transaction["tradeReduced"])
            order["tradeReducedID"] = transaction["tradeReduced"]["tradeID"]
        if "tradeOpened" in transaction:
            self._open(transaction, transaction["tradeOpened"])
            order["tradeOpenedID"] = transaction["tradeOpened"]["tradeID"]
        self.balance = Decimal(transaction["accountBalance"])
        self.realized += Decimal(transaction["pl"])

    def _open(self, transaction: Json, opened: Json) -> None:
        units = Decimal(opened["units"])
        trade = Trade(
            opened["tradeID"],
            transaction["instrument"],
            Decimal(opened["price"]),
            transaction["time"],
            units,
            units,
            Decimal(opened["initialMarginRequired"]),
            extensions=opened.get("clientExtensions"),
        )
        self.trades[trade.id] = self.open[trade.id] = trade
        self._totals(trade.instrument)

    def _totals(self, instrument: str) -> dict[str, SideTotals]:
        return self.sides.setdefault(instrument, {"long": SideTotals(), "short": SideTotals()})

    def _reduce(self, transaction: Json, reduced: Json) -> None:
        trade = self.open[reduced["tradeID"]]
        units = Decimal(reduced["units"])
        side = "long" if trade.initial_units > 0 else "short"
        trade.units += units
        trade.realized += Decimal(reduced["realizedPL"])
        trade.closed_value += abs(units) * Decimal(reduced["price"])
        trade.closing_ids.append(transaction["id"])
        self._totals(trade.instrument)[side].realized += Decimal(reduced["realizedPL"])
        if trade.units == 0:
            trade.state, trade.close_time = "CLOSED", transaction["time"]
            del self.open[trade.id]

    def _order_client_extensions_modify(self, transaction: Json) -> None:
        order = self.orders[transaction["orderID"]]
        for name, changed in (
            ("clientExtensions", "clientExtensionsModify"),
            ("tradeClientExtensions", "tradeClientExtensionsModify"),
        ):
            if changed in transaction:
                order[name] = order.get(name, {}) | transaction[changed]

    def _trade_client_extensions_modify(self, transaction: Json) -> None:
        trade = self.trades[transaction["tradeID"]]
        changed = transaction["tradeClientExtensionsModify"]
        trade.extensions = (trade.extensions or {}) | changed

    def pending_by_client_id(self, client_id: str) -> Json | None:
        """Return the pending order a client named so."""
        for order in self.pending.values():
            if order.get("clientExtensions", {}).get("id") == client_id:
                return order
        return None

    def open_by_client_id(self, client_id: str) -> Trade | None:
        """Return the open trade a client named so."""
        return next((t for t in self.open.values() if t.client_id == client_id), None)

    def units(self, instrument: str) -> Decimal:
        """Return the net units held."""
        held = (t.units for t in self.open.values() if t.instrument == instrument)
        return sum(held, ZERO)
