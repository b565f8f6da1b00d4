"""A paper account: orders filled by the rules of the backtest core, as a pure fold over candles.

A market order fills at the open of the first candle that starts at or after it was placed: a buy at
ask, a sell at bid, at mid plus or minus the assumed cost where a candle has no quotes. Stop and
target are those of the run, hit by the same rules (docs/spec/strict-backtest.md 1, steps 1 and 2):
in a bar that opens beyond the stop the fill is the open; in a bar that touches both the stop
counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from streams.records.events import Candle, Ohlc
from streams.trading.brokers.brackets import levels
from streams.trading.brokers.broker import (
    Account,
    InstrumentTerms,
    OpenTrade,
    OrderRequest,
    OrderResult,
    PendingOrder,
    Position,
    Quote,
)
from streams.trading.brokers.conversion import base_currency, home_rates, quote_currency
from streams.trading.brokers.price_bounds import BEYOND_BOUND
from streams.trading.brokers.transaction import Cause, Transaction
from streams.trading.brokers.units import ZERO

BPS = 1e4
MOST_UNITS = Decimal(100_000_000)


class PaperRules:
    """The settings of the account.

    Attributes
    ----------
    balance
        Money at the start, in ``currency``.
    margin_rate
        Margin as a fraction of the notional.
    cost_bps
        Cost per side against mid, in bps, where a candle has no quotes (BACKTEST_COST_BPS).
    """

    def __init__(
        self, account_id: str, balance: float, currency: str, margin_rate: float, cost_bps: float
    ) -> None:
        self.account_id, self.balance, self.currency = account_id, balance, currency
        self.margin_rate, self.cost_bps = margin_rate, cost_bps


@dataclass
class PaperTrade:
    """An open trade; ``units`` are signed, ``bar_ms`` is the bar whose open filled it."""

    trade_id: str
    client_id: str
    instrument: str
    units: Decimal
    price: float
    bar_ms: int
    stop: float | None
    target: float | None


class PaperBook:
    """The account's state.

    Parameters
    ----------
    rules
        The settings of the account.
    realized
        Profit and loss realised so far.
    first_id
        Id of the next transaction.
    """

    def __init__(self, rules: PaperRules, realized: float = 0.0, first_id: int = 1) -> None:
        self._rules, self._realized, self._next_id = rules, realized, first_id
        self._trades: list[PaperTrade] = []
        self._pending: list[OrderRequest] = []
        self._results: dict[str, OrderResult] = {}
        self._bars: dict[str, int] = {}
        self._closes: dict[str, tuple[float, float]] = {}
        self._as_of: dict[str, int] = {}
        self.transactions: list[Transaction] = []

    def restore(self, trade: PaperTrade) -> None:
        """Restore a trade that is open according to the log."""
        self._trades.append(trade)

    def submit(self, request: OrderRequest) -> OrderResult:
        """Accept an order; it waits for its instrument's next candle. A repeated id is refused.

        As at a venue with unique client ids, the first order counts.
        """
        known = self.lookup(request.client_id)
        if known is not None:
            return known._replace(outcome="rejected", units=ZERO, reason="CLIENT_ID_ALREADY_USED")
        self._pending.append(request)
        return OrderResult(request.client_id, "pending", ZERO, None, request.placed_ms)

    def lookup(self, client_id: str) -> OrderResult | None:
        """Return the result of an order of this process, or ``pending``."""
        if any(request.client_id == client_id for request in self._pending):
            return OrderResult(client_id, "pending", ZERO, None, 0)
        return self._results.get(client_id)

    def mark(self, candle: Candle) -> bool:
        """Apply a candle's prices only; return whether it is newer than its instrument's last."""
        if candle.bar_ms <= self._bars.get(candle.instrument, -1):
            return False
        bid, ask = _quotes(candle, self._rules.cost_bps)
        self._bars[candle.instrument] = candle.bar_ms
        self._as_of[candle.instrument] = candle.as_of_ms
        self._closes[candle.instrument] = (bid.close, ask.close)
        return True

    def take(self, candle: Candle) -> list[Transaction]:
        """Apply a candle: fills at its open, stops and targets inside it, the mark at its close.

        A candle that is not newer than its instrument's last changes nothing.
        """
        if candle.bar_ms <= self._bars.get(candle.instrument, -1):
            return []
        name, count = candle.instrument, len(self.transactions)
        bid, ask = _quotes(candle, self._rules.cost_bps)
        # a fill is valued with prices that were known when the bar opened
        self._closes.setdefault(name, (bid.open, ask.open))
        due = [r for r in self._pending if r.instrument == name and candle.bar_ms >= r.placed_ms]
        for request in sorted(due, key=lambda r: not r.reduce_only):
            self._pending.remove(request)
            self._fill(request, candle, bid.open, ask.open)
        for trade in [t for t in self._trades if t.instrument == name]:
            self._touch(trade, candle, bid, ask)
        self.mark(candle)
        return self.transactions[count:]

    def account(self) -> Account:
        """Return the account: balance, and open trades valued at their closing side."""
        unrealized = sum(t.unrealized_pl for t in self.open_trades())
        used = sum(float(abs(t.units)) * self._unit_value(t.instrument) for t in self._trades)
        used *= self._rules.margin_rate
        balance = self._rules.balance + self._realized
        nav = balance + unrealized
        return Account(
            self._rules.account_id,
            self._rules.currency,
            balance,
            nav,
            used,
            max(0.0, nav - used),
            unrealized,
            str(self._next_id - 1),
        )

    def open_trades(self) -> list[OpenTrade]:
        """Return the open trades, oldest first."""
        return [
            OpenTrade(
                t.trade_id, t.instrument, t.units, t.price, t.bar_ms, t.client_id, t.stop, t.target,
                self._gain(t, self._closing_price(t), t.units),
            )
            for t in self._trades
        ]  # fmt: skip

    def positions(self) -> list[Position]:
        """Return the positions by instrument."""
        found: dict[str, list[OpenTrade]] = {}
        for trade in self.open_trades():
            found.setdefault(trade.instrument, []).append(trade)
        return [_position(name, trades) for name, trades in sorted(found.items())]

    def pending(self) -> list[PendingOrder]:
        """Return the pending orders."""
        return [
            PendingOrder(r.client_id, r.instrument, r.units, r.client_id) for r in self._pending
        ]

    def quotes(self) -> dict[str, Quote]:
        """Return bid and ask of each instrument at its last close."""
        return {
            name: Quote(name, bid, ask, self._as_of.get(name, 0))
            for name, (bid, ask) in self._closes.items()
        }

    def rates(self, currencies: list[str]) -> dict[str, float]:
        """Return the value of one unit of each currency in the account's."""
        mids = {name: (bid + ask) / 2.0 for name, (bid, ask) in self._closes.items()}
        return home_rates(self._rules.currency, currencies, mids)

    def terms(self, instrument: str) -> InstrumentTerms:
        """Return the terms of an instrument: whole units, OANDA's decimals."""
        yen = quote_currency(instrument) == "JPY"
        digits, pip = (3, 0.01) if yen else (5, 0.0001)
        return InstrumentTerms(
            instrument, digits, 0, Decimal(1), MOST_UNITS, self._rules.margin_rate, pip
        )

    def seen_ms(self, instrument: str) -> int:
        """Return the end of the instrument's last candle; 0 before the first."""
        return self._as_of.get(instrument, 0)

    def set_levels(self, trade_id: str, stop: float | None, target: float | None) -> None:
        """Replace brackets of an open trade (None: unchanged); a closed trade is ignored."""
        for trade in self._trades:
            if trade.trade_id == trade_id:
                trade.stop = trade.stop if stop is None else stop
                trade.target = trade.target if target is None else target

    def _fill(self, request: OrderRequest, candle: Candle, bid: float, ask: float) -> None:
        buys = request.units > 0
        price = ask if buys else bid
        opposite = [
            t for t in self._trades if t.instrument == request.instrument and (t.units > 0) != buys
        ]
        left, gain, touched = abs(request.units), 0.0, []
        if not opposite and request.reduce_only:
            self._refuse(request, candle, "NOTHING_TO_REDUCE")
            return
        opening = not opposite
        if opening and not self._affordable(request):
            self._refuse(request, candle, "INSUFFICIENT_MARGIN")
            return
        if not opening and not request.reduce_only:
            self._refuse(request, candle, "OPPOSITE_POSITION")
            return
        if (
            request.price_bound is not None
            and (price - request.price_bound) * (1 if buys else -1) > 0
        ):
            self._refuse(request, candle, BEYOND_BOUND)
            return
        for trade in opposite:
            part = min(left, abs(trade.units))
            gain += self._close(trade, price, part)
            touched.append(trade.trade_id)
            left -= part
        number = self._number()
        if opening:
            touched = [number]
            self._open(request, number, price, candle.bar_ms)
        filled = request.units if opening else (abs(request.units) - left) * (1 if buys else -1)
        self._book(number, request.client_id, candle, "order", filled, price, gain, touched)
        self._results[request.client_id] = OrderResult(
            request.client_id, "filled", filled, price, candle.bar_ms, (number,), tuple(touched),
            gain, None, number,
        )  # fmt: skip

    def _open(self, request: OrderRequest, number: str, price: float, bar_ms: int) -> None:
        stop, target = request.stop_loss, request.take_profit
        if request.levels is not None:
            stop, target = levels(request.levels, price, 1 if request.units > 0 else -1)
        self._trades.append(
            PaperTrade(
                number, request.client_id, request.instrument, request.units, price, bar_ms, stop,
                target,
            )
        )  # fmt: skip

    def _touch(self, trade: PaperTrade, candle: Candle, bid: Ohlc, ask: Ohlc) -> None:
        way = 1 if trade.units > 0 else -1
        side = bid if way > 0 else ask
        worst, best = (side.low, side.high) if way > 0 else (side.high, side.low)
        stop, target = trade.stop, trade.target
        price, cause = 0.0, "stop_loss"
        if stop is not None and way * (side.open - stop) <= 0.0:
            price = side.open
        elif stop is not None and way * (worst - stop) <= 0.0:
            price = stop
        elif target is not None and way * (best - target) >= 0.0:
            price, cause = target, "take_profit"
        else:
            return
        units = trade.units
        gain = self._close(trade, price, abs(units))
        made: Cause = "take_profit" if cause == "take_profit" else "stop_loss"
        number, client = self._number(), trade.client_id
        self._book(number, client, candle, made, -units, price, gain, [trade.trade_id])

    def _close(self, trade: PaperTrade, price: float, units: Decimal) -> float:
        way = 1 if trade.units > 0 else -1
        gain = self._gain(trade, price, way * units)
        trade.units -= way * units
        if not trade.units:
            self._trades.remove(trade)
        self._realized += gain
        return gain

    def _gain(self, trade: PaperTrade, price: float, units: Decimal) -> float:
        rate = self._rate(quote_currency(trade.instrument))
        return (price - trade.price) * float(units) * rate

    def _refuse(self, request: OrderRequest, candle: Candle, reason: str) -> None:
        number = self._number()
        self.transactions.append(
            Transaction(
                number, "cancel", candle.bar_ms, request.instrument, request.client_id,
                reason=reason,
            )
        )  # fmt: skip
        self._results[request.client_id] = OrderResult(
            request.client_id, "cancelled", ZERO, None, candle.bar_ms, (number,), reason=reason,
            transaction_id=number,
        )  # fmt: skip

    def _book(
        self, number: str, client_id: str, candle: Candle, cause: Cause, units: Decimal,
        price: float, gain: float, trade_ids: list[str],
    ) -> None:  # fmt: skip
        self.transactions.append(
            Transaction(
                number, "fill", candle.bar_ms, candle.instrument, client_id, cause, units, price,
                gain, tuple(trade_ids),
            )
        )  # fmt: skip

    def _affordable(self, request: OrderRequest) -> bool:
        currencies = [base_currency(request.instrument), quote_currency(request.instrument)]
        known = self.rates(currencies)
        if not all(currency in known for currency in currencies):
            return False
        value = known[base_currency(request.instrument)]
        needed = float(abs(request.units)) * value * self._rules.margin_rate
        return needed <= self.account().margin_available

    def _closing_price(self, trade: PaperTrade) -> float:
        bid, ask = self._closes.get(trade.instrument, (trade.price, trade.price))
        return bid if trade.units > 0 else ask

    def _unit_value(self, instrument: str) -> float:
        return self._rate(base_currency(instrument))

    def _rate(self, currency: str) -> float:
        rate = self.rates([currency]).get(currency)
        if rate is None:
            raise NoRate(currency, self._rules.currency)
        return rate

    def _number(self) -> str:
        number = str(self._next_id)
        self._next_id += 1
        return number


class NoRate(ValueError):
    """A currency has no path of prices to the account's; trades in it cannot be valued."""

    def __init__(self, currency: str, home: str) -> None:
        super().__init__(
            f"no pair with a price leads from {currency} to {home}, the paper account's currency"
        )


def _position(name: str, trades: list[OpenTrade]) -> Position:
    units = sum((t.units for t in trades), ZERO)
    held = float(sum((abs(t.units) for t in trades), ZERO))
    average = sum(t.price * float(abs(t.units)) for t in trades) / held
    return Position(name, units, average, sum(t.unrealized_pl for t in trades))


def _quotes(candle: Candle, cost_bps: float) -> tuple[Ohlc, Ohlc]:
    if candle.bid is not None and candle.ask is not None:
        return candle.bid, candle.ask
    cost = cost_bps / BPS
    down, up = 1.0 - cost, 1.0 + cost
    return (
        Ohlc(*(price * down for price in candle.mid)),
        Ohlc(*(price * up for price in candle.mid)),
    )
