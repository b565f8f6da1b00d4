"""One account in one process on a virtual clock: its log, its switch, and its executors."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence

from streams.config.settings import Config
from streams.errors import Fatal, Recoverable
from streams.kafka.follower import DecodedRecord, FollowedRecord
from streams.oanda.errors import RequestRefused
from streams.records.control import ControlLog
from streams.records.events import Control
from streams.records.topics import CONTROL
from streams.trading.executor import Executor
from streams.trading.flatten import flatten_record
from streams.trading.journal import Record
from tests.support import virtual_time
from tests.support.execution_bench import MINUTE
from tests.support.executor_stand import Memory, bar_records
from tests.support.histories import PAIRS, Bar, Flatten, History, Kill, Step, Switch, Wait
from tests.support.history_checks import Told
from tests.support.virtual_network import Process

CONFIG = Config(gate_mode="static", session_trading_enabled=False, entry_cooldown_sec=0)
START_S, RESTART_S = 0.5, 5.0
LOOKS_S = (2.0, 5.0, 10.0, 30.0, 60.0)
QUIET_S = 1800.0
"""Longest time until everything is in order again: the longest pause of a closing is 900 s."""


class Reads:
    """What a reading of the kill switch found."""

    def __init__(self, engaged: bool) -> None:
        self.engaged, self.why = engaged, ("engaged by a step",) if engaged else ()


class KillSwitchState:
    """The kill switch, and when it was what."""

    def __init__(self) -> None:
        self.said = [(time.time(), False)]

    def set(self, engaged: bool) -> None:
        """Engage or clear it."""
        self.said.append((time.time(), engaged))

    async def aread(self) -> Reads:
        """Return what it is now."""
        return Reads(self.said[-1][1])


class ProcessJournal:
    """The order log as one process writes it: not at all when it is dead."""

    def __init__(self, account: HistoryAccount, process: Process) -> None:
        self._account, self._process = account, process

    def write(self, records: Sequence[Record]) -> None:
        """Append."""
        if self._process.dead:
            raise ConnectionError("the process is dead")
        self._account.memory.write(records)
        self._account.written += [(time.time(), record) for record in records]


class HistoryAccount(ABC):
    """One account, its log, and the executors that come and go.

    Attributes
    ----------
    executor
        The one that runs; None while there is none.
    written
        The order log, and when each record came into it.
    log
        What decisions, weights and candles there are.
    ended
        Why executors ended by themselves.
    """

    account_id: str
    mode: str

    def __init__(self) -> None:
        self.memory, self.switch, self.control = Memory(), KillSwitchState(), ControlLog()
        self.control.append(0, Control("config", None, CONFIG.to_json(), "test", "test", 0))
        self.executor: Executor | None = None
        self.process = Process("executor 0")
        self.ended: list[str] = []
        self.written: list[tuple[float, Record]] = []
        self.log: list[DecodedRecord] = []
        self.arrivals: asyncio.Queue[list[FollowedRecord]] = asyncio.Queue()
        self.told = Told({}, -1)
        self._started = self._bars = 0
        self._bar_ms = virtual_time.START_NS // 1_000_000

    @abstractmethod
    async def trade(self, process: Process) -> None:
        """Run an executor, beginning with what the log says."""

    @abstractmethod
    async def happen_elsewhere(self, step: Step) -> None:
        """Let a step happen that is neither the log's nor the executor's."""

    @abstractmethod
    def require_sound(self) -> None:
        """Assert what must hold at every instant."""

    @abstractmethod
    async def require_settled(self) -> None:
        """Assert what must hold when everything works again and was left alone."""

    @abstractmethod
    async def heal(self) -> None:
        """Let everything work again."""

    def candles(self, bar_ms: int) -> list[DecodedRecord]:
        """Return the candles of a bar that has ended, as the log has them."""
        return []

    def start_executor(self) -> None:
        """Start a process that comes back when it ends by itself."""
        self._started += 1
        self.process = Process(f"executor {self._started}")
        self.process.start(self._supervised(self.process))

    async def _supervised(self, process: Process) -> None:
        while not process.dead:
            try:
                await self.trade(process)
            except (Recoverable, RequestRefused, Fatal) as error:
                self.ended.append(str(error))
            self.executor = None
            await asyncio.sleep(RESTART_S)

    async def happen(self, step: Step) -> None:
        """Let a step happen."""
        if isinstance(step, Wait):
            await asyncio.sleep(step.seconds)
        elif isinstance(step, Bar):
            await self._bar(step)
        elif isinstance(step, Kill):
            self.executor = None
            await self.process.kill()
            await asyncio.sleep(step.seconds)
            self.start_executor()
        elif isinstance(step, Switch):
            self.switch.set(step.engaged)
        elif isinstance(step, Flatten):
            self.switch.set(True)
            self._flatten()
        else:
            await self.happen_elsewhere(step)

    def _flatten(self) -> None:
        offset = self.control.end
        record = flatten_record(self.account_id, "ops", "storm", time.time_ns() // 1_000_000)
        self.control.append(offset, record)
        self.told = self.told._replace(flatten=offset)
        self.arrivals.put_nowait([DecodedRecord(CONTROL, 0, offset, record, "")])

    async def _bar(self, bar: Bar) -> None:
        """Wait for the end of the bar under way, and write what the log has of it."""
        end_ms, now_ms = self._bar_ms + MINUTE, time.time_ns() // 1_000_000
        while end_ms < now_ms:
            end_ms += MINUTE
        await asyncio.sleep((end_ms - now_ms) / 1000)
        bar_ms, self._bar_ms = end_ms - MINUTE, end_ms
        moves = {n: p for n, p in zip(PAIRS, bar.positions, strict=True) if p is not None}
        self.told = self.told.after(bar_ms, moves)
        positions = {name: self.told.runs.get(name, (0, 0))[0] for name in PAIRS}
        held = [name for name, position in positions.items() if position]
        self._bars += 1
        for found in (
            self.candles(bar_ms),
            bar_records(
                self._bars, bar_ms, positions, dict.fromkeys(held, bar.pct), len(self.log),
                eligible=bar.eligible,
            ),
        ):  # fmt: skip
            self.log += found
            self.arrivals.put_nowait(found)

    async def settle(self) -> None:
        """Let everything work again, leave it alone, and assert what must hold then."""
        await self.heal()
        until, looks = time.monotonic() + QUIET_S, 0
        while True:
            await self.pass_while_left_alone(LOOKS_S[min(looks, len(LOOKS_S) - 1)])
            looks += 1
            self.require_sound()
            try:
                assert self.executor is not None, f"no executor: {self.ended[-1:]}"
                assert not self.executor.unreconciled, self.executor.unreconciled
                await self.require_settled()
                break
            except AssertionError:
                if time.monotonic() > until:
                    raise
        books, folded = self.executor.parts.ledger, self.memory.ledger(self.account_id, self.mode)
        assert books.holdings == folded.holdings, "a start would find other books"
        assert books.openers == folded.openers

    async def pass_while_left_alone(self, seconds: float) -> None:
        """Let time pass in which nobody does anything."""
        await asyncio.sleep(seconds)

    async def live(self, history: History) -> None:
        """Go through a history to its end: healed, left alone, then closed by its runs."""
        self.start_executor()
        try:
            await asyncio.sleep(START_S)
            await self.happen(Bar((0, 0, 0)))
            for step in history:
                await self.happen(step)
                self.require_sound()
            await self.settle()
            await self.happen(Bar((0, 0, 0)))
            await self.settle()
            held = self.memory.ledger(self.account_id, self.mode).holdings
            assert not held, f"every run has ended: {held}"
        finally:
            await self.process.kill()
