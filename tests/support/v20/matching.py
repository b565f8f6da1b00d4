"""How orders become fills: prices, netting, margin, brackets; all it does is transactions."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from tests.support.v20.account import Account, Trade
from tests.support.v20.amounts import ZERO, factor, money, rfc3339, rounded, units_text
from tests.support.v20.fifo import fifo_refusal
from tests.support.v20.instruments import INSTRUMENTS, Instrument
from tests.support.v20.market import Market, Tick
from tests.support.v20.valuation import Quote, Quotes, factors, figures, margin, profit
from tests.support.v20.views import LADDER, price_json

Json = dict[str, Any]

FILL_REASONS = {
    "LIMIT": "LIMIT_ORDER",
    "STOP": "STOP_ORDER",
    "MARKET_IF_TOUCHED": "MARKET_IF_TOUCHED_ORDER",
    "TAKE_PROFIT": "TAKE_PROFIT_ORDER",
    "STOP_LOSS": "STOP_LOSS_ORDER",
    "TRAILING_STOP_LOSS": "TRAILING_STOP_LOSS_ORDER",
}
BRACKETS = (
    ("takeProfitOnFill", "TAKE_PROFIT"),
    ("stopLossOnFill", "STOP_LOSS"),
    ("trailingStopLossOnFill", "TRAILING_STOP_LOSS"),
)


class Batch:
    """The transactions of one request or one event, applied together.

    Parameters
    ----------
    account
        Where they go.
    time_ns
        Their time.
    request_id
        Of the request that makes them; None for the market's doing.
    written
        Called with the account and all of them by ``close``.
    """

    def __init__(
        self,
        account: Account,
        time_ns: int,
        request_id: str | None,
        written: Callable[[Account, list[Json]], None],
    ) -> None:
        self.account = account
        self.time_ns = time_ns
        self.made: list[Json] = []
        self._request_id = request_id
        self._first = str(len(account.transactions) + 1)
        self._written = written

    @property
    def ids(self) -> list[str]:
        """Ids made so far."""
        return [each["id"] for each in self.made]

    @property
    def next_id(self) -> str:
        """Id that the next transaction will get."""
        return str(len(self.account.transactions) + 1)

    def add(self, kind: str, **fields: Any) -> Json:
        """Make and apply one transaction."""
        transaction: Json = {
            "id": self.next_id,
            "accountID": self.account.id,
            "userID": self.account.user_id,
            "batchID": self._first,
            "time": rfc3339(self.time_ns),
            "type": kind,
            **fields,
        }
        if self._request_id is not None:
            transaction["requestID"] = self._request_id
        self.account.apply(transaction)
        self.made.append(transaction)
        return transaction

    def close(self) -> None:
        """Hand them over; nothing may be added after."""
        if self.made:
            self._written(self.account, self.made)


class Matcher:
    """Fills and cancels orders of one batch at one instant's prices."""

    def __init__(self, market: Market, batch: Batch) -> None:
        self.market = market
        self.batch = batch
        self.account = batch.account
        self.time_ms = batch.time_ns // 1_000_000

    def quotes(self, name: str) -> Quote:
        """Return the prices of the batch's instant."""
        tick, instrument = self.market.at(name, self.time_ms), INSTRUMENTS[name]
        return Quote(instrument.price(tick.bid), instrument.price(tick.ask))

    def cancel(self, order: Json, reason: str, **more: str) -> Json:
        """Cancel a pending order."""
        client_id = order.get("clientExtensions", {}).get("id")
        named = {"clientOrderID": client_id} if client_id else {}
        return self.batch.add("ORDER_CANCEL", orderID=order["id"], reason=reason, **named, **more)

    def execute(self, order: Json, tick: Tick | None = None) -> Json:
        """Fill an order now, or cancel it with the reason why not; return that transaction."""
        trade = self.account.open.get(order.get("tradeID", ""))
        closing = order.get("tradeClose")
        if closing is not None:
            trade = self.account.open[closing["tradeID"]]
        name = trade.instrument if trade is not None else order["instrument"]
        tick = tick or self.market.at(name, self.time_ms)
        if not self.market.trading(name, self.time_ms):
            return self.cancel(order, "MARKET_HALTED")
        units = Decimal(order["units"]) if "units" in order else -self._held(order)
        return self._fill(order, INSTRUMENTS[name], units, tick, trade)

    def _held(self, order: Json) -> Decimal:
        return self.account.open[order["tradeID"]].units

    def _fill(
        self, order: Json, instrument: Instrument, units: Decimal, tick: Tick, only: Trade | None
    ) -> Json:
        deep = sum(there for _, there in LADDER)
        if abs(units) > deep:
            if order.get("timeInForce") != "IOC":
                return self.cancel(order, "INSUFFICIENT_LIQUIDITY")
            units = Decimal(deep).copy_sign(units)
        price = fill_price(instrument, tick, units)
        if order.get("guaranteed"):
            price = Decimal(order["price"])
        bound = order.get("priceBound")
        if bound is not None and (price - Decimal(bound)) * units > 0:
            return self.cancel(order, "BOUNDS_VIOLATION")
        closed, opened = self._split(order, instrument, units, only)
        bracketed = any(order.get(name) for name, _ in BRACKETS)
        refusal = self._refusal(order, instrument, price, opened, closed) or fifo_refusal(
            self.account, instrument.name, closed, opened, bracketed, only
        )
        if refusal:
            return self.cancel(order, refusal)
        return self._filled(order, instrument, price, tick, closed, opened)

    def _split(
        self, order: Json, instrument: Instrument, units: Decimal, only: Trade | None
    ) -> tuple[list[tuple[Trade, Decimal]], Decimal]:
        """Return which trades are reduced by how much, oldest first, and what is opened."""
        fill = order.get("positionFill", "REDUCE_ONLY" if only else "DEFAULT")
        left, closed = units, []
        trades = [only] if only else list(self.account.open.values())
        for trade in trades:
            if trade.instrument == instrument.name and trade.units * left < 0:
                taken = min(abs(trade.units), abs(left)).copy_sign(left)
                closed.append((trade, taken))
                left -= taken
        if fill == "REDUCE_ONLY" or only is not None:
            left = ZERO
        return closed, left

    def _refusal(
        self,
        order: Json,
        instrument: Instrument,
        price: Decimal,
        opened: Decimal,
        closed: list[tuple[Trade, Decimal]],
    ) -> str | None:
        if not opened and not closed:
            return "POSITION_CLOSEOUT_FAILED"
        if order.get("positionFill") == "OPEN_ONLY" and closed:
            return "FIFO_VIOLATION"
        if not opened:
            return None
        quotes = self.quotes
        need = margin(self.account, instrument, opened, quotes)
        freed = sum((margin(self.account, instrument, u, quotes) for _, u in closed), ZERO)
        found = figures(self.account, quotes)
        if need > found.nav - found.margin_used + freed:
            return "INSUFFICIENT_MARGIN"
        return self._bracket_refusal(order, instrument, price, opened)

    def _bracket_refusal(
        self, order: Json, instrument: Instrument, price: Decimal, opened: Decimal
    ) -> str | None:
        trade_id = order.get("tradeClientExtensions", {}).get("id")
        if trade_id and self.account.open_by_client_id(trade_id):
            return "CLIENT_TRADE_ID_ALREADY_EXISTS"
        quote = self.quotes(instrument.name)
        exit_price = quote.bid if opened > 0 else quote.ask
        stop, take = order.get("stopLossOnFill", {}), order.get("takeProfitOnFill", {})
        if "price" in stop and (exit_price - Decimal(stop["price"])) * opened <= 0:
            return "STOP_LOSS_ON_FILL_LOSS"
        if "price" in take and (Decimal(take["price"]) - price) * opened <= 0:
            return "TAKE_PROFIT_ON_FILL_LOSS"
        return None

    def _filled(
        self,
        order: Json,
        instrument: Instrument,
        price: Decimal,
        tick: Tick,
        closed: list[tuple[Trade, Decimal]],
        opened: Decimal,
    ) -> Json:
        quotes, home = self.quotes, self.account.currency
        found = factors(instrument.quote, home, quotes)
        half = instrument.price(tick.ask - tick.bid) / 2

        def cost(units: Decimal) -> str:
            return money(half * abs(units) * found.mid)

        reduced: list[Json] = []
        total = ZERO
        for trade, units in closed:
            gain = profit(instrument, home, -units * (price - trade.price), quotes)
            total += gain
            reduced.append(
                {
                    "tradeID": trade.id,
                    "units": units_text(units),
                    "price": instrument.text(price),
                    "realizedPL": money(gain),
                    "financing": money(ZERO),
                    "guaranteedExecutionFee": money(ZERO),
                    "halfSpreadCost": cost(units),
                }
            )
        units = opened + sum((u for _, u in closed), ZERO)
        fields: Json = {
            "orderID": order["id"],
            "instrument": instrument.name,
            "units": units_text(units),
            "requestedUnits": order.get("units", units_text(units)),
            "price": instrument.text(price),
            "fullVWAP": instrument.text(price),
            "fullPrice": full_price(instrument.name, tick, quotes),
            "gainQuoteHomeConversionFactor": factor(found.gain),
            "lossQuoteHomeConversionFactor": factor(found.loss),
            "reason": fill_reason(order),
            "pl": money(total),
            "financing": money(ZERO),
            "commission": money(ZERO),
            "guaranteedExecutionFee": money(ZERO),
            "accountBalance": money(rounded(self.account.balance + total)),
            "halfSpreadCost": cost(units),
        }
        client_id = order.get("clientExtensions", {}).get("id")
        if client_id:
            fields["clientOrderID"] = client_id
        whole = [r for r, (t, u) in zip(reduced, closed, strict=True) if t.units + u == 0]
        partly = [r for r in reduced if r not in whole]
        if whole:
            fields["tradesClosed"] = whole
        if partly:
            fields["tradeReduced"] = partly[0]
        if opened:
            fields["tradeOpened"] = self._opened(order, instrument, price, opened, cost(opened))
        filled = self.batch.add("ORDER_FILL", **fields)
        self._cancel_dependents(closed)
        if opened:
            self._bracket(order, filled)
        return filled

    def _opened(
        self, order: Json, instrument: Instrument, price: Decimal, opened: Decimal, cost: str
    ) -> Json:
        made: Json = {
            "tradeID": self.batch.next_id,
            "units": units_text(opened),
            "price": instrument.text(price),
            "guaranteedExecutionFee": money(ZERO),
            "halfSpreadCost": cost,
            "initialMarginRequired": money(margin(self.account, instrument, opened, self.quotes)),
        }
        if order.get("tradeClientExtensions"):
            made["clientExtensions"] = order["tradeClientExtensions"]
        return made

    def _cancel_dependents(self, closed: list[tuple[Trade, Decimal]]) -> None:
        for trade, _ in closed:
            if trade.state == "CLOSED":
                for order_id in list(trade.orders.values()):
                    self.cancel(self.account.orders[order_id], "LINKED_TRADE_CLOSED")

    def _bracket(self, order: Json, filled: Json) -> None:
        trade = self.account.trades[filled["tradeOpened"]["tradeID"]]
        for name, kind in BRACKETS:
            details = order.get(name)
            if details is not None:
                self.batch.add(
                    f"{kind}_ORDER",
                    **dependent_fields(trade, details, kind == "TRAILING_STOP_LOSS"),
                    reason="ON_FILL",
                    orderFillTransactionID=filled["id"],
                )


def dependent_fields(trade: Trade, details: Json, trailing: bool = False) -> Json:
    """Return the fields of an order that depends on a trade."""
    fields: Json = {"tradeID": trade.id}
    if trade.client_id:
        fields["clientTradeID"] = trade.client_id
    fields |= details | {"triggerCondition": "DEFAULT"}
    if "distance" in details and not trailing:
        instrument = INSTRUMENTS[trade.instrument]
        away = Decimal(details["distance"]).copy_sign(trade.units)
        fields["price"] = instrument.text(trade.price - away)
    return fields


def fill_price(instrument: Instrument, tick: Tick, units: Decimal) -> Decimal:
    """Return the average price of so many units over the ladder, in the instrument's precision."""
    best, step = (tick.ask, 1) if units > 0 else (tick.bid, -1)
    left, paid = abs(units), ZERO
    for away, there in LADDER:
        taken = min(left, Decimal(there))
        paid += taken * instrument.price(best + step * away)
        left -= taken
    return Decimal(instrument.text(paid / abs(units)))


def full_price(name: str, tick: Tick, quotes: Quotes) -> Json:
    """Return the whole price that a fill was made at."""
    made = price_json(None, name, tick, True, quotes)
    kept = {k: made[k] for k in ("closeoutBid", "closeoutAsk", "bids", "asks")}
    return kept | {"timestamp": made["time"]}


def fill_reason(order: Json) -> str:
    """Return why a fill happened, by its order."""
    if order["type"] != "MARKET":
        return FILL_REASONS[order["type"]]
    for field, reason in (
        ("tradeClose", "MARKET_ORDER_TRADE_CLOSE"),
        ("longPositionCloseout", "MARKET_ORDER_POSITION_CLOSEOUT"),
        ("shortPositionCloseout", "MARKET_ORDER_POSITION_CLOSEOUT"),
        ("marginCloseout", "MARKET_ORDER_MARGIN_CLOSEOUT"),
    ):
        if field in order:
            return reason
    return "MARKET_ORDER"
