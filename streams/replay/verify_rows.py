"""What a partition of ``md.candles`` derives, by columns, as the records that must lie in the log.

Candles by the thousand go through the lanes of a replay; records are made by the functions that the
stages use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from streams.codec import Codec
from streams.control import ControlLog, ControlState
from streams.engine.gate import evaluation_of
from streams.engine.gate_layout import DECISION_STRUCT, EVALUATION_STRUCT, Decision
from streams.engine.stream import Metrics, format_signature
from streams.errors import Fatal
from streams.events import WATERMARK_KEY, Candle, CandlePrices, Event, Ohlc, Watermark
from streams.feed.columns import NO_VOLUME
from streams.replay.columnar import ColumnarReplay, VouchedCandles
from streams.replay.epochs import ClosedEpochs
from streams.replay.lanes import Derived, Stretch, trades_of
from streams.replay.log_columns import Batch, CandleReader, Partition, feed_batch
from streams.stages.gate_records import Scope, decision_record, scope_of, summary_record
from streams.stages.manifolds import manifold
from streams.stages.processor import ENGINE_HEADER
from streams.stages.sessions import missing_bars
from streams.stages.signals import signal
from streams.stages.step import SourceRecord
from streams.topics import GATES, MANIFOLDS, SIGNALS, SUMMARIES, TRADES

OF_SIGNALS, OF_GATES = (SIGNALS, MANIFOLDS), (TRADES, SUMMARIES)
LAST = 1 << 20
"""Behind every decision that a watermark brings comes the watermark itself."""


class NotTheSame(Exception):
    """Something is not what the columns give; the stages have the word on it."""


class Wanted(NamedTuple):
    """A record as it must lie in the log."""

    value: bytes
    headers: tuple[tuple[str, bytes], ...]
    key: bytes
    timestamp_ms: int


class Row(NamedTuple):
    """One record that a batch derives.

    Attributes
    ----------
    place, rank
        Which record of the batch it comes from, and its order among what comes from that.
    """

    place: int
    rank: int
    event: Event
    key: bytes


class _Brought(NamedTuple):
    """What a stretch of an instrument's candles has brought, and under what."""

    scope: Scope
    precision: int
    stretch: VouchedCandles
    found: Stretch


class _NoSink:
    """Nobody: ``_Lanes.feed`` keeps what is derived."""

    def derived(self, scope: Scope, found: Derived) -> None:
        raise AssertionError("what is derived was passed on")

    def closed(self, epochs: ClosedEpochs) -> None:
        raise AssertionError("an epoch was closed")


class _Lanes(ColumnarReplay):
    """The chain of one partition without the epochs; keeps what every stretch brings."""

    def __init__(self, control: ControlLog) -> None:
        super().__init__(control, _NoSink())
        self.brought: list[_Brought] = []

    def feed(self, state: ControlState, stretch: VouchedCandles) -> None:
        name = stretch.instrument
        config = state.config_of(name)
        if config is None:
            return
        if config.allow_missing_volume and (stretch.candles.volume == NO_VOLUME).any():
            raise NotTheSame  # how long a candle without volume is felt is the stage's business
        lane = self._lane(name, state)
        scope = scope_of(name, lane.config, state.config_id, state.offset, lane.params_id)
        found = lane.stretch(stretch.candles, stretch.marks)
        precision = lane.config.echo_signature_precision
        self.brought.append(_Brought(scope, precision, stretch, found))

    def vouch(self, as_of_ms: int, control_offset: int) -> None:
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
        self._reader = CandleReader(codec)
        self._lanes = _Lanes(control)
        self._partition = Partition(iter(()))

    def rows(self, records: Sequence[SourceRecord]) -> tuple[dict[str, list[Row]], list[str]]:
        """Return what a batch of records derives per topic, and the config in force at each place.

        Raises
        ------
        NotTheSame
            The batch has what only the stages know to handle.
        """
        batch = self._reader.read(records)
        if any(mark.control_offset > self._control.end for _, mark in batch.watermarks):
            raise NotTheSame
        configs = self._configs(batch, len(records))
        self._lanes.brought = []
        try:
            feed_batch(self._lanes, self._control, self._partition, batch)
        except Fatal as error:
            raise NotTheSame from error
        marks = dict(batch.watermarks)
        rows: dict[str, list[Row]] = {t: [] for t in (*OF_SIGNALS, *OF_GATES, GATES)}
        for brought in self._lanes.brought:
            _signals(brought, rows)
            _gates(brought, marks, rows)
        for place, mark in batch.watermarks:
            for topic in (*OF_SIGNALS, GATES):
                rows[topic].append(Row(place, LAST, mark, WATERMARK_KEY))
        for found in rows.values():
            found.sort(key=lambda row: row[:2])
        return rows, configs

    def _configs(self, batch: Batch, length: int) -> list[str]:
        state, configs, done = self._partition.state, [], 0
        for place, mark in batch.watermarks:
            if state is None or mark.control_offset > state.offset:
                configs += [state.config_id if state else ""] * (place - done)
                state, done = self._control.state(mark.control_offset), place
        return configs + [state.config_id if state else ""] * (length - done)

    def wanted(
        self, topic: str, rows: Sequence[Row], source: str, offsets: Any, configs: Sequence[str]
    ) -> Iterator[Wanted]:
        """Yield rows as they must lie in a topic.

        Parameters
        ----------
        source
            The topic that they are derived from.
        offsets
            Place in the batch -> offset in that topic.
        configs
            The config in force at each place.
        """
        prefix, encode = f"{source}-{self._number}-", self._codec.encode
        for place, _, event, key in rows:
            headers = (
                ("source", f"{prefix}{offsets[place]}".encode()),
                ENGINE_HEADER,
                ("config_id", configs[place].encode()),
            )
            yield Wanted(encode(topic, event), headers, key, event.as_of_ms)  # type: ignore[union-attr]


@lru_cache(maxsize=8192)
def _signature(c: int, s: int, e: int, precision: int) -> str:
    return format_signature(c, s, e, precision)


def _signals(brought: _Brought, rows: dict[str, list[Row]]) -> None:
    scope, precision, stretch, found = brought
    assert stretch.at is not None
    name, config = scope.instrument, scope.config
    gran, length_ms = config.candle_gran, config.granularity_ms
    stamp, key, bars = (scope.config_id, scope.control_offset), name.encode(), found.bars
    for place, row, bar_ms, before_ms, late, prices, quoted, volume in zip(
        stretch.at[found.places].tolist(),
        found.derived.metrics.tolist(),
        bars.bar_ms.tolist(),
        found.before_ms.tolist(),
        found.late.tolist(),
        bars.prices.T.tolist(),
        bars.quoted.tolist(),
        bars.volume.tolist(),
        strict=True,
    ):
        (start, *of_window, hazard, sigma, lambda_, first, t0, t1, repeated, count, ones) = row[:15]
        c, s, e, collapsed = row[15:]
        said = (start, *of_window, hazard, collapsed, _signature(c, s, e, precision))
        metrics = Metrics._make((*said, repeated, first, ones, sigma, lambda_, count, t0, t1))
        bid, ask = (Ohlc(*prices[4:8]), Ohlc(*prices[8:])) if quoted else (None, None)
        numbers = CandlePrices(Ohlc(*prices[:4]), bid, ask, volume)
        as_of_ms = bar_ms + length_ms
        candle = Candle(
            *(name, gran, bar_ms, as_of_ms, numbers.mid, bid, ask, False, volume, "file")
        )
        gap = 0
        if 0 <= before_ms != bar_ms - length_ms:
            gap = missing_bars(before_ms, bar_ms, length_ms)
        event = signal(candle, numbers, metrics, stamp, volume_missing=False, gap_bars=gap)
        rows[SIGNALS].append(Row(place, 0, event, key))
        snapshot = manifold(
            *(candle, numbers, metrics, stamp),
            volume_missing=False,
            gap_bars=gap,
            late=bool(late),
        )
        rows[MANIFOLDS].append(Row(place, 0, snapshot, key))


def _gates(brought: _Brought, marks: Mapping[int, Watermark], rows: dict[str, list[Row]]) -> None:
    scope, _, stretch, found = brought
    assert stretch.at is not None and stretch.marks_at is not None
    key = scope.instrument.encode()
    of_bar = dict(zip(found.bars.bar_ms.tolist(), stretch.at[found.places].tolist(), strict=True))
    # of several watermarks of one time the first decides
    ends = stretch.marks.as_of_ms.tolist()
    of_mark = dict(zip(reversed(ends), reversed(stretch.marks_at.tolist()), strict=True))
    derived, eligible = found.derived, set()
    for fields in DECISION_STRUCT.iter_unpack(derived.decisions.tobytes()):
        decision = Decision._make(fields)
        if decision.no_candle:
            place = of_mark[decision.as_of_ms]
            rank = marks[place].instruments.index(scope.instrument)
        else:
            place, rank = of_bar[decision.bar_ms], 0
            if not decision.reasons:
                eligible.add(decision.bar_ms)
        rows[GATES].append(Row(place, rank, decision_record(decision, scope), key))
    for trade in trades_of(derived.trades, scope):
        rows[TRADES].append(Row(of_bar[trade.exit_bar_ms], 0, trade, key))
    for fields in EVALUATION_STRUCT.iter_unpack(derived.evaluations.tobytes()):
        evaluation = evaluation_of(fields)
        summary = summary_record(evaluation, scope, eligible=evaluation.bar_ms in eligible)
        rows[SUMMARIES].append(Row(of_bar[evaluation.bar_ms], 0, summary, key))
