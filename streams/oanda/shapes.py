"""OANDA's responses as typed values; each ``*_of`` parses one object strictly.

Prices are floats, as in the log; money and units are ``Decimal``, in the account's currency and in
units of the base currency. Times are epoch milliseconds UTC, ids are OANDA's strings.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, NamedTuple

from streams.candles.mid_price import mid_prices
from streams.instants import GRANULARITY_MS
from streams.oanda.parsing import Fields
from streams.records.events import Ohlc


class BrokerCandle(NamedTuple):
    """A candle of OANDA; ``complete`` is false while its bar has not ended.

    ``mid_derived`` is true if the mid is derived from bid and ask (docs/mid-price.md).
    """

    bar_ms: int
    complete: bool
    mid: Ohlc
    bid: Ohlc | None
    ask: Ohlc | None
    mid_derived: bool
    volume: int


class Price(NamedTuple):
    """The best bid and ask of an instrument, from the stream or from ``/pricing``."""

    instrument: str
    time_ms: int
    bid: float
    ask: float
    tradeable: bool

    @property
    def spread_bps(self) -> float:
        """Ask minus bid in basis points of the mid."""
        return 2e4 * (self.ask - self.bid) / (self.ask + self.bid)


class HomeRate(NamedTuple):
    """Value of one unit of a currency in the account's currency: for gains, for losses."""

    currency: str
    gain: Decimal
    loss: Decimal


class StreamHeartbeat(NamedTuple):
    """A heartbeat of a stream; that of the transaction stream contains the newest id."""

    time_ms: int
    last_transaction_id: str | None = None


class AccountSummary(NamedTuple):
    """Balance, P&L and margin of the account."""

    account_id: str
    currency: str
    balance: Decimal
    nav: Decimal
    unrealized_pl: Decimal
    margin_used: Decimal
    margin_available: Decimal
    open_trades: int
    open_positions: int
    pending_orders: int
    hedging: bool
    last_transaction_id: str


class AccountProperties(NamedTuple):
    """An account that the token may use; ``mt4_account_id`` is None unless it is an MT4 account."""

    account_id: str
    mt4_account_id: int | None


class InstrumentSpec(NamedTuple):
    """Trading specification of an instrument.

    Attributes
    ----------
    price_digits, units_digits
        Number of decimals of prices and of units.
    pip_location
        Power of ten of a pip.
    """

    name: str
    kind: str
    price_digits: int
    units_digits: int
    pip_location: int
    min_units: Decimal
    max_units: Decimal
    margin_rate: Decimal


class PositionSide(NamedTuple):
    """One side of a position; ``units`` is negative on the short side."""

    units: Decimal
    average_price: float | None
    unrealized_pl: Decimal
    trade_ids: tuple[str, ...]


class PositionState(NamedTuple):
    """The position in one instrument, both sides."""

    instrument: str
    long: PositionSide
    short: PositionSide
    unrealized_pl: Decimal
    margin_used: Decimal


class TradeState(NamedTuple):
    """One open trade; brackets are prices, ``trailing_stop`` is a distance in price."""

    trade_id: str
    instrument: str
    price: float
    opened_ms: int
    units: Decimal
    unrealized_pl: Decimal
    client_id: str
    stop_loss: float | None
    take_profit: float | None
    trailing_stop: float | None = None


class OandaOrder(NamedTuple):
    """One order in any state."""

    order_id: str
    kind: str
    state: str
    created_ms: int
    instrument: str
    units: Decimal
    client_id: str
    fill_id: str | None
    cancel_id: str | None


def candles_of(
    content: Any, endpoint: str, instrument: str, granularity: str
) -> tuple[BrokerCandle, ...]:
    """Parse a response of ``/candles``; other bars than the requested ones are refused."""
    fields = Fields(content, endpoint)
    # OANDA writes some names with a slash here
    if fields.text("instrument").replace("/", "_") != instrument:
        raise fields.wrong("instrument", instrument, fields.content["instrument"])
    if fields.text("granularity") != granularity:
        raise fields.wrong("granularity", granularity, fields.content["granularity"])
    length = GRANULARITY_MS[granularity]
    found = []
    for each in fields.each("candles"):
        if each.time_ns("time") % (length * 1_000_000):
            raise each.wrong("time", f"the start of a bar of {granularity}", each.content["time"])
        volume = each.whole("volume")
        if volume < 0:
            raise each.wrong("volume", "a number of ticks", volume)
        prices = _candle_prices(each)
        found.append(BrokerCandle(each.time_ms("time"), each.flag("complete"), *prices, volume))
    return tuple(found)


def _candle_prices(fields: Fields) -> tuple[Ohlc, Ohlc | None, Ohlc | None, bool]:
    """Return mid, bid, ask, and whether the mid is derived from them (docs/mid-price.md)."""
    bid, ask = (_exact(fields, side) if fields.has(side) else None for side in ("bid", "ask"))
    if bid and ask:
        return mid_prices(bid, ask), _nearest(bid), _nearest(ask), True
    if not fields.has("mid"):
        raise fields.wrong("ask" if bid else "bid", "prices of bid and ask, or a mid", None)
    mid = _nearest(_exact(fields, "mid"))
    return mid, _nearest(bid) if bid else None, _nearest(ask) if ask else None, False


def _exact(fields: Fields, side: str) -> tuple[Decimal, ...]:
    prices = fields.part(side)
    return tuple(prices.exact_price(name) for name in "ohlc")


def _nearest(prices: tuple[Decimal, ...]) -> Ohlc:
    return Ohlc(*map(float, prices))


def price_of(fields: Fields) -> Price | None:
    """Parse a price; None when OANDA gives no bid or no ask."""
    sides = [next(iter(fields.each(side)), None) for side in ("bids", "asks")]
    tradeable = (
        fields.flag("tradeable")
        if fields.has("tradeable")
        else fields.content.get("status") == "tradeable"
    )
    name, at_ms = fields.text("instrument"), fields.time_ms("time")
    best_bid, best_ask = sides
    if best_bid is None or best_ask is None:
        return None
    bid, ask = best_bid.price("price"), best_ask.price("price")
    if ask < bid:
        raise fields.wrong("asks", f"a price not below the bid of {bid:g}", ask)
    return Price(name, at_ms, bid, ask, tradeable)


def heartbeat_of(fields: Fields) -> StreamHeartbeat:
    """Parse a heartbeat."""
    return StreamHeartbeat(fields.time_ms("time"), fields.maybe("lastTransactionID", fields.text))


def home_rate_of(fields: Fields) -> HomeRate:
    """Parse a conversion rate to the account's currency."""
    return HomeRate(
        fields.text("currency"), fields.decimal("accountGain"), fields.decimal("accountLoss")
    )


def parse_account(fields: Fields) -> AccountSummary:
    """Parse an account or its summary."""
    return AccountSummary(
        fields.text("id"),
        fields.text("currency"),
        fields.decimal("balance"),
        fields.decimal("NAV"),
        fields.decimal("unrealizedPL"),
        fields.decimal("marginUsed"),
        fields.decimal("marginAvailable"),
        fields.whole("openTradeCount"),
        fields.whole("openPositionCount"),
        fields.whole("pendingOrderCount"),
        fields.flag("hedgingEnabled"),
        fields.text("lastTransactionID"),
    )


def properties_of(fields: Fields) -> AccountProperties:
    """Parse an entry of the list of accounts."""
    return AccountProperties(fields.text("id"), fields.maybe("mt4AccountID", fields.whole))


def instrument_of(fields: Fields) -> InstrumentSpec:
    """Parse an instrument's specification."""
    return InstrumentSpec(
        fields.text("name"),
        fields.text("type"),
        fields.whole("displayPrecision"),
        fields.whole("tradeUnitsPrecision"),
        fields.whole("pipLocation"),
        fields.decimal("minimumTradeSize"),
        fields.decimal("maximumOrderUnits"),
        fields.decimal("marginRate"),
    )


def position_of(fields: Fields) -> PositionState:
    """Parse a position."""
    return PositionState(
        fields.text("instrument"),
        _side(fields.part("long")),
        _side(fields.part("short")),
        fields.decimal("unrealizedPL"),
        fields.maybe("marginUsed", fields.decimal) or Decimal(0),
    )


def _side(fields: Fields) -> PositionSide:
    units = fields.decimal("units")
    price = fields.price("averagePrice") if units else None
    return PositionSide(units, price, fields.decimal("unrealizedPL"), fields.texts("tradeIDs"))


def trade_of(fields: Fields) -> TradeState:
    """Parse an open trade."""
    return TradeState(
        fields.text("id"),
        fields.text("instrument"),
        fields.price("price"),
        fields.time_ms("openTime"),
        fields.decimal("currentUnits"),
        fields.decimal("unrealizedPL"),
        _client_id(fields),
        _bracket(fields, "stopLossOrder") or _bracket(fields, "guaranteedStopLossOrder"),
        _bracket(fields, "takeProfitOrder"),
        _bracket(fields, "trailingStopLossOrder", "distance"),
    )


def _bracket(fields: Fields, name: str, of: str = "price") -> float | None:
    return fields.part(name).price(of) if fields.has(name) else None


def _client_id(fields: Fields) -> str:
    if not fields.has("clientExtensions"):
        return ""
    return fields.part("clientExtensions").maybe("id", fields.part("clientExtensions").text) or ""


def parse_order(fields: Fields) -> OandaOrder:
    """Parse an order. Orders on a trade (brackets) have neither instrument nor units."""
    return OandaOrder(
        fields.text("id"),
        fields.text("type"),
        fields.text("state"),
        fields.time_ms("createTime"),
        fields.maybe("instrument", fields.text) or "",
        fields.maybe("units", fields.decimal) or Decimal(0),
        _client_id(fields),
        fields.maybe("fillingTransactionID", fields.text),
        fields.maybe("cancellingTransactionID", fields.text),
    )
