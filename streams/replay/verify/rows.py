"""What a partition of ``md.candles`` derives, by columns, as the records that must lie in the log.

Candles by the thousand go through the lanes of a replay; what they bring becomes bytes in bulk, or
by the functions that the stages use where there is little of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.candles.columns import NO_VOLUME
from streams.core.gate import evaluation_of
from streams.core.layout import EVALUATION_STRUCT
from streams.errors import Fatal
from streams.pipeline.columns import CandleSegment, ColumnarReplay
from streams.pipeline.epochs import ClosedEpochs
from streams.pipeline.gate_records import Scope, scope_of, summary_record
from streams.pipeline.lane import GateOutput, trades_of
from streams.pipeline.processor import ENGINE_HEADER
from streams.records.codec import Codec
from streams.records.control import ControlLog, ControlState
from streams.records.events import WATERMARK_KEY, Event, Watermark
from streams.records.log_record import SourceRecord
from streams.records.topics import GATES, MANIFOLDS, SIGNALS, SUMMARIES, TRADES
from streams.replay.log_columns import Batch, CandleReader, Partition, feed_batch
from streams.replay.verify.frames import FrameMaker, SegmentOutput

OF_SIGNALS, OF_GATES = (SIGNALS, MANIFOLDS), (TRADES, SUMMARIES)
LAST, RANKS = 1 << 20, 1 << 21
"""Behind every decision that a watermark brings comes the watermark itself."""


class FastPathDeclined(Exception):
    """Something is not what the columns give; the stages have the word on it."""


class Expected(NamedTuple):
    """Records as they must lie in the log, in order: a list for each part of them."""

    values: list[bytes]
    headers: list[list[tuple[str, bytes]]]
    keys: list[bytes]
    timestamps: list[int]

    def span(self, start: int, end: int) -> Expected:
        """Return the records [start, end)."""
        values, headers, keys, timestamps = self
        return Expected(
            values[start:end], headers[start:end], keys[start:end], timestamps[start:end]
        )

    def then(self, more: Expected) -> Expected:
        """Return these records and others behind them."""
        return Expected(
            self.values + more.values,
            self.headers + more.headers,
            self.keys + more.keys,
            self.timestamps + more.timestamps,
        )


class Rows(NamedTuple):
    """What a batch derives for a topic, in order.

    Attributes
    ----------
    places
        Which record of the batch each comes from.
    """

    places: list[int]
    values: list[bytes]
    keys: list[bytes]
    timestamps: list[int]

    def where(self, chosen: Sequence[int]) -> Rows:
        """Return some of the rows."""
        places, values, keys, timestamps = self
        return Rows(
            [places[i] for i in chosen],
            [values[i] for i in chosen],
            [keys[i] for i in chosen],
            [timestamps[i] for i in chosen],
        )


class _Collected:
    """Rows of a topic as they come up; a rank orders what comes from the same record."""

    def __init__(self) -> None:
        self._order: list[NDArray[np.int64]] = []
        self._rows = Rows([], [], [], [])

    def add(
        self, order: NDArray[np.int64], values: list[bytes], key: bytes, timestamps: list[int]
    ) -> None:
        self._order.append(order)
        self._rows.values.extend(values)
        self._rows.keys.extend([key] * len(values))
        self._rows.timestamps.extend(timestamps)

    def one(self, place: int, rank: int, value: bytes, key: bytes, timestamp_ms: int) -> None:
        self.add(np.array([place * RANKS + rank]), [value], key, [timestamp_ms])

    def rows(self) -> Rows:
        if not self._order:
            return self._rows
        order = np.concatenate(self._order)
        found = self._rows._replace(places=(order // RANKS).tolist())
        return found.where(np.argsort(order, kind="stable").tolist())


class _NoSink:
    """Nobody: ``_Lanes.feed`` keeps what is derived."""

    def derived(self, scope: Scope, found: GateOutput) -> None:
        raise AssertionError("what is derived was passed on")

    def closed(self, epochs: ClosedEpochs) -> None:
        raise AssertionError("an epoch was closed")


class _Lanes(ColumnarReplay):
    """The chain of one partition without the epochs; keeps what every segment brings."""

    def __init__(self, control: ControlLog) -> None:
        super().__init__(control, _NoSink())
        self.brought: list[SegmentOutput] = []

    def feed(self, state: ControlState, segment: CandleSegment) -> None:
        name = segment.instrument
        config = state.config_of(name)
        if config is None:
            return
        if config.allow_missing_volume and (segment.candles.volume == NO_VOLUME).any():
            raise FastPathDeclined  # the stage handles candles without volume
        lane = self._lane(name, state)
        scope = scope_of(name, lane.config, state.config_id, state.offset, lane.params_id)
        found = lane.segment(segment.candles, segment.marks)
        precision = lane.config.echo_signature_precision
        self.brought.append(SegmentOutput(scope, precision, segment, found))

    def marked(self, watermark: Watermark) -> None:
        """Do nothing: only epochs want to know."""


class PartitionColumns:
    """What one partition of ``md.candles`` derives, batch by batch.

    Parameters
    ----------
    number
        The partition.
    codec, control
        The schemas, and ``ops.control`` read to its end.
    """

    def __init__(self, number: int, codec: Codec, control: ControlLog) -> None:
        self._number, self._codec, self._control = number, codec, control
        self._frames = FrameMaker(codec)
        known = control.refused_watermarks
        self._reader = CandleReader(codec, lambda record, mark: record.place in known)
        self._lanes = _Lanes(control)
        self._partition = Partition(iter(()))

    def rows(self, records: Sequence[SourceRecord]) -> tuple[dict[str, Rows], list[str]]:
        """Return what a batch of records derives per topic, and the config in force at each place.

        Raises
        ------
        FastPathDeclined
            The batch has what only the stages know to handle.
        """
        batch = self._reader.read(records)
        if any(mark.control_offset > self._control.end for _, mark in batch.watermarks):
            raise FastPathDeclined
        configs = self._configs(batch, len(records))
        self._lanes.brought = []
        try:
            feed_batch(self._lanes, self._control, self._partition, batch)
        except Fatal as error:
            raise FastPathDeclined from error
        marks = dict(batch.watermarks)
        collected = {t: _Collected() for t in (*OF_SIGNALS, *OF_GATES, GATES)}
        for brought in self._lanes.brought:
            self._bars(brought, collected)
            self._gates(brought, marks, collected)
        for place, mark in batch.watermarks:
            for topic in (*OF_SIGNALS, GATES):
                self._one(collected, topic, (place, LAST), mark, WATERMARK_KEY)
        return {topic: found.rows() for topic, found in collected.items()}, configs

    def _configs(self, batch: Batch, length: int) -> list[str]:
        state, configs, done = self._partition.state, [], 0
        for place, mark in batch.watermarks:
            if state is None or mark.control_offset > state.offset:
                configs += [state.config_id if state else ""] * (place - done)
                state, done = self._control.state(mark.control_offset), place
        return configs + [state.config_id if state else ""] * (length - done)

    def _one(
        self,
        collected: Mapping[str, _Collected],
        topic: str,
        at: tuple[int, int],
        event: Event,
        key: bytes,
    ) -> None:
        value = self._codec.encode(topic, event)
        collected[topic].one(*at, value, key, event.as_of_ms)  # type: ignore[union-attr]

    def _bars(self, brought: SegmentOutput, collected: Mapping[str, _Collected]) -> None:
        scope, _, segment, found = brought
        assert segment.at is not None
        order = segment.at[found.places] * RANKS
        ends = (found.bars.bar_ms + scope.config.granularity_ms).tolist()
        key = scope.instrument.encode()
        for topic, values in zip(OF_SIGNALS, self._frames.bars(brought), strict=True):
            collected[topic].add(order, values, key, ends)

    def _gates(
        self,
        brought: SegmentOutput,
        marks: Mapping[int, Watermark],
        collected: Mapping[str, _Collected],
    ) -> None:
        scope, _, segment, found = brought
        assert segment.at is not None and segment.marks_at is not None
        name, key = scope.instrument, scope.instrument.encode()
        of_bar = dict(
            zip(found.bars.bar_ms.tolist(), segment.at[found.places].tolist(), strict=True)
        )
        # of several watermarks of one time the first decides
        ends = segment.marks.as_of_ms.tolist()
        of_mark = dict(zip(reversed(ends), reversed(segment.marks_at.tolist()), strict=True))
        derived = found.derived
        decisions = derived.decisions
        bar_ms, as_of_ms = decisions["bar_ms"].tolist(), decisions["as_of_ms"].tolist()
        order = [
            of_mark[end] * RANKS + marks[of_mark[end]].instruments.index(name)
            if no_candle
            else of_bar[start] * RANKS
            for start, end, no_candle in zip(
                bar_ms, as_of_ms, decisions["no_candle"].tolist(), strict=True
            )
        ]
        values = self._frames.decisions(brought)
        collected[GATES].add(np.array(order, np.int64), values, key, as_of_ms)
        for trade in trades_of(derived.trades, scope):
            self._one(collected, TRADES, (of_bar[trade.exit_bar_ms], 0), trade, key)
        opened = (decisions["no_candle"] == 0) & (decisions["reasons"] == 0)
        eligible = set(decisions["bar_ms"][opened].tolist())
        for fields in EVALUATION_STRUCT.iter_unpack(derived.evaluations.tobytes()):
            evaluation = evaluation_of(fields)
            summary = summary_record(evaluation, scope, eligible=evaluation.bar_ms in eligible)
            self._one(collected, SUMMARIES, (of_bar[evaluation.bar_ms], 0), summary, key)

    def wanted(self, rows: Rows, source: str, offsets: Any, configs: Sequence[str]) -> Expected:
        """Return rows as they must lie in the log.

        Parameters
        ----------
        source
            The topic that they are derived from.
        offsets
            Place in the batch -> offset in that topic.
        configs
            The config in force at each place.
        """
        prefix = f"{source}-{self._number}-".encode()
        of_config = {config: ("config_id", config.encode()) for config in set(configs)}
        headers = [
            [("source", b"%b%d" % (prefix, offsets[p])), ENGINE_HEADER, of_config[configs[p]]]
            for p in rows.places
        ]
        return Expected(rows.values, headers, rows.keys, rows.timestamps)
