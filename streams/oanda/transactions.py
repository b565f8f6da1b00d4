"""OANDA's transactions, and the response to an order."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from streams.oanda.parsing import Fields
from streams.oanda.shapes import _client_id


class TransactionState(NamedTuple):
    """One transaction of the account.

    Attributes
    ----------
    kind
        OANDA's ``type``, such as ``ORDER_FILL``.
    order_id, client_id
        The order of the transaction, and its client id.
    trade_ids
        Trades opened, reduced or closed.
    opened_trade_ids
        The opened ones of these trades.
    content
        The complete transaction.
    amount, balance
        Of a transfer of funds: the amount, negative for a withdrawal, and the balance after it.
    """

    transaction_id: str
    kind: str
    time_ms: int
    instrument: str
    order_id: str
    client_id: str
    units: Decimal
    price: float | None
    reason: str | None
    realized_pl: Decimal | None
    trade_ids: tuple[str, ...]
    opened_trade_ids: tuple[str, ...]
    content: Mapping[str, Any]
    amount: Decimal | None = None
    balance: Decimal | None = None


class OrderAnswer(NamedTuple):
    """The result of a changing request: the transactions of the response, in OANDA's order."""

    created: TransactionState | None
    filled: TransactionState | None
    cancelled: TransactionState | None
    last_transaction_id: str
    content: Mapping[str, Any]


def transaction_of(fields: Fields) -> TransactionState:
    """Parse a transaction; fields that its type does not have are empty."""
    opened = [fields.part("tradeOpened")] if fields.has("tradeOpened") else []
    changed = [fields.part("tradeReduced")] if fields.has("tradeReduced") else []
    changed += list(fields.each("tradesClosed")) if fields.has("tradesClosed") else []
    opened_ids = tuple(trade.text("tradeID") for trade in opened)
    kind = fields.text("type")
    fill, transfer = kind == "ORDER_FILL", kind == "TRANSFER_FUNDS"
    client_id = fields.maybe("clientOrderID", fields.text) or _client_id(fields)
    return TransactionState(
        fields.text("id"),
        kind,
        fields.time_ms("time"),
        fields.text("instrument") if fill else fields.maybe("instrument", fields.text) or "",
        fields.maybe("orderID", fields.text) or "",
        client_id,
        fields.decimal("units") if fill else fields.maybe("units", fields.decimal) or Decimal(0),
        fields.price("price") if fill else fields.maybe("price", fields.price),
        fields.maybe("reason", fields.text) or fields.maybe("rejectReason", fields.text),
        fields.maybe("pl", fields.decimal),
        (*opened_ids, *(trade.text("tradeID") for trade in changed)),
        opened_ids,
        fields.content,
        fields.decimal("amount") if transfer else None,
        fields.decimal("accountBalance") if transfer else None,
    )


CREATED = ("orderCreateTransaction", "longOrderCreateTransaction", "shortOrderCreateTransaction")


FILLED = ("orderFillTransaction", "longOrderFillTransaction", "shortOrderFillTransaction")


CANCELLED = ("orderCancelTransaction", "longOrderCancelTransaction", "shortOrderCancelTransaction")


def order_answer_of(content: Any, endpoint: str) -> OrderAnswer:
    """Parse the response to an order, a cancellation or the close of one side."""
    fields = Fields(content, endpoint)
    created, filled, cancelled = (_first(fields, names) for names in (CREATED, FILLED, CANCELLED))
    if not (created or filled or cancelled):
        raise fields.wrong("", "a response with a transaction", sorted(fields.content))
    last_id = fields.text("lastTransactionID")
    return OrderAnswer(created, filled, cancelled, last_id, fields.content)


def _first(fields: Fields, names: tuple[str, ...]) -> TransactionState | None:
    for name in names:
        if fields.has(name):
            return transaction_of(fields.part(name))
    return None
