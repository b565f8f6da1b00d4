"""OANDA as a venue: maps the client's answers to the types of `Broker`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from streams.config.oanda import Oanda
from streams.config.trading import Trading
from streams.oanda.answers import rejects_of
from streams.oanda.client import MarketOrder, OandaClient, PriceQuotes
from streams.oanda.errors import AnswerLost, OrderRefused, RequestRefused
from streams.oanda.metrics import OandaCollector
from streams.oanda.shapes import HomeRate, InstrumentSpec, PositionState
from streams.oanda.transactions import OrderAnswer, TransactionState
from streams.trading.brokers.broker import (
    Account,
    BracketKind,
    InstrumentTerms,
    Mode,
    OpenTrade,
    OrderRequest,
    OrderResult,
    OutcomeUnknown,
    PendingOrder,
    Position,
    Quote,
)
from streams.trading.brokers.conversion import base_currency, quote_currency
from streams.trading.brokers.nameless_orders import NamelessOrders
from streams.trading.brokers.trade_closings import TradeClosings
from streams.trading.brokers.transaction import Cause, Transaction
from streams.trading.brokers.units import MOST_DIGITS, ZERO

BRACKETS = ("STOP_LOSS", "TAKE_PROFIT", "TRAILING_STOP_LOSS", "GUARANTEED_STOP_LOSS")
MAKES_BRACKET: dict[BracketKind, tuple[str, ...]] = {
    "stop": ("STOP_LOSS_ORDER", "TRAILING_STOP_LOSS_ORDER", "GUARANTEED_STOP_LOSS_ORDER"),
    "target": ("TAKE_PROFIT_ORDER",),
}
CAUSES: dict[str, Cause] = {
    "STOP_LOSS_ORDER": "stop_loss",
    "TRAILING_STOP_LOSS_ORDER": "stop_loss",
    "GUARANTEED_STOP_LOSS_ORDER": "stop_loss",
    "TAKE_PROFIT_ORDER": "take_profit",
}
OF_AN_ORDER = ("MARKET_ORDER", "MARKET_ORDER_POSITION_CLOSEOUT")
NO_LONGER_PENDING = {"FILLED": "filled", "CANCELLED": "cancelled"}


class OandaBroker:
    """A `Broker` on an account at OANDA.

    Parameters
    ----------
    client
        Connected; ``aclose`` closes it.
    settle_sec
        Seconds for which an order that was sent may not be visible yet.
    """

    price_interval_ms = 0
    closes_by_trade = True

    def __init__(self, client: OandaClient, settle_sec: float) -> None:
        settings = client.settings
        self._client, self.settle_sec = client, settle_sec
        self.account_id = settings.oanda_account_id
        self.mode: Mode = "live" if settings.oanda_environment == "live" else "practice"
        self._currency, self._said_ms = "", 0
        self._rates: dict[str, float] = {}
        self._specs: dict[str, InstrumentSpec] = {}
        self._closing, self._nameless = TradeClosings(), NamelessOrders()
        self._asked, self.takes_client_ids = False, True

    def expect_access(self) -> None:
        """Retry after a refusal of the token, as during a run."""
        self._client.access.expect()

    def now_ms(self) -> int:
        """Return the estimated clock of OANDA, which never goes backwards.

        Every answer improves the estimate, in either direction.
        """
        now_ms = self._client.now_ms()
        if self._client.clock.skew_ms is None:
            return now_ms  # no estimate yet: not to be used as a lower bound later
        self._said_ms = max(self._said_ms, now_ms)
        return self._said_ms

    async def account(self) -> Account:
        """Return the account's money."""
        await self._look_at_kind()
        found = await self._client.account_summary()
        self._currency = found.currency
        return Account(
            self.account_id,
            found.currency,
            float(found.balance),
            float(found.nav),
            float(found.margin_used),
            float(found.margin_available),
            float(found.unrealized_pl),
            found.last_transaction_id,
            found.open_trades,
        )

    async def _look_at_kind(self) -> None:
        """Query once whether the account accepts client ids, which decides how transactions are
        read."""
        if not self._asked:
            known = await self._client.account_properties()
            self.takes_client_ids = known is None or known.mt4_account_id is None
            self._asked = True

    async def instruments(self, names: Sequence[str]) -> Mapping[str, InstrumentTerms]:
        """Return the terms of those of ``names`` that the account may trade."""
        if not all(name in self._specs for name in names):
            self._specs = await self._client.instruments()
        return {name: _terms(self._specs[name]) for name in names if name in self._specs}

    async def quotes(self, names: Sequence[str]) -> Mapping[str, Quote]:
        """Return the newest prices; the conversions that come with them serve ``home_rates``."""
        if not names:
            return {}
        try:
            answers = [await self._client.prices(names, home_rates=True)]
        except RequestRefused:
            # one name that the account does not have makes OANDA refuse the whole request
            self._specs = {}
            answers = [p for name in names if (p := await self._price(name)) is not None]
        quotes = {
            p.instrument: Quote(p.instrument, p.bid, p.ask, p.time_ms, p.tradeable)
            for found in answers
            for p in found.prices
        }
        self._rates = _rates([rate for found in answers for rate in found.home_rates], quotes)
        return quotes

    async def _price(self, name: str) -> PriceQuotes | None:
        try:
            return await self._client.prices([name], home_rates=True)
        except RequestRefused:
            return None

    async def home_rates(self, currencies: Sequence[str]) -> Mapping[str, float]:
        """Return the conversion rates that came with the last ``quotes``."""
        known = self._rates | ({self._currency: 1.0} if self._currency else {})
        return {currency: known[currency] for currency in currencies if currency in known}

    async def positions(self) -> Sequence[Position]:
        """Return the positions by instrument."""
        return [_position(found) for found in await self._client.open_positions()]

    async def trades(self) -> Sequence[OpenTrade]:
        """Return the open trades, oldest first."""
        found = [
            OpenTrade(
                t.trade_id, t.instrument, t.units, t.price, t.opened_ms, t.client_id,
                t.stop_loss, t.take_profit, float(t.unrealized_pl), t.trailing_stop,
            )
            for t in await self._client.open_trades()
        ]  # fmt: skip
        return sorted(found, key=lambda trade: (trade.opened_ms, trade.trade_id))

    async def orders(self) -> Sequence[PendingOrder]:
        """Return the pending orders, without the brackets of trades."""
        return [
            PendingOrder(o.order_id, o.instrument, o.units, o.client_id)
            for o in await self._client.pending_orders()
            if o.kind not in BRACKETS
        ]

    async def transactions(self, since_id: str) -> Sequence[Transaction]:
        """Return all transactions after ``since_id``."""
        await self._look_at_kind()
        found = []
        for one in await self._client.transactions_since(since_id):
            self._closing.note(one)
            self._nameless.note(one)
            made = _booked(one, self._closing.trade_of(one))
            found.append(made._replace(ordered=self._nameless.ordered(one)))
        return found

    async def submit(self, request: OrderRequest) -> OrderResult:
        """Send an order, once.

        Raises
        ------
        OutcomeUnknown
            OANDA may have received it.
        Recoverable
            It was not sent.
        """
        try:
            answer = await self._sent(request)
        except AnswerLost as error:
            raise OutcomeUnknown(str(error)) from error
        except OrderRefused as error:
            return OrderResult(
                request.client_id, "rejected", ZERO, None, self.now_ms(), reason=error.code
                or str(error), transaction_id=_rejected_id(error.content),
                raw=_text(error.content),
            )  # fmt: skip
        return _result(request.client_id, answer, self.now_ms())

    async def _sent(self, request: OrderRequest) -> OrderAnswer:
        client_id = request.client_id if self.takes_client_ids else ""
        if request.close_by == "trade":
            return await self._client.close_trade(request.trade_id)
        if request.close_by == "position":
            side = "short" if request.units > 0 else "long"
            return await self._client.close_position(request.instrument, side, client_id=client_id)
        order = MarketOrder(
            client_id,
            request.instrument,
            request.units,
            request.reduce_only,
            _maybe_decimal(request.stop_loss),
            _maybe_decimal(request.take_profit),
            _maybe_decimal(request.price_bound),
        )
        return await self._client.submit(order)

    async def lookup(self, client_id: str) -> OrderResult | None:
        """Return the result of an order; None when OANDA has none with this id."""
        if not self.takes_client_ids:
            return None
        found = await self._client.order_by_client_id(client_id)
        if found is None:
            return None
        end_id = found.fill_id or found.cancel_id
        if found.state not in NO_LONGER_PENDING or end_id is None:
            return OrderResult(
                client_id, "pending", ZERO, None, found.created_ms, (found.order_id,)
            )
        return _ended(client_id, await self._client.transaction(end_id), found.order_id)

    async def set_levels(
        self, trade_id: str, stop_loss: float | None, take_profit: float | None
    ) -> None:
        """Replace brackets of an open trade; None leaves one unchanged."""
        wanted = {"stopLoss": stop_loss, "takeProfit": take_profit}
        given = {name: Decimal(repr(price)) for name, price in wanted.items() if price is not None}
        await self._client.set_brackets(trade_id, given)

    async def bracket_ended(self, trade_id: str, kind: BracketKind) -> str:
        """Return why the last stop or target of an open trade ended; "" when it never had one.

        A trade has the id of the transaction that opened it: its brackets have later ids.
        """
        made, ended = set[str](), ""
        for one in await self._client.transactions_since(trade_id):
            if one.kind in MAKES_BRACKET[kind] and one.content.get("tradeID") == trade_id:
                made.add(one.transaction_id)
            elif one.kind == "ORDER_CANCEL" and one.order_id in made:
                ended = one.reason or ""
        return ended

    def collector(self) -> OandaCollector:
        """Return the collector of metrics on requests to OANDA."""
        return OandaCollector(self._client, {})

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()


async def open_oanda(trading: Trading) -> OandaBroker:
    """Return the broker of the OANDA settings in the environment.

    Raises
    ------
    Fatal
        A setting is missing or does not fit another.
    """
    client = OandaClient(Oanda.from_env())
    await client.__aenter__()
    return OandaBroker(client, trading.order_settle_sec)


def _terms(spec: InstrumentSpec) -> InstrumentTerms:
    return InstrumentTerms(
        spec.name,
        spec.price_digits,
        min(spec.units_digits, MOST_DIGITS),
        spec.min_units,
        spec.max_units,
        float(spec.margin_rate),
        10.0**spec.pip_location,
    )


def _rates(given: Sequence[HomeRate], quotes: Mapping[str, Quote]) -> dict[str, float]:
    # the higher of the two rates: a size is rather too small than too large
    rates = {rate.currency: float(max(rate.gain, rate.loss)) for rate in given}
    for name, quote in quotes.items():
        base, worth = base_currency(name), rates.get(quote_currency(name))
        if base not in rates and worth is not None:
            rates[base] = quote.ask * worth
    return rates


def _position(found: PositionState) -> Position:
    units = found.long.units + found.short.units
    side = found.long if units >= 0 else found.short
    return Position(
        found.instrument,
        units,
        side.average_price or 0.0,
        float(found.unrealized_pl),
        float(found.margin_used),
        (*found.long.trade_ids, *found.short.trade_ids),
    )


def _booked(found: TransactionState, closes_trade: str) -> Transaction:
    kind: Any = "other"
    if found.kind == "ORDER_FILL":
        kind = "fill"
    elif found.kind == "ORDER_CANCEL":
        kind = "cancel"
    elif found.kind.endswith("_REJECT"):
        kind = "reject"
    ours = found.reason in OF_AN_ORDER and bool(found.client_id)
    cause: Cause = "order" if ours else CAUSES.get(found.reason or "", "other")
    filled = kind == "fill"
    return Transaction(
        found.transaction_id,
        kind,
        found.time_ms,
        found.instrument,
        found.client_id,
        cause,
        found.units if filled else ZERO,
        found.price if filled else None,
        float(found.realized_pl) if filled and found.realized_pl is not None else None,
        found.trade_ids,
        None if cause == "order" and filled else found.reason,
        _text(found.content),
        _reduced(found) if filled else (),
        closes_trade,
        None if found.amount is None else float(found.amount),
        None if found.balance is None else float(found.balance),
    )


def _reduced(found: TransactionState) -> tuple[tuple[str, Decimal], ...]:
    content = found.content
    changed = [content["tradeReduced"]] if content.get("tradeReduced") else []
    changed += content.get("tradesClosed") or []
    return tuple((str(trade["tradeID"]), Decimal(str(trade["units"]))) for trade in changed)


def _result(client_id: str, answer: OrderAnswer, now_ms: int) -> OrderResult:
    order_id = answer.created.transaction_id if answer.created else ""
    end = answer.filled or answer.cancelled
    if end is None:
        return OrderResult(client_id, "pending", ZERO, None, now_ms, (order_id,))
    return _ended(client_id, end, order_id)


def _ended(client_id: str, end: TransactionState, order_id: str) -> OrderResult:
    filled = end.kind == "ORDER_FILL"
    return OrderResult(
        client_id,
        "filled" if filled else "cancelled",
        end.units if filled else ZERO,
        end.price if filled else None,
        end.time_ms,
        tuple(i for i in (order_id, end.transaction_id) if i),
        end.trade_ids,
        float(end.realized_pl) if filled and end.realized_pl is not None else None,
        None if filled else end.reason,
        end.transaction_id,
        _text(end.content),
    )


def _rejected_id(content: Mapping[str, Any]) -> str:
    return next((str(one["id"]) for one in rejects_of(content) if "id" in one), "")


def _maybe_decimal(number: float | None) -> Decimal | None:
    return None if number is None else Decimal(repr(number))


def _text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
