"""Runs a history of the paper account in one process on a virtual clock."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import NamedTuple

from streams.config.trading import Trading
from streams.kafka.follower import DecodedRecord
from streams.records.events import Candle, Ohlc
from streams.records.topics import CANDLES
from streams.records.trading_events import BrokerReport, OrderIntent
from streams.trading.brokers.paper_book import PaperBook, PaperRules
from streams.trading.dispatch import STALE_S, request_of
from streams.trading.executor import Executor
from streams.trading.ledger import Ledger
from streams.trading.paper import PaperBroker
from streams.trading.reports import accepted
from streams.trading.start import recall
from tests.support import virtual_time
from tests.support.execution_bench import MINUTE
from tests.support.executor_stand import parts_of
from tests.support.histories import PAIRS, PRICES, Bar, History, Price, Step, shown
from tests.support.history_account import CONFIG, HistoryAccount, ProcessJournal
from tests.support.history_checks import due_to_close, was_off
from tests.support.virtual_network import Network, Process
from tests.support.virtual_time import VirtualLoop

ACCOUNT = "paper"
TRADING = Trading(
    max_spread_bps=50.0, pm_ramp_step_pct=0.5, risk_max_daily_loss=1.0, risk_max_drawdown=1.0
)
LATEST_S = STALE_S + 0.1
"""How long after the switch was engaged an order may be accepted that had read "off" before."""


class Fill(NamedTuple):
    """One fill: of which order, by what, when and at which price."""

    order_id: str
    cause: str
    time_ms: int
    price: float
    units: float


def rules() -> PaperRules:
    """Return what the account is made of."""
    return PaperRules(ACCOUNT, 100_000.0, "USD", 0.02, CONFIG.backtest_cost_bps)


class PaperRun(HistoryAccount):
    """A paper account; its candles go from one price of the history to the next."""

    account_id, mode = ACCOUNT, "paper"

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._network = Network(loop)
        self._prices, self._opens = dict(PRICES), dict(PRICES)

    async def trade(self, process: Process) -> None:
        """Run an executor, beginning with what the log says."""
        ledger = self.memory.ledger(ACCOUNT, self.mode)
        venue = PaperBroker(rules(), MINUTE, ledger, time.monotonic)
        self.arrivals = asyncio.Queue()
        recall(venue, self.log, CONFIG.candle_gran)
        parts = await parts_of(
            venue, TRADING, ProcessJournal(self, process), ledger, self.control, list(self.log),
            self.arrivals, self.switch,
        )  # fmt: skip
        self.executor = Executor(parts, clock=time.monotonic)
        await self.executor.run(asyncio.Event())

    async def happen_elsewhere(self, step: Step) -> None:
        """Move a price: the candle under way ends there."""
        assert isinstance(step, Price), step
        self._prices[step.instrument] *= 1 + step.bps / 1e4

    def candles(self, bar_ms: int) -> list[DecodedRecord]:
        """Return a candle of every instrument, from the last price to the present one."""
        found = []
        for name in PAIRS:
            digits = 3 if name.endswith("JPY") else 5
            begun, ended = self._opens[name], self._prices[name]
            bid, ask = (
                Ohlc(*(round(p * side, digits) for p in (begun, max(begun, ended),
                                                         min(begun, ended), ended)))
                for side in (1 - 1e-5, 1 + 1e-5)
            )  # fmt: skip
            mid = Ohlc(*((b + a) / 2 for b, a in zip(bid, ask, strict=True)))
            made = Candle(name, "M1", bar_ms, bar_ms + MINUTE, mid, bid, ask, True, 1, "synthetic")
            found.append(DecodedRecord(CANDLES, 0, len(self.log) + len(found), made, ""))
            self._opens[name] = ended
        return found

    async def heal(self) -> None:
        """Nothing fails here."""

    async def pass_while_left_alone(self, seconds: float) -> None:
        """Let a bar pass: orders fill in candles alone."""
        await self.happen(Bar((None, None, None)))
        await asyncio.sleep(seconds)

    @property
    def ledger(self) -> Ledger:
        """The fold of the order log."""
        return self.memory.ledger(ACCOUNT, self.mode)

    def require_sound(self) -> None:
        """Assert what must hold at every instant."""
        ledger = self.ledger
        for order_id, reports in ledger.reports.items():
            done = [r for r in reports if r.cause == "order" and r.status != "unknown"]
            assert len(done) <= 1, f"{order_id} has two outcomes: {done}"
        opened = Counter(
            (i.instrument, i.entry_bar_ms) for i in ledger.intents.values()
            if i.submitted and i.kind == "open"
        )  # fmt: skip
        assert not opened or max(opened.values()) == 1, opened
        for at, record in self.written:
            if isinstance(record, BrokerReport) and accepted(record):
                kind = ledger.intents[record.order_id].kind
                engaged = kind in ("open", "increase") and not was_off(
                    self.switch.said, at - LATEST_S, at
                )
                assert not engaged, f"{record.order_id} was accepted under an engaged switch"

    async def require_settled(self) -> None:
        """Assert what must hold when the candles have gone on for a while."""
        ledger = self.ledger
        assert not ledger.unresolved and not ledger.closed_ahead
        due = due_to_close(ledger, self.told)
        left = {n: due[h.opening_id] for n, h in ledger.holdings.items() if h.opening_id in due}
        assert not left, f"open although it was to be closed: {left}"
        assert self.executor is not None
        trades = await self.executor.parts.broker.trades()
        held = {t: h.direction * u for h in ledger.holdings.values() for t, u in h.trades.items()}
        assert held == {t.trade_id: t.units for t in trades}
        assert self.booked() == self.expected()

    def booked(self) -> Counter[Fill]:
        """Return the fills of the log."""
        return Counter(
            Fill(order, r.cause, r.time_ms, r.price or 0.0, r.units)
            for order, reports in self.ledger.reports.items()
            for r in reports
            if r.status == "filled"
        )

    def expected(self) -> Counter[Fill]:
        """Return the fills of an account that never was killed: candles and accepted orders."""
        book = PaperBook(rules())
        taken = {
            r.order_id for _, r in self.written
            if isinstance(r, BrokerReport) and accepted(r)
        }  # fmt: skip
        orders = [
            record for _, record in self.written
            if isinstance(record, OrderIntent) and record.order_id in taken
        ]  # fmt: skip
        for one in self.log:
            candle = one.event
            if isinstance(candle, Candle):
                due = [o for o in orders if o.placed_ms <= candle.bar_ms]
                for order in due:
                    orders.remove(order)
                    book.submit(request_of(order))
                book.take(candle)
        return Counter(
            Fill(t.client_id, t.cause, t.time_ms, t.price or 0.0, float(abs(t.units)))
            for t in book.transactions
            if t.kind == "fill"
        )


def run(history: History, seed: int = 0) -> Ledger:
    """Run a history; return the books at its end.

    Raises
    ------
    AssertionError
        Something does not hold; with the history as it can be pasted.
    """

    async def lived(loop: VirtualLoop) -> Ledger:
        made = PaperRun(loop)
        await made.live(history)
        return made.ledger

    try:
        return virtual_time.run(lived, seed)
    except Exception as error:
        error.add_note(f"seed {seed}, history = {shown(history)}")
        raise
