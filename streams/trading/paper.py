"""The paper venue: a `PaperBook` as a broker, fed from ``md.candles``; needs no account.

Its state comes from the log alone: fills are in ``exec.fills``, accepted orders in ``exec.orders``
with their report in ``exec.fills``, and the candles determine their results. Its clock is the time
of the candles, and advances with the wall clock in between.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

from streams.candles.rules import candle_refusal
from streams.errors import Recoverable
from streams.records.events import Candle
from streams.records.trading_events import OrderIntent
from streams.trading.brokers.brackets import levels
from streams.trading.brokers.broker import (
    Account,
    BracketKind,
    InstrumentTerms,
    Mode,
    OpenTrade,
    OrderRequest,
    OrderResult,
    PendingOrder,
    Position,
    Quote,
)
from streams.trading.brokers.paper_book import NoRate, PaperBook, PaperRules, PaperTrade
from streams.trading.brokers.transaction import Transaction
from streams.trading.brokers.units import units_of
from streams.trading.dispatch import request_of
from streams.trading.holdings import rule_of, transaction_order
from streams.trading.ledger import Ledger
from streams.trading.reports import accepted


class PaperBroker:
    """A `Broker` without an account.

    Parameters
    ----------
    rules
        The settings of the account.
    price_interval_ms
        Length of a bar.
    ledger
        Positions and accepted orders according to the log.
    clock
        Monotonic seconds.
    """

    mode: Mode = "paper"
    settle_sec = 0.0
    closes_by_trade = False
    takes_client_ids = True

    def __init__(
        self,
        rules: PaperRules,
        price_interval_ms: int,
        ledger: Ledger,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.account_id, self.price_interval_ms = rules.account_id, price_interval_ms
        self._clock, self._newest_ms, self._newest_at = clock, 0, clock()
        self._arrived: set[str] = set()
        last = transaction_order(ledger.highest_transaction_id)[0]
        self._book = PaperBook(rules, ledger.realized_pl, max(last, 0) + 1)
        self.resume_ms: dict[str, int] = {}
        self._restore(ledger)

    def _restore(self, ledger: Ledger) -> None:
        for trade in open_trades(ledger):
            self._book.restore(trade)
            self._resume(trade.instrument, trade.bar_ms)
        for order, reports in ledger.reports.items():
            intent = ledger.intents[order]
            filled = [r.time_ms for r in reports if r.status == "filled"]
            if intent.instrument in self.resume_ms and filled:
                before = self.resume_ms[intent.instrument]
                self.resume_ms[intent.instrument] = max(before, *filled)
        for order, intent in ledger.unresolved.items():
            doubt = ledger.doubtful.get(order)
            if doubt is not None and accepted(doubt):
                self._book.submit(request_of(intent))
                if intent.instrument not in self.resume_ms:
                    self._resume(intent.instrument, intent.placed_ms)

    def _resume(self, instrument: str, at_ms: int) -> None:
        self.resume_ms[instrument] = max(at_ms, self.resume_ms.get(instrument, 0))

    def recall(self, candle: Candle) -> None:
        """Apply a candle that was in the log when this process began.

        Candles after the instrument's last report are applied again: fills that were not recorded
        are made again, with the same result.
        """
        if _refused(candle):
            return
        self._note(candle)
        resume_ms = self.resume_ms.get(candle.instrument)
        if resume_ms is not None and candle.bar_ms >= resume_ms:
            self._taking(candle)
        else:
            self._book.mark(candle)

    def take(self, candle: Candle) -> None:
        """Apply a candle that has just arrived."""
        if _refused(candle):
            return
        self._note(candle)
        self._arrived.add(candle.instrument)
        self._taking(candle)

    def _taking(self, candle: Candle) -> None:
        try:
            self._book.take(candle)
        except NoRate as error:
            raise Recoverable(str(error)) from error

    def _note(self, candle: Candle) -> None:
        if candle.as_of_ms > self._newest_ms:
            self._newest_ms, self._newest_at = candle.as_of_ms, self._clock()

    def expect_access(self) -> None:
        """Nothing to do: access is never refused here."""

    def now_ms(self) -> int:
        """Return the end of the newest candle plus the time since it arrived."""
        return self._newest_ms + int((self._clock() - self._newest_at) * 1000)

    def placed_ms(self, instrument: str) -> int:
        """Return the end of the instrument's last candle; an order fills in a later one."""
        return self._book.seen_ms(instrument)

    async def account(self) -> Account:
        """Return the account."""
        try:
            return self._book.account()
        except NoRate as error:
            raise Recoverable(str(error)) from error

    async def instruments(self, names: Sequence[str]) -> Mapping[str, InstrumentTerms]:
        """Return the terms of every name: paper trades all instruments with candles."""
        return {name: self._book.terms(name) for name in names}

    async def quotes(self, names: Sequence[str]) -> Mapping[str, Quote]:
        """Return the last close of those that have had a candle since this process began."""
        known = self._book.quotes()
        return {name: known[name] for name in names if name in known and name in self._arrived}

    async def home_rates(self, currencies: Sequence[str]) -> Mapping[str, float]:
        """Return rates through the pairs that have candles."""
        return self._book.rates(list(currencies))

    async def positions(self) -> Sequence[Position]:
        """Return the positions by instrument."""
        return self._book.positions()

    async def trades(self) -> Sequence[OpenTrade]:
        """Return the open trades, oldest first."""
        return self._book.open_trades()

    async def orders(self) -> Sequence[PendingOrder]:
        """Return the pending orders."""
        return self._book.pending()

    async def transactions(self, since_id: str) -> Sequence[Transaction]:
        """Return the transactions after ``since_id``."""
        since = transaction_order(since_id)
        found = self._book.transactions
        return [t for t in found if transaction_order(t.transaction_id) > since]

    async def submit(self, request: OrderRequest) -> OrderResult:
        """Accept an order; it fills in the instrument's next candle."""
        return self._book.submit(request)

    async def lookup(self, client_id: str) -> OrderResult | None:
        """Return the result of an order."""
        return self._book.lookup(client_id)

    async def set_levels(
        self, trade_id: str, stop_loss: float | None, take_profit: float | None
    ) -> None:
        """Replace brackets of an open trade; None leaves one unchanged."""
        self._book.set_levels(trade_id, stop_loss, take_profit)

    async def bracket_ended(self, trade_id: str, kind: BracketKind) -> str:
        """Return an empty text: brackets of the paper account end only with their trade."""
        return ""

    async def aclose(self) -> None:
        """Nothing to close."""


def _refused(candle: Candle) -> bool:
    """Return whether the stages refuse a candle: then no order fills in it either."""
    return candle_refusal(candle, candle.instrument.encode()) is not None


def open_trades(ledger: Ledger) -> list[PaperTrade]:
    """Return the paper trades that are open according to the log, oldest first.

    Reducing fills reduce the oldest trades first; a bracket's fill closes its own trade.
    """
    trades: dict[str, list[PaperTrade]] = {}
    found = [
        (ledger.intents[order], report)
        for order, reports in ledger.reports.items()
        for report in reports
        if report.status == "filled" and report.price is not None
    ]
    found.sort(key=lambda pair: transaction_order(pair[1].transaction_id))
    for intent, report in found:
        here = trades.setdefault(intent.instrument, [])
        sign = 1 if report.side == "buy" else -1
        units = units_of(report.units)
        if report.cause == "order" and intent.kind in ("open", "increase"):
            here.append(_opened(intent, sign * units, report.price or 0.0, report.time_ms))
            here[-1].trade_id = report.trade_ids[0] if report.trade_ids else report.transaction_id
        else:
            named = report.trade_ids if report.cause != "order" else ()
            _reduce(here, units, named)
    return [trade for here in trades.values() for trade in here]


def _opened(intent: OrderIntent, units: Decimal, price: float, bar_ms: int) -> PaperTrade:
    stop, target = intent.stop_loss, intent.take_profit
    rule = rule_of(intent)
    if rule is not None:
        stop, target = levels(rule, price, 1 if units > 0 else -1)
    return PaperTrade("", intent.order_id, intent.instrument, units, price, bar_ms, stop, target)


def _reduce(trades: list[PaperTrade], units: Decimal, named: Sequence[str]) -> None:
    left = units
    for trade in [t for t in trades if not named or t.trade_id in named]:
        part = min(left, abs(trade.units))
        trade.units -= part if trade.units > 0 else -part
        left -= part
        if not trade.units:
            trades.remove(trade)
