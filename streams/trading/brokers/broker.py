"""The interface of a venue: account, prices, orders. Each venue is one implementation.

Units are units of the base currency, positive for long and negative for short. Prices are in the
quote currency. Times are epoch milliseconds UTC. Money is in the account's currency.

An order carries the id of its intent as the client id at the venue. If it is unknown whether an
order has arrived, the call raises `OutcomeUnknown`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Literal, NamedTuple, Protocol

from streams.errors import Recoverable
from streams.trading.brokers.transaction import Transaction

Outcome = Literal["filled", "rejected", "cancelled", "pending"]
Mode = Literal["paper", "practice", "live"]
BracketKind = Literal["stop", "target"]


class OutcomeUnknown(Recoverable):
    """An order was sent and its answer was lost: it may be filled, or never have arrived.

    It must be looked up by its client id and not be sent again.
    """


class Account(NamedTuple):
    """The account's money, in its own currency.

    Attributes
    ----------
    nav
        Balance plus unrealised profit and loss.
    last_transaction_id
        Newest transaction the venue has booked for the account.
    open_trades
        Number of open trades of the whole account; None when the venue does not report it.
    """

    account_id: str
    currency: str
    balance: float
    nav: float
    margin_used: float
    margin_available: float
    unrealized_pl: float
    last_transaction_id: str
    open_trades: int | None = None

    @property
    def margin_ratio(self) -> float:
        """Margin used as a fraction of used + available (docs/spec/trading-loop.md 4.5); 1.0
        without any."""
        total = self.margin_used + self.margin_available
        return self.margin_used / total if total > 0 else 1.0


class InstrumentTerms(NamedTuple):
    """The trading terms of an instrument at the venue.

    Attributes
    ----------
    price_digits, units_digits
        Decimals of a price, and of a number of units.
    min_units, max_units
        Minimum and maximum units of one order.
    margin_rate
        Margin as a fraction of the notional.
    pip
        Price distance of one pip.
    """

    instrument: str
    price_digits: int
    units_digits: int
    min_units: Decimal
    max_units: Decimal
    margin_rate: float
    pip: float


class Quote(NamedTuple):
    """A two-sided price; ``time_ms`` is the venue's timestamp."""

    instrument: str
    bid: float
    ask: float
    time_ms: int
    tradeable: bool = True

    @property
    def mid(self) -> float:
        """The middle of bid and ask."""
        return (self.bid + self.ask) / 2.0

    @property
    def spread_bps(self) -> float:
        """Ask minus bid in basis points of the middle."""
        return 1e4 * (self.ask - self.bid) / self.mid


class Position(NamedTuple):
    """The whole position in one instrument, whoever opened it; ``trade_ids`` where reported."""

    instrument: str
    units: Decimal
    average_price: float
    unrealized_pl: float
    margin_used: float = 0.0
    trade_ids: tuple[str, ...] = ()


class OpenTrade(NamedTuple):
    """One open trade. ``client_id`` is that of the order that opened it, "" when it has none.

    ``stop_loss`` and ``take_profit`` are prices, ``trailing_stop`` is a distance in price.
    """

    trade_id: str
    instrument: str
    units: Decimal
    price: float
    opened_ms: int
    client_id: str
    stop_loss: float | None
    take_profit: float | None
    unrealized_pl: float
    trailing_stop: float | None = None


class PendingOrder(NamedTuple):
    """A pending order at the venue; brackets of open trades are not included."""

    order_id: str
    instrument: str
    units: Decimal
    client_id: str


class LevelRule(NamedTuple):
    """Stop and target relative to the entry price (docs/spec/strict-backtest.md 1).

    Either percentages of the entry price or distances in price, as in the run.
    """

    kind: Literal["pct", "distance"]
    stop: float
    target: float


class OrderRequest(NamedTuple):
    """A market order, all or nothing.

    Attributes
    ----------
    client_id
        The intent's ``order_id``, sent as the client id of order and trade where the venue accepts
        one; not with the closing of a trade.
    units
        Signed: positive buys, negative sells.
    reduce_only
        The order may only reduce the position, never reverse it.
    stop_loss, take_profit
        Prices of the brackets in the instrument's precision, None for none.
    levels
        The rule of the brackets: a venue that can set them from the fill price uses it instead of
        ``stop_loss`` and ``take_profit``.
    placed_ms
        The venue's clock when the intent was made.
    price_bound
        Worst fill price, beyond which the venue cancels the order; None for none.
    close_by, trade_id
        ``trade``: close that trade completely (``@`` and a client id is allowed too); ``position``:
        close the side of the position opposite to ``units`` completely; else by ``units``.
    """

    client_id: str
    instrument: str
    units: Decimal
    reduce_only: bool
    stop_loss: float | None
    take_profit: float | None
    levels: LevelRule | None
    placed_ms: int
    close_by: str = ""
    trade_id: str = ""
    price_bound: float | None = None


class OrderResult(NamedTuple):
    """The result of an order.

    Attributes
    ----------
    outcome
        ``pending``: accepted by the venue and not filled yet; the other three are final.
    units, price
        Signed units filled and their average price; 0 and None without a fill.
    broker_ids
        Ids assigned by the venue (order, fill, trades), as text.
    trade_ids
        The trades that the fill opened.
    realized_pl
        Realised profit and loss of the fill, financing included; None without a fill.
    transaction_id
        Newest transaction in this answer, "" when there is none.
    raw
        The venue's answer, JSON text without secrets.
    """

    client_id: str
    outcome: Outcome
    units: Decimal
    price: float | None
    time_ms: int
    broker_ids: tuple[str, ...] = ()
    trade_ids: tuple[str, ...] = ()
    realized_pl: float | None = None
    reason: str | None = None
    transaction_id: str = ""
    raw: str = "{}"


class Broker(Protocol):
    """A venue. Every method raises Recoverable without an answer, Fatal when access is refused.

    Attributes
    ----------
    account_id, mode
        Account id, and trading mode (paper, practice, live).
    price_interval_ms
        Interval between the venue's prices: 0 for a stream, the bar length for candles.
    settle_sec
        Seconds for which an order that was sent may be missing in ``lookup``.
    closes_by_trade
        Whether single trades can be closed by their ids.
    takes_client_ids
        Whether orders carry client ids there.
    """

    @property
    def account_id(self) -> str:
        """Account the orders go to."""
        ...

    @property
    def mode(self) -> Mode:
        """Whether money is real."""
        ...

    @property
    def price_interval_ms(self) -> int:
        """Interval between the venue's prices, in milliseconds."""
        ...

    @property
    def settle_sec(self) -> float:
        """Seconds for which an order that was sent may be missing in ``lookup``."""
        ...

    @property
    def closes_by_trade(self) -> bool:
        """Whether single trades can be closed by their ids."""
        ...

    @property
    def takes_client_ids(self) -> bool:
        """Whether orders carry client ids at the venue."""
        ...

    def expect_access(self) -> None:
        """Note that the account has traded before: a refusal of access is then retried."""
        ...

    def now_ms(self) -> int:
        """Return the venue's clock in epoch ms."""
        ...

    async def account(self) -> Account:
        """Return the account's money."""
        ...

    async def instruments(self, names: Sequence[str]) -> Mapping[str, InstrumentTerms]:
        """Return the terms of those of ``names`` that the venue trades."""
        ...

    async def quotes(self, names: Sequence[str]) -> Mapping[str, Quote]:
        """Return the newest price of those of ``names`` that have one."""
        ...

    async def home_rates(self, currencies: Sequence[str]) -> Mapping[str, float]:
        """Return the value of one unit of each currency in the account's currency.

        Called after ``quotes`` of the same instruments: a venue may return both at once. A currency
        without a known rate is left out.
        """
        ...

    async def positions(self) -> Sequence[Position]:
        """Return the positions by instrument; instruments without a position are left out."""
        ...

    async def trades(self) -> Sequence[OpenTrade]:
        """Return the open trades, oldest first."""
        ...

    async def orders(self) -> Sequence[PendingOrder]:
        """Return the pending orders at the venue, without the brackets of open trades."""
        ...

    async def transactions(self, since_id: str) -> Sequence[Transaction]:
        """Return all transactions after ``since_id``, in the venue's order."""
        ...

    async def submit(self, request: OrderRequest) -> OrderResult:
        """Send an order once, without a retry.

        Raises
        ------
        OutcomeUnknown
            It was sent, or may have been, and the result is unknown.
        Recoverable
            It was not sent.
        """
        ...

    async def lookup(self, client_id: str) -> OrderResult | None:
        """Return the result of the order with this client id; None when the venue has none."""
        ...

    async def set_levels(
        self, trade_id: str, stop_loss: float | None, take_profit: float | None
    ) -> None:
        """Replace brackets of an open trade; None leaves one unchanged. Idempotent."""
        ...

    async def bracket_ended(self, trade_id: str, kind: BracketKind) -> str:
        """Return why the last stop or target of an open trade ended; "" when it never had one."""
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...
