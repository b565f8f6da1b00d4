"""A range of ``md.candles`` as columns: partition by partition, in log order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from streams.candles.bulk_avro import GRANULARITIES, PLAIN, BulkCandles, concatenated
from streams.candles.columns import CandleColumns
from streams.candles.frames import CandleFrames
from streams.candles.rules import input_refusal
from streams.config.runtime import Runtime
from streams.kafka.ranges import Span
from streams.kafka.reader import LogReader
from streams.pipeline.columns import NO_CONFIG, CandleSegment, ColumnarReplay
from streams.pipeline.instrument_fold import Watermarks
from streams.records.codec import Codec, DecodeError
from streams.records.control import ControlLog, ControlState
from streams.records.events import Candle, Watermark
from streams.records.log_record import SourceRecord
from streams.records.topics import CANDLES

Refuses = Callable[[SourceRecord, Watermark], bool]
UNREADABLE = "no valid candle or watermark"


class RecordBatch(NamedTuple):
    """Records of one partition, in log order.

    Attributes
    ----------
    frames
        The candles, as columns; ``frames.at`` are their indices in the batch.
    watermarks
        (place, watermark).
    refused
        Number of records that are neither.
    """

    frames: CandleFrames
    watermarks: list[tuple[int, Watermark]]
    refused: int


@dataclass
class Partition:
    """Progress of a partition."""

    batches: Iterator[list[SourceRecord]]
    state: ControlState | None = None
    reached_ms: int = -1
    names: dict[str, None] = field(default_factory=dict)


def replay_log(
    runtime: Runtime,
    codec: Codec,
    control: ControlLog,
    replay: ColumnarReplay,
    spans: Sequence[Span],
    instruments: Sequence[str] = (),
) -> Iterator[int]:
    """Replay ranges of ``md.candles``; always continues with the partition that is furthest behind.

    Parameters
    ----------
    spans
        Offset range of each partition.
    instruments
        Only these instruments; empty for all.

    Yields
    ------
    int
        Number of offsets read since the previous value.

    Raises
    ------
    Recoverable
        No broker answers.
    """
    readers = [LogReader(runtime) for _ in spans]
    try:
        batches = {
            span.partition: reader.read_values(CANDLES, span.partition, span.start, span.end)
            for reader, span in zip(readers, spans, strict=True)
        }
        openings = {span.partition: span.opening for span in spans if span.opening is not None}
        yield from replay_batches(codec, control, replay, batches, openings, instruments)
    finally:
        for reader in readers:
            reader.close()


def replay_batches(
    codec: Codec,
    control: ControlLog,
    replay: ColumnarReplay,
    batches: Mapping[int, Iterator[list[SourceRecord]]],
    openings: Mapping[int, Watermark],
    instruments: Sequence[str] = (),
) -> Iterator[int]:
    """Replay batches of ``md.candles`` from any source; otherwise as ``replay_log``.

    Parameters
    ----------
    batches
        Batches per partition, in log order.
    openings
        Replacement for the watermarks before the first batch of a partition.
    """
    reader = CandleReader(
        codec,
        lambda record, mark: control.refuses(record.place, mark),
    )
    running = {number: Partition(found) for number, found in batches.items()}
    for number, opening in openings.items():
        _open(replay, control, running[number], opening, instruments)
    while running:
        number = min(running, key=lambda p: (running[p].reached_ms, p))
        partition = running[number]
        records = next(partition.batches, None)
        if records is None:
            del running[number]
        else:
            batch = reader.read(records)
            replay.refuse(UNREADABLE, batch.refused)
            feed_batch(replay, control, partition, batch, instruments)
            yield len(records)
        replay.close(min((p.reached_ms for p in running.values()), default=1 << 62))


class CandleReader:
    """Reads records of ``md.candles`` into columns.

    Parameters
    ----------
    codec
        The schemas; unknown ids are resolved.
    refuses
        Tells which watermarks are refused because of ``ops.control``.
    """

    def __init__(self, codec: Codec, refuses: Refuses) -> None:
        self._codec, self._refuses = codec, refuses
        self._bulk = BulkCandles(codec.schema_id(CANDLES, "Candle"))

    def read(self, sources: Sequence[SourceRecord]) -> RecordBatch:
        """Return a batch as columns and watermarks; other records are refused.

        The stage writes dead letters for the same records.
        """
        found = self._bulk.read(*concatenated([record.value for record in sources]))
        stamps = np.array([record.timestamp_ms for record in sources], np.int64)
        plain = (found.status == PLAIN) & (found.as_of_ms <= stamps)
        at = np.flatnonzero(plain)
        which = found.instrument[at].tolist()
        keyed = [
            found.instruments[number] == sources[index].key
            for number, index in zip(which, at.tolist(), strict=True)
        ]
        plain[at] = keyed
        at = np.flatnonzero(plain)
        prices = np.ascontiguousarray(found.prices[:, at])
        frames = CandleFrames(
            at,
            found.instrument[at].astype(np.int64),
            found.granularity[at].astype(np.int64),
            [name.decode() for name in found.instruments],
            list(GRANULARITIES),
            CandleColumns(
                found.bar_ms[at],
                prices,
                ~(np.isnan(prices[4]) | np.isnan(prices[8])),
                found.volume[at],
            ),
        )
        return self._rest(sources, np.flatnonzero(~plain).tolist(), frames)

    def _rest(
        self, sources: Sequence[SourceRecord], slow: Sequence[int], frames: CandleFrames
    ) -> RecordBatch:
        """Decode the records that the fast path did not decode, one by one."""
        unknown = self._codec.unknown_ids(sources[index].value for index in slow)
        if unknown:
            asyncio.run(self._codec.resolve(unknown))
        watermarks: list[tuple[int, Watermark]] = []
        candles: list[tuple[int, Candle]] = []
        refused = 0
        for index in slow:
            record = sources[index]
            try:
                event: Any = self._codec.decode(CANDLES, record.value)
            except DecodeError:
                refused += 1
                continue
            if input_refusal(event, record.key, record.timestamp_ms):
                refused += 1
            elif isinstance(event, Watermark):
                if self._refuses(record, event):
                    refused += 1
                else:
                    watermarks.append((index, event))
            else:
                candles.append((index, event))
        return RecordBatch(frames.with_candles(candles), watermarks, refused)


def _open(
    replay: ColumnarReplay,
    control: ControlLog,
    partition: Partition,
    opening: Watermark,
    instruments: Sequence[str],
) -> None:
    """Begin a range as if preceded by a watermark, with the control state in force there."""
    partition.state = control.state(opening.control_offset)
    replay.on_watermark(opening)
    empty = np.zeros(0, np.int64)
    nothing = CandleColumns(empty, np.zeros((12, 0)), np.zeros(0, bool), empty)
    watermark = Watermarks(np.array([opening.as_of_ms], np.int64), np.zeros(1, np.int64))
    for name in opening.instruments:
        if not instruments or name in instruments:
            partition.names[name] = None
            replay.feed(partition.state, CandleSegment(name, nothing, watermark))


def feed_batch(
    replay: ColumnarReplay,
    control: ControlLog,
    partition: Partition,
    batch: RecordBatch,
    instruments: Sequence[str] = (),
) -> None:
    """Feed a batch of a partition; calls ``replay.switch`` where ``ops.control`` takes effect."""
    start = 0
    pending: list[tuple[int, Watermark]] = []
    for index, watermark in batch.watermarks:
        partition.reached_ms = max(partition.reached_ms, watermark.as_of_ms)
        offset = partition.state.offset if partition.state else -1
        if watermark.control_offset > offset or watermark.not_waited_for:
            _feed_segment(replay, partition, batch, start, index, pending, instruments)
            start, pending = index, []
        replay.on_watermark(watermark)
        if watermark.control_offset > offset:
            partition.state = control.state(watermark.control_offset)
            replay.switch(partition.state, list(partition.names), watermark.as_of_ms)
        pending.append((index, watermark))
    _feed_segment(replay, partition, batch, start, 1 << 62, pending, instruments)


def _feed_segment(
    replay: ColumnarReplay,
    partition: Partition,
    batch: RecordBatch,
    start: int,
    end: int,
    watermarks: Sequence[tuple[int, Watermark]],
    instruments: Sequence[str],
) -> None:
    """Feed the records [start, end) of a batch, all under one control state."""
    frames, state = batch.frames, partition.state
    first, last = np.searchsorted(frames.at, (start, end))
    if state is None or state.config is None:
        replay.refuse(NO_CONFIG, int(last - first))
        return
    granularity = state.config.candle_gran
    by_instrument: dict[str, list[tuple[int, int]]] = {}
    for index, watermark in watermarks:
        for name in watermark.instruments if watermark.granularity == granularity else ():
            by_instrument.setdefault(name, []).append((index, watermark.as_of_ms))
    chosen = np.arange(first, last)
    chosen = chosen[frames.granularity_is(granularity)[first:last]]
    which = frames.instrument[chosen]
    names = {frames.names[number]: number for number in np.unique(which).tolist()}
    for name in sorted({*names, *by_instrument}):
        if instruments and name not in instruments:
            continue
        partition.names[name] = None
        own = chosen[which == names[name]] if name in names else chosen[:0]
        at = frames.at[own]
        watermarks_at, as_of_ms = np.array(by_instrument.get(name, []), np.int64).reshape(-1, 2).T
        before = Watermarks(np.ascontiguousarray(as_of_ms), np.searchsorted(at, watermarks_at))
        replay.feed(state, CandleSegment(name, frames.columns(own), before, at, watermarks_at))
