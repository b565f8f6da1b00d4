"""An executor in this process on the v20 test broker, its log in memory.

What the log is to an executor (intents first, one writer, nothing lost) is tried with Kafka
elsewhere. Here is tried what it does at the broker, many times and quickly.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

from streams.config.oanda import Oanda
from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.config.trading import Trading
from streams.errors import Recoverable
from streams.kafka.follower import DecodedRecord, FollowedRecord
from streams.oanda.client import OandaClient
from streams.records.config_following import FollowedConfig
from streams.records.control import ControlLog
from streams.records.events import Control, Event, GateDecision, Watermark, Weights
from streams.records.log_record import InvalidRecord
from streams.records.topics import CANDLES, GATES, MANIFOLDS, WEIGHTS
from streams.trading.brokers.broker import Broker
from streams.trading.brokers.oanda import OandaBroker
from streams.trading.context import ExecutorContext
from streams.trading.decision_checks import DecisionChecks
from streams.trading.decision_rules import KnownInputs
from streams.trading.dispatch import Dispatch, KillSwitchSource
from streams.trading.executor import Executor
from streams.trading.flatten import flatten_record
from streams.trading.journal import Record
from streams.trading.ledger import Ledger
from streams.trading.metrics import ExecutorMetrics
from streams.trading.operator_commands import InstrumentCommand, instrument_command
from streams.trading.operator_orders import Side, order_record
from streams.trading.runs import Runs, WeightsHistory
from streams.trading.start import apply_order_log
from tests.support.execution_bench import METRICS, MINUTE, decision, weights
from tests.support.v20 import Handle
from tests.support.waiting import PATIENCE_S

TRADING = Trading(
    trading_venue="oanda", max_spread_bps=10_000.0, fresh_max_ws_age_sec=3600.0,
    reconcile_interval_sec=0.2, order_settle_sec=0.5, pm_ramp_step_pct=1.0,
    risk_max_daily_loss=1.0, risk_max_drawdown=1.0,
)  # fmt: skip
CONFIG = Config(
    gate_mode="static", session_trading_enabled=False, fresh_max_signal_age_sec=86_400,
    gates_blob_max_age_sec=86_400, entry_cooldown_sec=0,
)  # fmt: skip
OANDA = {
    "OANDA_HTTP_BACKOFF": "1", "OANDA_HTTP_TIMEOUT_SEC": "2", "OANDA_HTTP_RETRIES": "1",
    "OANDA_CB_FAILURES": "1000",
}  # fmt: skip


class Committed:
    """The stages of a log in memory: what is there is committed, and the candles are with it.

    Attributes
    ----------
    reached
        Committed offset of every partition of ``sep.manifolds``; by default beyond all records.
    away
        Whether no broker answers.
    """

    def __init__(self) -> None:
        self.reached, self.away = 1 << 40, False

    def committed(self, timeout_s: float) -> dict[tuple[str, int], int]:
        """Return the committed offsets."""
        if self.away:
            raise Recoverable("no broker answers")
        return {(GATES, 0): 1 << 40} | {(MANIFOLDS, p): self.reached for p in range(12)}

    def newest(self, partitions: Collection[int] | None) -> list[DecodedRecord]:
        """Return nothing: every candle was delivered."""
        return []

    def source_of(self, record: DecodedRecord) -> Event | None:
        """Return nothing: this log has decisions only."""
        return None


class Memory:
    """The order log of one account; survives an executor."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.invalid: list[InvalidRecord] = []

    def write(self, records: Sequence[Record]) -> None:
        """Append."""
        self.records += records

    def ledger(self, account_id: str, mode: str = "practice") -> Ledger:
        """Fold it as an executor does that starts."""
        made = Ledger(account_id, mode)
        made.invalid += self.invalid
        apply_order_log(
            made, [DecodedRecord("", 0, n, one, "") for n, one in enumerate(self.records)]
        )
        return made


def bar_records(
    number: int, bar_ms: int, positions: Mapping[str, int], exposures: Mapping[str, float],
    offset: int, *, eligible: bool = True,
) -> list[DecodedRecord]:  # fmt: skip
    """Return a bar's decisions and the weights of its epoch, as they lie in the log.

    Parameters
    ----------
    exposures
        Target exposure of the instruments that the weights select.
    offset
        Of the first of these records.
    """
    end_ms = bar_ms + MINUTE
    watermark = Watermark(end_ms, "M1", 1, tuple(sorted(positions)))
    found = [DecodedRecord(CANDLES, 0, number, watermark, "")]
    for name, position in sorted(positions.items()):
        made = decision(
            number, position, instrument=name, metrics=METRICS, bar_ms=bar_ms, as_of_ms=end_ms,
            signal_bar_ms=bar_ms, control_offset=1, eligible=eligible,
            reasons=() if eligible else ("cooldown",),
        )  # fmt: skip
        found.append(DecodedRecord(GATES, 0, offset + len(found), made, f"{MANIFOLDS}-0-{number}"))
    epoch = weights(number, **exposures)
    epoch = epoch._replace(as_of_ms=end_ms, epoch_ms=end_ms, bar_ms=bar_ms, control_offset=1)
    return [*found, DecodedRecord(WEIGHTS, 0, number, epoch, f"{GATES}-0-{offset}")]


async def parts_of(
    venue: Broker, trading: Trading, journal: Any, ledger: Ledger, control: ControlLog,
    log: Sequence[DecodedRecord], arrivals: asyncio.Queue[list[FollowedRecord]],
    kill: KillSwitchSource, stages: Committed | None = None,
) -> ExecutorContext:  # fmt: skip
    """Return what an executor is made of when it starts; ``log`` has decisions and weights."""
    if ledger.intents:
        venue.expect_access()
    runs, allocation = Runs({n: h.joined for n, h in ledger.holdings.items()}), WeightsHistory()
    cursor = ledger.cursor or (await venue.account()).last_transaction_id
    metrics = ExecutorMetrics()
    inputs, source = KnownInputs(), stages or Committed()
    inputs.take_committed(source.committed(0.0))
    for one in log:
        inputs.take_input(one.partition, one.event)
    checks = DecisionChecks(inputs, source, control, metrics, time.monotonic)
    for one in log:
        if isinstance(one.event, GateDecision | Weights):
            assert checks.arrive(one), checks.refused
            if isinstance(one.event, GateDecision):
                runs.take(one.event, one.source)
            else:
                allocation.take(one.event)
    codec: Any = None
    following: Any = SimpleNamespace(arrivals=arrivals, trouble="")
    # by name: a default was taken when its module was loaded, and a test may have another clock
    dispatch = Dispatch(journal, venue, ledger, kill, metrics, cursor, time.monotonic)
    return ExecutorContext(
        Runtime.from_env({}), codec, trading, control, venue, ledger, runs, allocation, following,
        dispatch, kill, metrics, FollowedConfig(CONFIG), checks,
    )  # fmt: skip


class Switch:
    """A kill switch that is off until somebody engages it."""

    def __init__(self) -> None:
        self.why: tuple[str, ...] = ()

    @property
    def engaged(self) -> bool:
        """Whether there is a reason."""
        return bool(self.why)

    async def aread(self) -> Switch:
        """Return itself."""
        return self


class Stand:
    """One account, its log, and the executors that come and go."""

    def __init__(self, broker: Handle, start_ms: int) -> None:
        self.broker, self.memory, self._bar, self._start_ms = broker, Memory(), 0, start_ms
        self.control, self.kill, self.stages = ControlLog(), Switch(), Committed()
        self.control.append(0, Control("config", None, CONFIG.to_json(), "test", "test", 0))
        self._decisions: list[DecodedRecord] = []
        self.settings = TRADING
        self.executor: Executor
        self._arrivals: asyncio.Queue[list[FollowedRecord]] = asyncio.Queue()

    @property
    def ledger(self) -> Ledger:
        """The executor's own books."""
        return self.executor.parts.ledger

    def positions(self) -> dict[str, str]:
        """Return what the broker has."""
        found: dict[str, str] = self.broker.account()["positions"]
        return found

    def bar(self, **positions: int) -> None:
        """Write a bar's decisions and the weights of its epoch."""
        self._write_bar(positions)

    def bar_not_eligible(self, **positions: int) -> None:
        """Write a bar whose decisions let nothing be opened."""
        self._write_bar(positions, eligible=False)

    def _write_bar(self, positions: Mapping[str, int], *, eligible: bool = True) -> None:
        self._bar += 1
        bar_ms = self._start_ms + self._bar * MINUTE
        exposures = {name: 0.05 for name, position in positions.items() if position}
        found = bar_records(
            self._bar, bar_ms, positions, exposures, len(self._decisions), eligible=eligible
        )
        self._decisions += found
        self._arrivals.put_nowait([*found])

    def flatten(self) -> None:
        """Say that everything is to be closed."""
        record: Control = flatten_record(self.broker.account_id, "ops", "storm", self._start_ms)
        self.control.append(self.control.end, record)
        self._arrivals.put_nowait([])

    def command(self, kind: InstrumentCommand, name: str, actor: str, reason: str) -> None:
        """Give a command about one instrument."""
        record = instrument_command(
            kind, name, self.broker.account_id, actor, reason, self._start_ms
        )
        self.control.append(self.control.end, record)
        self._arrivals.put_nowait([])

    def order(
        self,
        request_id: str,
        name: str,
        side: Side,
        units: str,
        age_s: float = 0.0,
        **levels: float,
    ) -> None:
        """Give an operator's order."""
        at_ms = int((time.time() - age_s) * 1000)
        record = order_record(
            name, self.broker.account_id, request_id, side, Decimal(units), "ann", "by hand", at_ms,
            **levels,
        )  # fmt: skip
        self.control.append(self.control.end, record)
        self._arrivals.put_nowait([])

    @asynccontextmanager
    async def trading(self, *, only_flatten: bool = False, **oanda: str) -> AsyncIterator[Executor]:
        """Run an executor for as long as it lasts; it ends as if killed."""
        settings = Oanda.from_env(self.broker.environment() | OANDA | oanda)
        self._arrivals = asyncio.Queue()
        async with OandaClient(settings) as client:
            venue = OandaBroker(client, self.settings.order_settle_sec)
            ledger = self.memory.ledger(venue.account_id)
            parts = await parts_of(
                venue, self.settings, self.memory, ledger, self.control, self._decisions,
                self._arrivals, self.kill, self.stages,
            )  # fmt: skip
            self.executor = Executor(parts, only_flatten=only_flatten)
            running = asyncio.create_task(self.executor.run(asyncio.Event()))
            try:
                yield self.executor
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)

    async def until(self, ready: Callable[[], Any]) -> None:
        """Wait until something is so."""
        async with asyncio.timeout(PATIENCE_S):
            while not ready():  # noqa: ASYNC110 - a broker in another thread has no event for it
                await asyncio.sleep(0.01)

    async def opened(self, **positions: int) -> None:
        """Let an executor that runs open positions."""
        await self.until(lambda: not self.executor.unreconciled)
        self.bar(**dict.fromkeys(positions, 0))
        self.bar(**positions)
        await self.until(
            lambda: self.ledger.holdings.keys() == positions.keys() and not self.ledger.unresolved
        )

    def require_exact(self) -> None:
        """Assert that the books are the broker's, and nothing of ours is in doubt."""
        held = {name: h.signed_units for name, h in self.ledger.holdings.items()}
        assert held == {name: Decimal(units) for name, units in self.positions().items()}
        assert not self.ledger.unresolved and not self.ledger.closed_ahead
        assert self.broker.violations() == []
