"""The candles already in the log, so that a feed writes only newer ones."""

from __future__ import annotations

import logging
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from streams.candles.columns import SeriesKey, digest
from streams.config.runtime import Runtime
from streams.instants import GRANULARITY_MS, clock
from streams.kafka.decoding import candle_event_of
from streams.kafka.reader import LogReader
from streams.process.clock_skew import MAX_SKEW_MS
from streams.records.codec import Codec
from streams.records.control import ControlLog
from streams.records.events import WATERMARK_KEY, Candle, CandleSource, Watermark
from streams.records.log_record import SourceRecord
from streams.records.topics import CANDLES

log = logging.getLogger("manifold.feed")


@dataclass
class LoggedSeries:
    """The candles of one series in the log."""

    last_bar_ms: int = -1
    bars: array[int] = field(default_factory=lambda: array("q"))
    digests: array[int] = field(default_factory=lambda: array("q"))

    def sorted(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return bars and digests by time; only the first version of a bar."""
        bars = np.frombuffer(self.bars, np.int64) if self.bars else np.zeros(0, np.int64)
        found, first = np.unique(bars, return_index=True)
        digests = np.frombuffer(self.digests, np.int64) if self.digests else bars
        return found, digests[first]


@dataclass
class Survey:
    """The candles and watermarks of some instruments in the log.

    Attributes
    ----------
    series
        Per series: last bar, and the bars from ``since_ms`` on with their digests.
    watermark_ms
        Per (instrument, granularity): the latest watermark.
    ahead_ms
        The latest one that lies in the future and after every candle. No feed writes such a
        watermark. The stages accept the candles before it and mark them late, so a feed must not
        take its time for that up to which the log is complete.
    """

    series: dict[SeriesKey, LoggedSeries] = field(default_factory=dict)
    watermark_ms: dict[SeriesKey, int] = field(default_factory=dict)
    ahead_ms: dict[SeriesKey, int] = field(default_factory=dict)

    def last_bar_ms(self, key: SeriesKey) -> int:
        """Return the start of the last bar of a series in the log, -1 without one."""
        found = self.series.get(key)
        return found.last_bar_ms if found else -1


def survey(
    runtime: Runtime,
    codec: Codec,
    partitions: Iterable[int],
    keys: Iterable[SeriesKey],
    since_ms: int,
    control: ControlLog,
    now_ms: int,
    progress: Callable[[int], None] = lambda count: None,
    stamped_from_ms: int | None = None,
    source: CandleSource | None = None,
) -> Survey:
    """Read the given partitions of ``md.candles``; return the candles and watermarks of ``keys``.

    Only records that the stages accept count.

    Parameters
    ----------
    since_ms
        Digests are kept from this bar on, to distinguish duplicates from conflicts.
    control
        ``ops.control``, read to its end.
    now_ms
        Wall clock; watermarks after it do not count unless a candle reaches them.
    progress
        Called with the number of records read since the last call.
    stamped_from_ms
        Skip the records before the first one with this timestamp or a later one; the last bar of a
        series that ends before is then not found.
    source
        Keep digests of candles of this source only.
    """
    found, wanted = Survey(), set(keys)
    names = {key.instrument.encode() for key in wanted}
    with LogReader(runtime) as reader:
        for partition in partitions:
            start = (
                None
                if stamped_from_ms is None
                else reader.offset_at(CANDLES, partition, stamped_from_ms)
            )
            for batch in reader.read(CANDLES, partition, start):
                for item in batch:
                    key = item.record.key
                    if key == WATERMARK_KEY or key in names:
                        _note(found, codec, item.record, since_ms, source, control, now_ms)
                progress(len(batch))
    _settle_ahead(found, wanted)
    return found


def _note(
    found: Survey,
    codec: Codec,
    record: SourceRecord,
    since_ms: int,
    source: CandleSource | None,
    control: ControlLog,
    now_ms: int,
) -> None:
    event = candle_event_of(codec, record)
    if isinstance(event, Watermark):
        if control.refuses(record.place, event):
            return
        ahead = event.as_of_ms > now_ms + MAX_SKEW_MS
        times = found.ahead_ms if ahead else found.watermark_ms
        for name in event.instruments:
            key = SeriesKey(name, event.granularity)
            times[key] = max(times.get(key, -1), event.as_of_ms)
    elif isinstance(event, Candle):
        series = found.series.setdefault(
            SeriesKey(event.instrument, event.granularity), LoggedSeries()
        )
        series.last_bar_ms = max(series.last_bar_ms, event.bar_ms)
        if event.bar_ms >= since_ms and source in (None, event.source):
            series.bars.append(event.bar_ms)
            series.digests.append(digest(event))


def _settle_ahead(found: Survey, wanted: set[SeriesKey]) -> None:
    """Count the watermarks in the future that candles reach; name the others."""
    ends: dict[str, int] = {}
    for key, series in found.series.items():
        end_ms = series.last_bar_ms + GRANULARITY_MS[key.granularity]
        ends[key.granularity] = max(end_ms, ends.get(key.granularity, -1))
    for key, ahead_ms in list(found.ahead_ms.items()):
        if ahead_ms <= ends.get(key.granularity, -1):
            found.watermark_ms[key] = found.ahead_ms.pop(key)
    strange = sorted(key for key in found.ahead_ms if key in wanted)
    if strange:
        latest = max(found.ahead_ms[key] for key in strange)
        log.warning(
            "%s has watermarks of the future up to %s UTC for %s, without candles: no feed wrote "
            "them; they are ignored. Check which principals may write to this topic",
            *(CANDLES, clock(latest), ", ".join(key.instrument for key in strange)),
        )
