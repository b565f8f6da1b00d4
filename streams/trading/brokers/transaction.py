"""A transaction of the account, as the venue reports it."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal, NamedTuple

from streams.trading.brokers.units import ZERO

Cause = Literal["order", "stop_loss", "take_profit", "other"]


class Ordered(NamedTuple):
    """The request of an order, and when the venue accepted it; units are signed."""

    instrument: str
    units: Decimal
    time_ms: int


class Transaction(NamedTuple):
    """A fill, a cancellation or a rejection that the venue has booked.

    Attributes
    ----------
    kind
        ``fill``, ``cancel``, ``reject`` or ``other`` (money moved, settings changed).
    client_id
        Of the order it belongs to; for a bracket's fill, of the order that opened the trade.
    cause
        Cause of the fill: an order, a bracket, or another event (a margin close-out).
    units, price
        Signed units of the fill, and its price.
    trade_ids
        Trades that it opened, reduced or closed.
    reduced
        Trades that it reduced or closed, with the signed units of each; of a fill that is not from
        an order of the executor, only these units concern the executor.
    closes_trade
        The trade that the order was to close, as named in it (an id, or ``@`` and a client id);
        such orders have no client id.
    amount, balance
        Of a deposit or a withdrawal: the amount, negative for a withdrawal, and the balance after
        it; else None.
    ordered
        The request of an order by units without a client id; else None.
    """

    transaction_id: str
    kind: Literal["fill", "cancel", "reject", "other"]
    time_ms: int
    instrument: str = ""
    client_id: str = ""
    cause: Cause = "other"
    units: Decimal = ZERO
    price: float | None = None
    realized_pl: float | None = None
    trade_ids: tuple[str, ...] = ()
    reason: str | None = None
    raw: str = "{}"
    reduced: tuple[tuple[str, Decimal], ...] = ()
    closes_trade: str = ""
    amount: float | None = None
    balance: float | None = None
    ordered: Ordered | None = None
