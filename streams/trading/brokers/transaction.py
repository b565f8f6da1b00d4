"""What a venue says of the account, one transaction at a time."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal, NamedTuple

from streams.trading.brokers.units import ZERO

Cause = Literal["order", "stop_loss", "take_profit", "other"]


class Ordered(NamedTuple):
    """What an order asked for, and when the venue took it; units are signed."""

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
        What made the fill: an order, a bracket, or something else (a margin close-out).
    units, price
        Signed units of the fill, and its price.
    trade_ids
        Trades that it opened, reduced or closed.
    reduced
        Trades that it reduced or closed, with the signed units of the fill that went to each; for
        a fill that no order of ours made only these are ours.
    closes_trade
        The trade that the order was to close, as it was named (an id, or ``@`` and a client id);
        such orders bear no client id.
    amount, balance
        Of a deposit or a withdrawal: the money moved, negative when it was taken out, and the
        balance after it; None for everything else.
    ordered
        What an order by units that bears no client id asked for; None for everything else.
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
