"""Expected records in the log for a partition of ``md.candles``, computed over columns.

Many candles at once go through the folds of a replay; the output is encoded in bulk, or, if it is
small, by the functions of the stages.
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
from streams.pipeline.instrument_fold import GateOutput, closed_trades
from streams.pipeline.processor import ENGINE_HEADER
from streams.records.codec import Codec
from streams.records.control import ControlLog, ControlState
from streams.records.events import WATERMARK_KEY, Event, Watermark
from streams.records.log_record import SourceRecord
from streams.records.topics import GATES, MANIFOLDS, SIGNALS, SUMMARIES, TRADES
from streams.replay.log_columns import CandleReader, Partition, RecordBatch, feed_batch
from streams.replay.verify.frames import FrameMaker, SegmentOutput

OF_SIGNALS, OF_GATES = (SIGNALS, MANIFOLDS), (TRADES, SUMMARIES)
LAST, RANKS = 1 << 20, 1 << 21
"""Rank of a watermark: after all decisions that it causes."""


class FastPathDeclined(Exception):
    """The fast path disagrees or does not apply; the row-by-row stages decide."""


class Expected(NamedTuple):
    """Expected records in the log, in order: one list per field."""

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
        """Return these records followed by others."""
        return Expected(
            self.values + more.values,
            self.headers + more.headers,
            self.keys + more.keys,
            self.timestamps + more.timestamps,
        )


class Rows(NamedTuple):
    """The output of a batch for a topic, in order.

    Attributes
    ----------
    indices
        Index of the source record of each row in the batch.
    """

    indices: list[int]
    values: list[bytes]
    keys: list[bytes]
    timestamps: list[int]

    def where(self, chosen: Sequence[int]) -> Rows:
        """Return some of the rows."""
        indices, values, keys, timestamps = self
        return Rows(
            [indices[i] for i in chosen],
            [values[i] for i in chosen],
            [keys[i] for i in chosen],
            [timestamps[i] for i in chosen],
        )


class _Collected:
    """Rows of a topic, unordered; the rank orders rows of the same source record."""

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

    def one(self, index: int, rank: int, value: bytes, key: bytes, timestamp_ms: int) -> None:
        self.add(np.array([index * RANKS + rank]), [value], key, [timestamp_ms])

    def rows(self) -> Rows:
        if not self._order:
            return self._rows
        order = np.concatenate(self._order)
        found = self._rows._replace(indices=(order // RANKS).tolist())
        return found.where(np.argsort(order, kind="stable").tolist())


class _NoSink:
    """Unused sink: ``_Folds.feed`` keeps the output."""

    def derived(self, scope: Scope, found: GateOutput) -> None:
        raise AssertionError("output was passed on")

    def closed(self, epochs: ClosedEpochs) -> None:
        raise AssertionError("an epoch was closed")


class _Folds(ColumnarReplay):
    """The chain of one partition without the epochs; keeps the output of every segment."""

    def __init__(self, control: ControlLog) -> None:
        super().__init__(control, _NoSink())
        self.outputs: list[SegmentOutput] = []

    def feed(self, state: ControlState, segment: CandleSegment) -> None:
        name = segment.instrument
        config = state.config_of(name)
        if config is None:
            return
        if config.allow_missing_volume and (segment.candles.volume == NO_VOLUME).any():
            raise FastPathDeclined  # candles without volume are left to the stage
        fold = self._fold(name, state)
        scope = scope_of(name, fold.config, state.config_id, state.offset, fold.params_id)
        found = fold.segment(segment.candles, segment.watermarks)
        precision = fold.config.echo_signature_precision
        self.outputs.append(SegmentOutput(scope, precision, segment, found))

    def on_watermark(self, watermark: Watermark) -> None:
        """Do nothing: only epochs need it."""


class PartitionColumns:
    """The expected output of one partition of ``md.candles``, batch by batch.

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
        self._folds = _Folds(control)
        self._partition = Partition(iter(()))

    def rows(self, records: Sequence[SourceRecord]) -> tuple[dict[str, Rows], list[str]]:
        """Return the output of a batch per topic, and the configuration in force at each record.

        Raises
        ------
        FastPathDeclined
            The batch contains records that only the stages support.
        """
        batch = self._reader.read(records)
        if any(watermark.control_offset > self._control.end for _, watermark in batch.watermarks):
            raise FastPathDeclined
        configs = self._configs(batch, len(records))
        self._folds.outputs = []
        try:
            feed_batch(self._folds, self._control, self._partition, batch)
        except Fatal as error:
            raise FastPathDeclined from error
        watermarks = dict(batch.watermarks)
        collected = {t: _Collected() for t in (*OF_SIGNALS, *OF_GATES, GATES)}
        for output in self._folds.outputs:
            self._bars(output, collected)
            self._gates(output, watermarks, collected)
        for index, watermark in batch.watermarks:
            for topic in (*OF_SIGNALS, GATES):
                self._one(collected, topic, (index, LAST), watermark, WATERMARK_KEY)
        return {topic: found.rows() for topic, found in collected.items()}, configs

    def _configs(self, batch: RecordBatch, length: int) -> list[str]:
        state, configs, done = self._partition.state, [], 0
        for index, watermark in batch.watermarks:
            if state is None or watermark.control_offset > state.offset:
                configs += [state.config_id if state else ""] * (index - done)
                state, done = self._control.state(watermark.control_offset), index
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

    def _bars(self, output: SegmentOutput, collected: Mapping[str, _Collected]) -> None:
        scope, _, segment, found = output
        assert segment.at is not None
        order = segment.at[found.indices] * RANKS
        ends = (found.bars.bar_ms + scope.config.granularity_ms).tolist()
        key = scope.instrument.encode()
        for topic, values in zip(OF_SIGNALS, self._frames.bars(output), strict=True):
            collected[topic].add(order, values, key, ends)

    def _gates(
        self,
        output: SegmentOutput,
        watermarks: Mapping[int, Watermark],
        collected: Mapping[str, _Collected],
    ) -> None:
        scope, _, segment, found = output
        assert segment.at is not None and segment.watermarks_at is not None
        name, key = scope.instrument, scope.instrument.encode()
        of_bar = dict(
            zip(found.bars.bar_ms.tolist(), segment.at[found.indices].tolist(), strict=True)
        )
        # the first of several watermarks of one time decides
        ends = segment.watermarks.as_of_ms.tolist()
        of_watermark = dict(
            zip(reversed(ends), reversed(segment.watermarks_at.tolist()), strict=True)
        )
        derived = found.derived
        decisions = derived.decisions
        bar_ms, as_of_ms = decisions["bar_ms"].tolist(), decisions["as_of_ms"].tolist()
        order = [
            of_watermark[end] * RANKS + watermarks[of_watermark[end]].instruments.index(name)
            if no_candle
            else of_bar[start] * RANKS
            for start, end, no_candle in zip(
                bar_ms, as_of_ms, decisions["no_candle"].tolist(), strict=True
            )
        ]
        values = self._frames.decisions(output)
        collected[GATES].add(np.array(order, np.int64), values, key, as_of_ms)
        for trade in closed_trades(derived.trades, scope):
            self._one(collected, TRADES, (of_bar[trade.exit_bar_ms], 0), trade, key)
        opened = (decisions["no_candle"] == 0) & (decisions["reasons"] == 0)
        eligible = set(decisions["bar_ms"][opened].tolist())
        for fields in EVALUATION_STRUCT.iter_unpack(derived.evaluations.tobytes()):
            evaluation = evaluation_of(fields)
            summary = summary_record(evaluation, scope, eligible=evaluation.bar_ms in eligible)
            self._one(collected, SUMMARIES, (of_bar[evaluation.bar_ms], 0), summary, key)

    def expected(self, rows: Rows, source: str, offsets: Any, configs: Sequence[str]) -> Expected:
        """Return rows as expected records of the log.

        Parameters
        ----------
        source
            The source topic.
        offsets
            Index in the batch -> offset in the source topic.
        configs
            The configuration in force at each record.
        """
        prefix = f"{source}-{self._number}-".encode()
        of_config = {config: ("config_id", config.encode()) for config in set(configs)}
        headers = [
            [("source", b"%b%d" % (prefix, offsets[p])), ENGINE_HEADER, of_config[configs[p]]]
            for p in rows.indices
        ]
        return Expected(rows.values, headers, rows.keys, rows.timestamps)
