"""What the tests of the stages share: logs in memory, made by hand, through one stage or all."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from streams.config.settings import Config
from streams.instants import GRANULARITY_MS
from streams.pipeline.chain import make_chain
from streams.pipeline.gates import LoadHistory
from streams.pipeline.processor import LogStage, record_key
from streams.records.codec import locked_codec
from streams.records.control import ControlLog, UniverseChange
from streams.records.events import (
    WATERMARK_KEY,
    Candle,
    Control,
    Event,
    GateDecision,
    GateMetrics,
    Manifold,
    Ohlc,
    Watermark,
    Weights,
)
from streams.records.log_record import Batch, Output, SourceRecord
from tests.support.sample_events import SAMPLES

MINUTE = 60_000
T0 = 1_704_880_800_000
"""2024-01-10 10:00 UTC, a Wednesday: London is open, New York is not."""
A, B, C = "EUR_USD", "GBP_USD", "USD_CHF"
CODEC = locked_codec()


def config_record(**env: str) -> Control:
    return Control("config", None, Config.from_env(env).to_json(), "test", "test", T0)


def universe_record(
    names: Sequence[str], from_ms: int = 0, mode: Any = "replace", until_ms: int | None = None
) -> Control:
    change = UniverseChange(mode, tuple(sorted(names)), from_ms, until_ms)
    return Control("universe", None, change.to_json(), "test", "test", T0)


def control_log(*records: Control) -> ControlLog:
    log = ControlLog()
    for offset, record in enumerate(records):
        log.append(offset, record)
    return log


def stage_named(name: str, control: ControlLog, history: LoadHistory | None = None) -> LogStage:
    chain = make_chain(CODEC, control, history=history)
    return {stage.name: stage for stage in chain.stages}[name]


def candle(bar_ms: int, name: str = A, **changes: Any) -> Candle:
    """A good candle; prices wander with the bar, so that no two bars are alike."""
    n = bar_ms // MINUTE
    close = 1.1 + (n * 7919 % 101 - 50) / 10_000
    mid = Ohlc(1.1, max(1.1, close) + n % 7 / 10_000, min(1.1, close) - n % 5 / 10_000, close)
    granularity = changes.get("granularity", "M1")
    made = Candle(
        name,
        granularity,
        bar_ms,
        bar_ms + GRANULARITY_MS[granularity],
        mid,
        None,
        None,
        False,
        10 + n % 13,
        "file",
    )
    return made._replace(**changes)


def mark(as_of_ms: int, offset: int, *names: str, granularity: str = "M1") -> Watermark:
    return Watermark(as_of_ms, granularity, offset, tuple(sorted(names)))


FIRST_SEEN_MS = T0 - 20 * MINUTE
GOOD_METRICS = GateMetrics(0.9, 0.9, 0.1, 0.1, 0.1, 5, 0.1, 1e-4, FIRST_SEEN_MS)


def manifold(bar_ms: int, name: str = A, *, late: bool = False, **metrics: Any) -> Manifold:
    """A manifold record that passes every guard unless told otherwise."""
    wanted = GOOD_METRICS._replace(**metrics)
    if wanted.first_seen_ms is None:  # every manifold has one
        wanted = wanted._replace(first_seen_ms=FIRST_SEEN_MS)
    sample = SAMPLES["Manifold"]
    assert isinstance(sample, Manifold)
    return sample._replace(
        instrument=name,
        bar_ms=bar_ms,
        as_of_ms=bar_ms + MINUTE,
        gap_bars=0,
        volume_missing=False,
        late=late,
        **wanted._asdict(),
    )


def decision(
    name: str,
    as_of_ms: int,
    *,
    eligible: bool = True,
    points: float | None = 0.5,
    cooldown_until_ms: int | None = None,
    **changes: Any,
) -> GateDecision:
    """A gate decision as the allocator gets it."""
    sample = SAMPLES["GateDecision"]
    assert isinstance(sample, GateDecision)
    return sample._replace(
        instrument=name,
        bar_ms=as_of_ms - MINUTE,
        as_of_ms=as_of_ms,
        eligible=eligible,
        reasons=() if eligible else ("coherence_below_min",),
        cooldown_until_ms=cooldown_until_ms,
        score=points,
        **changes,
    )


class Bench:
    """One partition of one stage, fed by hand; offsets count up."""

    def __init__(self, stage: str, control: ControlLog, partition: int = 0) -> None:
        self.stage = stage_named(stage, control, self._history)
        self.log: dict[int, SourceRecord] = {}
        self.partition = partition
        self.rows: dict[bytes, bytes] = {}
        self.offset = 0
        self.processor = self.stage.open(partition, self.rows)

    def record(self, event: Event | bytes | None, key: bytes | None = None) -> SourceRecord:
        """The next record of the source; bytes are taken as they are."""
        offset, self.offset = self.offset, self.offset + 1
        if event is None or isinstance(event, bytes):
            return SourceRecord(self.stage.source, self.partition, offset, 0, key, event)
        value = CODEC.encode(self.stage.source, event)
        stamp = getattr(event, "as_of_ms", 0)
        name = record_key(event) if key is None else key
        return SourceRecord(self.stage.source, self.partition, offset, stamp, name, value)

    async def _history(
        self, at: SourceRecord, names: frozenset[str], since_ms: int
    ) -> dict[str, list[Manifold]]:
        found: dict[str, list[Manifold]] = {name: [] for name in names}
        for record in self.log.values():
            name = (record.key or b"").decode(errors="replace")
            if record.offset < at.offset and name in names and record.timestamp_ms > since_ms:
                event = self.stage.read(record)
                if isinstance(event, Manifold):
                    found[name].append(event)
        return found

    def feed(self, *events: Event | bytes | None) -> list[Output]:
        """Fold the events as one batch and keep the changed rows."""
        return self.fold([self.record(event) for event in events])

    def fold(self, records: Sequence[SourceRecord]) -> list[Output]:
        """Fold records as one batch and keep the changed rows."""
        self.log.update({record.offset: record for record in records})
        asyncio.run(self.stage.prepare(records, self.processor))
        batch: Batch = self.processor.process(records)
        for key, row in self.processor.changes().items():
            if row is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = row
        return batch.outputs

    def restart(self) -> None:
        """Open the stage anew on the rows it left."""
        self.processor = self.stage.open(self.partition, dict(self.rows))


def events_of(outputs: Iterable[Output], topic: str) -> list[Any]:
    """The events of one topic, watermarks aside."""
    return [o.event for o in outputs if o.topic == topic and o.key != WATERMARK_KEY]


def weights_of(outputs: Iterable[Output]) -> list[Weights]:
    return [output.event for output in outputs if isinstance(output.event, Weights)]


def essence(output: Output) -> tuple[Any, ...]:
    """All of an output but its ``source`` header."""
    headers = tuple(header for header in output.headers if header[0] != "source")
    return (*output[:5], headers)
