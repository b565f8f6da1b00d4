"""A day of paper trading in one process on a virtual clock, as its programs export it.

The market is synthetic, with the week's own hours; stages, executor and what exports their metrics
are the product's. What the service looks at over the network it is given here.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from streams.config.settings import Config
from streams.config.trading import Trading
from streams.feeds.plan import Fact, FeedPlan
from streams.feeds.synthetic import BarArrivals, MarketRates, synthetic_market
from streams.kafka.follower import DecodedRecord, FollowedRecord
from streams.mirror.probe import MirroredManifold, MirrorFacts
from streams.monitoring.executor_status import agreed_status, executor_facts
from streams.monitoring.facts import EpochFacts, KillFacts, LiveFacts, LogFacts, WorkerFacts
from streams.monitoring.log_probe import WINDOW_MS, epoch_facts
from streams.monitoring.orders import order_facts
from streams.monitoring.view import EPOCHS
from streams.pipeline.chain import make_chain
from streams.pipeline.memory import Derivation
from streams.pipeline.worker.metrics import WorkerMetrics
from streams.records.codec import locked_codec
from streams.records.control import ControlLog
from streams.records.events import GateDecision, Manifold, Summary, Weights
from streams.records.log_record import DerivedRecord, SourceRecord
from streams.records.topics import CANDLES, GATES, STAGE_SOURCES, WEIGHTS
from streams.replay.files import control_of
from streams.service.metrics import ServiceMetrics
from streams.trading import opening
from streams.trading.brokers.paper_book import PaperRules
from streams.trading.executor import Executor
from streams.trading.http import status_of
from streams.trading.ledger import Ledger
from streams.trading.paper import PaperBroker
from streams.trading.start import recall
from tests.support import virtual_time
from tests.support.executor_stand import Memory, Switch, parts_of
from tests.support.virtual_time import START_NS

MINUTE, DAY = 60_000, 1_440
PARTITIONS = 4
START_MS = START_NS // 1_000_000
LOOK_S = 30.0
"""When in a minute the metrics are scraped: the bar's orders wait for their price then."""

Series = tuple[str, tuple[tuple[str, str], ...]]
Samples = dict[Series, list[tuple[float, float]]]


class PaperDay:
    """The programs of one deployment.

    Parameters
    ----------
    environment
        Its settings.
    pairs
        Its instruments.
    seed
        Of the market.
    names
        The metrics that are kept.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        pairs: Sequence[str],
        seed: int,
        names: frozenset[str],
    ) -> None:
        self.config, self.trading = Config.from_env(environment), Trading.from_env(environment)
        self.pairs, self._seed = tuple(sorted(pairs)), seed
        self.worker, self.service = WorkerMetrics(instruments=self.pairs), ServiceMetrics()
        self.samples: Samples = defaultdict(list)
        self._names = names
        self.executor: Executor
        self._codec, self._memory = locked_codec(), Memory()
        self._log: list[DecodedRecord] = []
        self._arrivals: asyncio.Queue[list[FollowedRecord]] = asyncio.Queue()
        self._candles: dict[str, int | None] = dict.fromkeys(self.pairs)
        self._manifolds: dict[str, MirroredManifold] = {}
        self._epochs: deque[EpochFacts] = deque(maxlen=EPOCHS)
        self._weights: Weights | None = None
        self._places: dict[tuple[str, int], int] = defaultdict(int)

    @property
    def ledger(self) -> Ledger:
        """The executor's books."""
        return self.executor.parts.ledger

    async def live(self, history: int, minutes: int) -> None:
        """Derive a history of so many bars, then trade for so many minutes."""
        self._from_ms = START_MS - history * MINUTE
        self._control = control_of(
            self.config, self.pairs, self._from_ms, START_MS + minutes * MINUTE
        )
        self._derivation = Derivation(make_chain(self._codec, self._control).stages)
        self._plan = FeedPlan(self.pairs, "M1", PARTITIONS)
        bars = synthetic_market(
            self._seed, self.pairs, self._from_ms, None, rates=MarketRates(20, 0, 0)
        )
        await self._feed(self._plan.opening(self._from_ms, self._control.end))
        bar = next(bars)
        while bar.as_of_ms <= START_MS:
            self._log += await self._bar(bar)
            bar = next(bars)
        trading = asyncio.create_task(self._trade(self._control))
        for minute in range(1, minutes + 1):
            end_ms = START_MS + minute * MINUTE
            await self._until(end_ms / 1000 + 0.5)
            if bar.as_of_ms == end_ms:
                self._arrivals.put_nowait([*await self._bar(bar)])
                bar = next(bars)
            await self._until(end_ms / 1000 + LOOK_S)
            assert not trading.done(), trading
            self._look()
        trading.cancel()
        await asyncio.gather(trading, return_exceptions=True)

    async def _until(self, at: float) -> None:
        await asyncio.sleep(at - time.time())

    async def _trade(self, control: ControlLog) -> None:
        rules = PaperRules("paper", 100_000.0, "USD", 0.02, self.config.backtest_cost_bps)
        ledger = self._memory.ledger("paper", "paper")
        venue = PaperBroker(rules, MINUTE, ledger, time.monotonic)
        recall(venue, self._log, "M1")
        parts = await parts_of(
            venue, self.trading, self._memory, ledger, control, self._log, self._arrivals, Switch()
        )
        self.executor = Executor(parts, clock=time.monotonic)
        await self.executor.run(asyncio.Event())

    async def _bar(self, bar: BarArrivals) -> list[DecodedRecord]:
        """Write a bar; return what the executor sees of it and of what is derived."""
        facts = self._plan.bar(bar.as_of_ms, bar.candles, self._control.end)
        derived = await self._feed(facts)
        found = [self._found(CANDLES, fact.partition, fact.event, "") for fact in facts]
        self._candles |= {candle.instrument: candle.as_of_ms for candle in bar.candles}
        for record, output in derived:
            event, source = output.event, dict(output.headers).get("source", b"")
            if isinstance(event, Manifold):
                self._manifolds[event.instrument] = MirroredManifold(event.as_of_ms)
            elif isinstance(event, Summary):
                self.service.profile.summary(event)
            elif isinstance(event, GateDecision):
                self.service.profile.decision(event)
                found.append(self._found(GATES, record.partition, event, source.decode()))
            elif isinstance(event, Weights):
                self._weights = event
                self._epochs.append(epoch_facts(event))
                self.service.profile.weights([event])
                found.append(self._found(WEIGHTS, record.partition, event, source.decode()))
        return found

    def _found(self, topic: str, partition: int, event: Any, source: str) -> DecodedRecord:
        offset = self._places[topic, partition]
        self._places[topic, partition] += 1
        return DecodedRecord(topic, partition, offset, event, source)

    async def _feed(self, facts: Sequence[Fact]) -> list[DerivedRecord]:
        """Fold facts, and count them as the worker does."""
        records = [
            self._derivation.next_record(
                CANDLES, fact.partition, fact.timestamp_ms, fact.key,
                self._codec.encode(CANDLES, fact.event),
            )
            for fact in facts
        ]  # fmt: skip
        derived = await self._derivation.feed(records)
        inputs: dict[str, list[SourceRecord]] = defaultdict(list, {CANDLES: list(records)})
        for record, _ in derived:
            inputs[record.topic].append(record)
        for stage, source in STAGE_SOURCES.items():
            if not inputs[source]:
                continue
            outputs = [one.output for one in derived if _made_by(stage, one)]
            self.worker.processed(stage, 0, inputs[source], outputs, 0.01)
            self.worker.lag.labels(stage, "0").set(0)
        return derived

    def _look(self) -> None:
        """Scrape every program."""
        now_ms, service = int(time.time() * 1000), self.service
        service.kill_switch.say(False, START_MS, "log")
        service.kill_switch.kept.set(now_ms / 1000)
        service.age.set(1.0)
        service.liveness.show(self._facts(now_ms), now_ms, self.config)
        programs = {
            "worker": self.worker.registry,
            "serve": service.registry,
            "trade": self.executor.parts.metrics.registry,
        }
        for job, registry in programs.items():
            for family in registry.restricted_registry(self._names).collect():
                for sample in family.samples:
                    key = (sample.name, (("job", job), *sorted(sample.labels.items())))
                    self.samples[key].append((now_ms / 1000, sample.value))

    def _facts(self, now_ms: int) -> LiveFacts:
        epoch_ms = self._epochs[-1].epoch_ms
        last = {
            order: of_order[-1]
            for order, reports in self.ledger.reports.items()
            if (of_order := [r for r in reports if r.cause == "order"])
        }
        log = LogFacts(
            dict(self._candles), tuple(self._epochs), dict.fromkeys((*STAGE_SOURCES, "mirror"), 0),
            dead_letters_window_ms=WINDOW_MS,
            orders=order_facts(self.ledger.intents.values(), last, now_ms, WINDOW_MS),
        )  # fmt: skip
        signals = {name: one.as_of_ms for name, one in self._manifolds.items()}
        mirror = MirrorFacts(
            dict(self._manifolds), signals, epoch_ms, epoch_ms, self._epochs[-1].weighted,
            starts={},
        )  # fmt: skip
        kill = KillFacts(False, False, (), START_MS, "ops", "a normal day")
        executor = executor_facts(agreed_status(json.dumps(status_of(self.executor))))
        return LiveFacts(
            self.pairs, log, mirror, kill, executor, None, unused=frozenset(("feed",)),
            workers=WorkerFacts({"worker:9108": ()}), starts={"worker worker": (START_MS,)},
        )  # fmt: skip


def _made_by(stage: str, derived: DerivedRecord) -> bool:
    source = dict(derived.output.headers).get("source", b"").decode()
    return source.startswith(f"{STAGE_SOURCES[stage]}-")


def paper_day(
    environment: Mapping[str, str],
    pairs: Sequence[str],
    names: frozenset[str],
    *,
    seed: int,
    history: int,
    minutes: int = DAY,
) -> PaperDay:
    """Return a deployment after so many minutes of trading.

    Parameters
    ----------
    environment, pairs, names, seed
        As of ``PaperDay``.
    history
        Bars that are derived before.
    """
    day = PaperDay(environment, pairs, seed, names)
    checked = opening.late_entry
    # it reads manifolds of the broker's log; no candle of this market is late
    opening.late_entry = lambda *_: ""
    try:
        virtual_time.run(lambda _: day.live(history, minutes))
    finally:
        opening.late_entry = checked
    return day


def openmetrics(samples: Samples) -> Iterator[str]:
    """Yield the lines of an OpenMetrics file."""
    for series in sorted(samples):
        name, labels = series
        shown = ",".join(f'{key}="{value}"' for key, value in labels)
        for at, value in samples[series]:
            yield f"{name}{{{shown}}} {value} {at:.3f}\n"
    yield "# EOF\n"
