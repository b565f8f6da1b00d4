"""The endpoints of OANDA's v20 REST API that the product uses (docs/spec/trading-loop.md 5.5).

Questions are repeated when they fail; what changes something is sent once.
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
    OrderState,
    PositionState,
    Price,
    TradeState,
)
from streams.oanda.transactions import OrderAnswer, TransactionState
from streams.oanda.transport import Query, Sleep, Transport

LONGEST_PAGE = 5000
"""OANDA gives no more candles at once."""
MOST_PAGES = 1000


class Prices(NamedTuple):
    """Prices, and what currencies are worth in the account's."""

    prices: tuple[Price, ...]
    home_rates: tuple[HomeRate, ...]


class MarketOrder(NamedTuple):
    """A market order, all or nothing.

    Attributes
    ----------
    client_id
        Our id of the order, and of the trade that it opens; empty where none may be given.
    units
        Signed, in the instrument's precision.
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


class OandaClient(Transport):
    """OANDA's account, prices and orders. Use it as an async context manager.

    Every method raises as ``Transport.ask``, or where it changes something as
    ``Transport.change``; what is read of an answer is checked (``NotAsDescribed``).
    """

    def __init__(self, settings: Oanda, sleep: Sleep = asyncio.sleep) -> None:
        super().__init__(settings, sleep)
        self._account = f"/v3/accounts/{quote(settings.oanda_account_id, safe='')}"

    async def candles(
        self, instrument: str, granularity: str, from_ms: int, count: int = LONGEST_PAGE
    ) -> tuple[BrokerCandle, ...]:
        """Return the candles from the bar that starts at ``from_ms`` on, the present one last.

        Parameters
        ----------
        count
            Most of them, up to 5000.
        """
        query = [
            # bid and ask say all that OANDA's own mid does, and more exactly (docs/mid-price.md)
            ("price", "BA"),
            ("granularity", granularity),
            ("from", rfc3339(from_ms)),
            ("count", str(count)),
        ]
        if GRANULARITY_MS[granularity] > GRANULARITY_MS["H1"]:
            # else they begin by New York's clock, an hour later in winter
            query += [("dailyAlignment", "0"), ("alignmentTimezone", "UTC")]
        path = f"/v3/instruments/{quote(instrument, safe='')}/candles"
        endpoint = f"candles of {instrument}"
        answer = await self.ask("candles", path, query)
        return shapes.candles_of(answer.content, endpoint, instrument, granularity)

    async def prices(self, instruments: Sequence[str], *, home_rates: bool = False) -> Prices:
        """Return the newest prices; instruments without a bid or an ask are left out."""
        query = [("instruments", ",".join(instruments))]
        if home_rates:
            query.append(("includeHomeConversions", "true"))
        fields = await self._fields("pricing", "/pricing", query)
        found = [shapes.price_of(each) for each in fields.each("prices")]
        rates = fields.each("homeConversions") if fields.has("homeConversions") else ()
        return Prices(
            tuple(price for price in found if price is not None),
            tuple(shapes.home_rate_of(each) for each in rates),
        )

    async def account_summary(self) -> AccountSummary:
        """Return the account's money."""
        fields = await self._fields("account summary", "/summary")
        return shapes.summary_of(fields.part("account"))

    async def account_properties(self) -> AccountProperties | None:
        """Return what the list of accounts says of ours; None when it is not in it."""
        fields = Fields((await self.ask("accounts", "/v3/accounts")).content, "accounts")
        found = [shapes.properties_of(each) for each in fields.each("accounts")]
        return next((a for a in found if a.account_id == self.settings.oanda_account_id), None)

    async def instruments(self) -> dict[str, InstrumentSpec]:
        """Return the terms of every instrument of the account."""
        fields = await self._fields("instruments", "/instruments")
        found = [shapes.instrument_of(each) for each in fields.each("instruments")]
        return {one.name: one for one in found}

    async def open_positions(self) -> tuple[PositionState, ...]:
        """Return what is held."""
        fields = await self._fields("open positions", "/openPositions")
        return tuple(shapes.position_of(each) for each in fields.each("positions"))

    async def open_trades(self) -> tuple[TradeState, ...]:
        """Return the open trades, newest first as OANDA lists them."""
        fields = await self._fields("open trades", "/openTrades")
        return tuple(shapes.trade_of(each) for each in fields.each("trades"))

    async def pending_orders(self) -> tuple[OrderState, ...]:
        """Return the orders that wait, brackets of trades included."""
        fields = await self._fields("pending orders", "/pendingOrders")
        return tuple(shapes.order_of(each) for each in fields.each("orders"))

    async def order_by_client_id(self, client_id: str) -> OrderState | None:
        """Return the order that we gave this id, None when OANDA has none."""
        path = f"/orders/{quote(f'@{client_id}', safe='@')}"
        try:
            fields = await self._fields("order", path)
        except RequestRefused as error:
            # an address that is wrong altogether has no such word in its answer
            if error.status == 404 and error.code:
                return None
            raise
        return shapes.order_of(fields.part("order"))

    async def transaction(self, transaction_id: str) -> TransactionState:
        """Return one entry of the account's book."""
        path = f"/transactions/{quote(transaction_id, safe='')}"
        fields = await self._fields("transaction", path)
        return transactions.transaction_of(fields.part("transaction"))

    async def transactions_since(self, last_id: str) -> tuple[TransactionState, ...]:
        """Return everything booked after ``last_id``, in order, however many answers it takes."""
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
        raise NotAsDescribed(f"OANDA's transactions since {last_id} do not come to an end")

    async def submit(self, order: MarketOrder) -> OrderAnswer:
        """Send a market order, once.

        Raises
        ------
        AnswerLost
            OANDA may have it: look it up by its client id.
        OrderRefused
            OANDA refused it.
        """
        wanted: dict[str, Any] = {
            "type": "MARKET",
            "instrument": order.instrument,
            "units": plain(order.units),
            "timeInForce": "FOK",
            # DEFAULT would close a trade of somebody else that goes the other way
            "positionFill": "REDUCE_ONLY" if order.reduce_only else "OPEN_ONLY",
        }
        if order.client_id:
            wanted["clientExtensions"] = {"id": order.client_id}
        if order.client_id and not order.reduce_only:
            wanted["tradeClientExtensions"] = {"id": order.client_id}
        if order.price_bound is not None:
            wanted["priceBound"] = plain(order.price_bound)
        if order.stop_loss is not None:
            wanted["stopLossOnFill"] = {"price": plain(order.stop_loss), "timeInForce": "GTC"}
        if order.take_profit is not None:
            wanted["takeProfitOnFill"] = {"price": plain(order.take_profit), "timeInForce": "GTC"}
        body = {"order": wanted}
        return await self._change("order", "POST", "/orders", body, closing=order.reduce_only)

    async def cancel(self, order_id: str) -> OrderAnswer:
        """Cancel an order that waits."""
        return await self._change(
            "order cancel", "PUT", f"/orders/{quote(order_id, safe='@')}/cancel"
        )

    async def close_trade(self, trade_id: str, units: Decimal | None = None) -> OrderAnswer:
        """Close a trade, or ``units`` (positive) of it.

        Closing goes out although questions failed before. OANDA takes no client id with it: its
        transactions name the trade (``tradeClose``).

        Parameters
        ----------
        trade_id
            OANDA's id, or ``@`` and the client id of the trade.
        """
        body = {"units": "ALL" if units is None else plain(units)}
        path = f"/trades/{quote(trade_id, safe='@')}/close"
        return await self._change("trade close", "PUT", path, body, closing=True)

    async def close_position(
        self, instrument: str, side: str, units: Decimal | None = None, *, client_id: str = ""
    ) -> OrderAnswer:
        """Close one side (``long``, ``short``) of a position, or ``units`` (positive) of it.

        The other side is not named: OANDA may refuse to close a side that holds nothing.
        ``client_id`` becomes the client id of the order.
        """
        other = {"long": "short", "short": "long"}[side]
        amount = "ALL" if units is None else plain(units)
        path = f"/positions/{quote(instrument, safe='')}/close"
        body: dict[str, Any] = {f"{side}Units": amount, f"{other}Units": "NONE"}
        if client_id:
            body[f"{side}ClientExtensions"] = {"id": client_id}
        return await self._change("position close", "PUT", path, body, closing=True)

    async def set_brackets(
        self, trade_id: str, prices: Mapping[str, Decimal | None]
    ) -> Mapping[str, Any]:
        """Replace brackets of an open trade (``stopLoss``, ``takeProfit``); may be repeated.

        None takes one away; one that is not named stays as it is.
        """
        body = {
            name: None if price is None else {"price": plain(price), "timeInForce": "GTC"}
            for name, price in prices.items()
        }
        path = f"{self._account}/trades/{quote(trade_id, safe='@')}/orders"
        content: Mapping[str, Any] = (await self.change("brackets", "PUT", path, body)).content
        return content

    async def passed_through(self, endpoint: str, query: Query = ()) -> Mapping[str, Any]:
        """Return OANDA's own words for a part of the account.

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
        raise AnswerLost(f"{problem}; it was carried out, but what became of it is not known")


def rfc3339(at_ms: int) -> str:
    """Return a time as OANDA writes it."""
    at = datetime.fromtimestamp(at_ms // 1000, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03d}000000Z"


def plain(number: Decimal) -> str:
    """Return a number without an exponent, as OANDA wants it."""
    return f"{number:f}"
