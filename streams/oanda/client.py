"""The endpoints of OANDA's v20 REST API that the product uses (docs/spec/trading-loop.md 5.5).

Read requests are retried; requests that change something are sent once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple
from urllib.parse import quote

from streams.config.oanda import Oanda
from streams.instants import GRANULARITY_MS
from streams.oanda import shapes, transactions
from streams.oanda.answers import Answer
from streams.oanda.errors import AnswerLost, NotAsDescribed, RequestRefused
from streams.oanda.parsing import Fields
from streams.oanda.shapes import (
    AccountProperties,
    AccountSummary,
    BrokerCandle,
    HomeRate,
    InstrumentSpec,
    OandaOrder,
    PositionState,
    Price,
    TradeState,
)
from streams.oanda.transactions import OrderAnswer, TransactionState
from streams.oanda.transport import HttpTransport, Query, Sleep

LONGEST_PAGE = 5000
"""OANDA's maximum number of candles per response."""
MOST_PAGES = 1000


class PriceQuotes(NamedTuple):
    """Prices, and conversion rates to the account's currency."""

    prices: tuple[Price, ...]
    home_rates: tuple[HomeRate, ...]


class MarketOrder(NamedTuple):
    """A market order, all or nothing.

    Attributes
    ----------
    client_id
        Client id of the order and of the trade that it opens; empty if none may be given.
    units
        Signed number of units, in the instrument's precision.
    stop_loss, take_profit
        Prices in the instrument's precision, None for none.
    price_bound
        Worst price to fill it at, in the instrument's precision; None for none.
    """

    client_id: str
    instrument: str
    units: Decimal
    reduce_only: bool
    stop_loss: Decimal | None
    take_profit: Decimal | None
    price_bound: Decimal | None = None


class OandaClient(HttpTransport):
    """Client of OANDA's account, prices and orders. Use it as an async context manager.

    Read methods raise as ``Transport.ask``, changing methods as ``Transport.change``; responses are
    checked (``NotAsDescribed``).
    """

    def __init__(self, settings: Oanda, sleep: Sleep = asyncio.sleep) -> None:
        super().__init__(settings, sleep)
        self._account = f"/v3/accounts/{quote(settings.oanda_account_id, safe='')}"

    async def candles(
        self, instrument: str, granularity: str, from_ms: int, count: int = LONGEST_PAGE
    ) -> tuple[BrokerCandle, ...]:
        """Return the candles from the bar that starts at ``from_ms`` on, the current one last.

        Parameters
        ----------
        count
            Maximum number, up to 5000.
        """
        query = [
            # the mid from bid and ask is more exact than OANDA's mid (docs/mid-price.md)
            ("price", "BA"),
            ("granularity", granularity),
            ("from", rfc3339(from_ms)),
            ("count", str(count)),
        ]
        if GRANULARITY_MS[granularity] > GRANULARITY_MS["H1"]:
            # otherwise they begin by New York time, an hour later in winter
            query += [("dailyAlignment", "0"), ("alignmentTimezone", "UTC")]
        path = f"/v3/instruments/{quote(instrument, safe='')}/candles"
        endpoint = f"candles of {instrument}"
        answer = await self.ask("candles", path, query)
        return shapes.candles_of(answer.content, endpoint, instrument, granularity)

    async def prices(self, instruments: Sequence[str], *, home_rates: bool = False) -> PriceQuotes:
        """Return the newest prices; instruments without a bid or an ask are omitted."""
        query = [("instruments", ",".join(instruments))]
        if home_rates:
            query.append(("includeHomeConversions", "true"))
        fields = await self._fields("pricing", "/pricing", query)
        found = [shapes.price_of(each) for each in fields.each("prices")]
        rates = fields.each("homeConversions") if fields.has("homeConversions") else ()
        return PriceQuotes(
            tuple(price for price in found if price is not None),
            tuple(shapes.home_rate_of(each) for each in rates),
        )

    async def account_summary(self) -> AccountSummary:
        """Return the account summary."""
        fields = await self._fields("account summary", "/summary")
        return shapes.parse_account(fields.part("account"))

    async def account_properties(self) -> AccountProperties | None:
        """Return this account's entry in the list of accounts; None when it is not listed."""
        fields = Fields((await self.ask("accounts", "/v3/accounts")).content, "accounts")
        found = [shapes.properties_of(each) for each in fields.each("accounts")]
        return next((a for a in found if a.account_id == self.settings.oanda_account_id), None)

    async def instruments(self) -> dict[str, InstrumentSpec]:
        """Return the specifications of the account's instruments."""
        fields = await self._fields("instruments", "/instruments")
        found = [shapes.instrument_of(each) for each in fields.each("instruments")]
        return {one.name: one for one in found}

    async def open_positions(self) -> tuple[PositionState, ...]:
        """Return the open positions."""
        fields = await self._fields("open positions", "/openPositions")
        return tuple(shapes.position_of(each) for each in fields.each("positions"))

    async def open_trades(self) -> tuple[TradeState, ...]:
        """Return the open trades, newest first."""
        fields = await self._fields("open trades", "/openTrades")
        return tuple(shapes.trade_of(each) for each in fields.each("trades"))

    async def pending_orders(self) -> tuple[OandaOrder, ...]:
        """Return the pending orders, including brackets of trades."""
        fields = await self._fields("pending orders", "/pendingOrders")
        return tuple(shapes.parse_order(each) for each in fields.each("orders"))

    async def order_by_client_id(self, client_id: str) -> OandaOrder | None:
        """Return the order with this client id, None when OANDA has none."""
        path = f"/orders/{quote(f'@{client_id}', safe='@')}"
        try:
            fields = await self._fields("order", path)
        except RequestRefused as error:
            # a 404 of a wrong address has no such code
            if error.status == 404 and error.code:
                return None
            raise
        return shapes.parse_order(fields.part("order"))

    async def transaction(self, transaction_id: str) -> TransactionState:
        """Return one transaction of the account."""
        path = f"/transactions/{quote(transaction_id, safe='')}"
        fields = await self._fields("transaction", path)
        return transactions.transaction_of(fields.part("transaction"))

    async def transactions_since(self, last_id: str) -> tuple[TransactionState, ...]:
        """Return all transactions after ``last_id``, in order, with as many requests as needed."""
        found: list[TransactionState] = []
        for _ in range(MOST_PAGES):
            fields = await self._fields(
                "transactions since", "/transactions/sinceid", [("id", last_id)]
            )
            page = [transactions.transaction_of(each) for each in fields.each("transactions")]
            found += page
            end = fields.text("lastTransactionID")
            if not page or page[-1].transaction_id == end:
                return tuple(found)
            last_id = page[-1].transaction_id
        raise NotAsDescribed(f"OANDA's transactions since {last_id} do not end")

    async def submit(self, order: MarketOrder) -> OrderAnswer:
        """Send a market order, once.

        Raises
        ------
        AnswerLost
            OANDA may have received it: look it up by its client id.
        OrderRefused
            OANDA refused it.
        """
        wanted: dict[str, Any] = {
            "type": "MARKET",
            "instrument": order.instrument,
            "units": decimal_text(order.units),
            "timeInForce": "FOK",
            # DEFAULT would close a trade of another client in the opposite direction
            "positionFill": "REDUCE_ONLY" if order.reduce_only else "OPEN_ONLY",
        }
        if order.client_id:
            wanted["clientExtensions"] = {"id": order.client_id}
        if order.client_id and not order.reduce_only:
            wanted["tradeClientExtensions"] = {"id": order.client_id}
        if order.price_bound is not None:
            wanted["priceBound"] = decimal_text(order.price_bound)
        if order.stop_loss is not None:
            wanted["stopLossOnFill"] = {
                "price": decimal_text(order.stop_loss),
                "timeInForce": "GTC",
            }
        if order.take_profit is not None:
            wanted["takeProfitOnFill"] = {
                "price": decimal_text(order.take_profit),
                "timeInForce": "GTC",
            }
        body = {"order": wanted}
        return await self._change("order", "POST", "/orders", body, closing=order.reduce_only)

    async def cancel(self, order_id: str) -> OrderAnswer:
        """Cancel a pending order."""
        return await self._change(
            "order cancel", "PUT", f"/orders/{quote(order_id, safe='@')}/cancel"
        )

    async def close_trade(self, trade_id: str, units: Decimal | None = None) -> OrderAnswer:
        """Close a trade, or ``units`` (positive) of it.

        The request is sent even while the breaker is open. OANDA accepts no client id here: its
        transactions name the trade (``tradeClose``).

        Parameters
        ----------
        trade_id
            OANDA's id, or ``@`` and the client id of the trade.
        """
        body = {"units": "ALL" if units is None else decimal_text(units)}
        path = f"/trades/{quote(trade_id, safe='@')}/close"
        return await self._change("trade close", "PUT", path, body, closing=True)

    async def close_position(
        self, instrument: str, side: str, units: Decimal | None = None, *, client_id: str = ""
    ) -> OrderAnswer:
        """Close one side (``long``, ``short``) of a position, or ``units`` (positive) of it.

        The other side is not part of the request: OANDA may refuse to close an empty side.
        ``client_id`` becomes the client id of the order.
        """
        other = {"long": "short", "short": "long"}[side]
        amount = "ALL" if units is None else decimal_text(units)
        path = f"/positions/{quote(instrument, safe='')}/close"
        body: dict[str, Any] = {f"{side}Units": amount, f"{other}Units": "NONE"}
        if client_id:
            body[f"{side}ClientExtensions"] = {"id": client_id}
        return await self._change("position close", "PUT", path, body, closing=True)

    async def set_brackets(
        self, trade_id: str, prices: Mapping[str, Decimal | None]
    ) -> Mapping[str, Any]:
        """Replace brackets of an open trade (``stopLoss``, ``takeProfit``); idempotent.

        None removes a bracket; brackets that are not passed stay unchanged.
        """
        body = {
            name: None if price is None else {"price": decimal_text(price), "timeInForce": "GTC"}
            for name, price in prices.items()
        }
        path = f"{self._account}/trades/{quote(trade_id, safe='@')}/orders"
        content: Mapping[str, Any] = (await self.change("brackets", "PUT", path, body)).content
        return content

    async def raw(self, endpoint: str, query: Query = ()) -> Mapping[str, Any]:
        """Return OANDA's JSON for a part of the account.

        Parameters
        ----------
        endpoint
            ``account``, ``summary``, ``positions``, ``openPositions``, ``openTrades``,
            ``instruments``, ``pendingOrders`` or ``pricing``.
        """
        paths = {
            "account": "",
            "summary": "/summary",
            "positions": "/positions",
            "openPositions": "/openPositions",
            "openTrades": "/openTrades",
            "instruments": "/instruments",
            "pendingOrders": "/pendingOrders",
            "pricing": "/pricing",
        }
        answer = await self.ask(endpoint, f"{self._account}{paths[endpoint]}", query)
        content: Mapping[str, Any] = answer.content
        return content

    async def _fields(self, endpoint: str, path: str, query: Query = ()) -> Fields:
        answer = await self.ask(endpoint, f"{self._account}{path}", query)
        return Fields(answer.content, endpoint)

    async def _change(
        self,
        endpoint: str,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        closing: bool = False,
    ) -> OrderAnswer:
        answer: Answer = await self.change(
            endpoint, method, f"{self._account}{path}", body, closing=closing
        )
        problem: NotAsDescribed | None = None
        try:
            return transactions.order_answer_of(answer.content, endpoint)
        except NotAsDescribed as error:
            problem = error
        raise AnswerLost(f"{problem}; it was carried out, but its result is not known")


def rfc3339(at_ms: int) -> str:
    """Return a time in OANDA's format (RFC 3339)."""
    at = datetime.fromtimestamp(at_ms // 1000, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03d}000000Z"


def decimal_text(number: Decimal) -> str:
    """Return a number without an exponent, as OANDA requires."""
    return f"{number:f}"
