"""What the executor asks of a venue: accounts, prices, orders. Each venue is one implementation.

Units are units of the base currency, positive for long and negative for short. Prices are in the
quote currency. Times are epoch milliseconds UTC. Money is in the account's currency.

An order carries the id of its intent as the client id at the venue. What a call cannot know it says
so: `OutcomeUnknown` when an order may or may not have arrived, never a guess.
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
    """An order was handed over and its answer was lost: it may be filled, or never have arrived.

    It must be looked up by its client id; sending it again is not the way to find out.
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
        How many trades are open, whoever opened them; None when the venue does not tell.
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
        """Margin in use as a fraction of all (docs/spec/trading-loop.md 4.5); 1.0 without any."""
        total = self.margin_used + self.margin_available
        return self.margin_used / total if total > 0 else 1.0


class InstrumentTerms(NamedTuple):
    """How an instrument is traded at the venue.

    Attributes
    ----------
    price_digits, units_digits
        Decimals of a price, and of a number of units.
    min_units, max_units
        Least and most units of one order.
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
    """A two-sided price; ``time_ms`` is the venue's stamp of it."""

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
    """Everything held in one instrument, whoever opened it; ``trade_ids`` where they are told."""

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
    """An order that waits at the venue; brackets of open trades are none."""

    order_id: str
    instrument: str
    units: Decimal
    client_id: str


class LevelRule(NamedTuple):
    """Where stop and target lie, relative to the entry price (docs/spec/strict-backtest.md 1).

    Either percentages of the entry price or distances in price, as the run has them.
    """

    kind: Literal["pct", "distance"]
    stop: float
    target: float


class OrderRequest(NamedTuple):
    """A market order, all or nothing.

    Attributes
    ----------
    client_id
        The intent's ``order_id``; the venue is told it as the client id of order and trade, where
        it takes one: not with the closing of a trade.
    units
        Signed: positive buys, negative sells.
    reduce_only
        The order may only make the position smaller; it never turns it round.
    stop_loss, take_profit
        Prices of the brackets in the instrument's precision, None for none.
    levels
        The rule the brackets come from: a venue that can set them by the price of the fill itself
        follows it, and ``stop_loss`` and ``take_profit`` are then not used.
    placed_ms
        The venue's clock when the intent was made.
    price_bound
        Worst price it may be filled at, beyond which the venue cancels it; None for none.
    close_by, trade_id
        ``trade``: close all of that trade (``@`` and a client id names it as well); ``position``:
        close all of the side of the position that ``units`` is against; else by ``units``.
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
    """What became of an order.

    Attributes
    ----------
    outcome
        ``pending``: the venue has it and has not decided yet; the other three are final.
    units, price
        Signed units filled and their average price; 0 and None when nothing was.
    broker_ids
        Ids the venue gave (order, fill, trades), as text.
    trade_ids
        The trades that the fill opened.
    realized_pl
        Profit and loss that the fill realised, financing included; None when nothing was filled.
    transaction_id
        Newest transaction that this answer speaks of, "" when it names none.
    raw
        The venue's words, JSON text without secrets.
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
    """A venue. Every method raises Recoverable when it does not answer, Fatal when it refuses us.

    Attributes
    ----------
    account_id, mode
        Which account, and what its orders mean.
    price_interval_ms
        How far apart the venue's prices lie by its nature: 0 for a stream, a bar for candles.
    settle_sec
        How long an order that was sent may stay invisible to ``lookup``.
    closes_by_trade
        Whether single trades can be closed by their ids.
    takes_client_ids
        Whether orders bear our ids there.
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
        """How far apart prices lie by the venue's nature, in milliseconds."""
        ...

    @property
    def settle_sec(self) -> float:
        """How long an order that was sent may stay invisible to ``lookup``, in seconds."""
        ...

    @property
    def closes_by_trade(self) -> bool:
        """Whether single trades can be closed by their ids."""
        ...

    @property
    def takes_client_ids(self) -> bool:
        """Whether orders bear our ids at the venue."""
        ...

    def expect_access(self) -> None:
        """Note that the account has traded before: a refusal of access is then waited out."""
        ...

    def now_ms(self) -> int:
        """Return the venue's clock: the time of the market that orders are filled in."""
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
        """Return what one unit of each currency is worth in the account's currency.

        Asked after ``quotes`` of the instruments concerned: a venue may give both at once. A
        currency without a known rate is left out.
        """
        ...

    async def positions(self) -> Sequence[Position]:
        """Return what is held, by instrument; instruments without a position are left out."""
        ...

    async def trades(self) -> Sequence[OpenTrade]:
        """Return the open trades, oldest first."""
        ...

    async def orders(self) -> Sequence[PendingOrder]:
        """Return the orders that wait at the venue, without the brackets of open trades."""
        ...

    async def transactions(self, since_id: str) -> Sequence[Transaction]:
        """Return everything booked after ``since_id``, in the venue's order."""
        ...

    async def submit(self, request: OrderRequest) -> OrderResult:
        """Hand an order over, once, without trying again.

        Raises
        ------
        OutcomeUnknown
            It was sent, or may have been, and no answer says what became of it.
        Recoverable
            It was certainly not sent.
        """
        ...

    async def lookup(self, client_id: str) -> OrderResult | None:
        """Return what became of the order with this client id; None when the venue has none."""
        ...

    async def set_levels(
        self, trade_id: str, stop_loss: float | None, take_profit: float | None
    ) -> None:
        """Replace brackets of an open trade; None leaves one as it is. May be repeated."""
        ...

    async def bracket_ended(self, trade_id: str, kind: BracketKind) -> str:
        """Return why the last stop or target of an open trade ended; "" when it never had one."""
        ...

    async def aclose(self) -> None:
        """Give the connections back."""
        ...
