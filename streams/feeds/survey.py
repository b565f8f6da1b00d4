"""The candles already in the log, so that a feed writes only newer ones."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from streams.candles.columns import SeriesKey, digest
from streams.config.runtime import Runtime
from streams.kafka.decoding import event_of
from streams.kafka.reader import LogReader
from streams.records.codec import Codec
from streams.records.events import WATERMARK_KEY, Candle, CandleSource, Watermark
from streams.records.log_record import SourceRecord
from streams.records.topics import CANDLES


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
    """

    series: dict[SeriesKey, LoggedSeries] = field(default_factory=dict)
    watermark_ms: dict[SeriesKey, int] = field(default_factory=dict)

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
    progress: Callable[[int], None] = lambda count: None,
    stamped_from_ms: int | None = None,
    source: CandleSource | None = None,
) -> Survey:
    """Read the given partitions of ``md.candles``; return the candles and watermarks of ``keys``.

    Parameters
    ----------
    since_ms
        Digests are kept from this bar on, to distinguish duplicates from conflicts.
    progress
        Called with the number of records read since the last call.
    stamped_from_ms
        Skip the records before the first one with this timestamp or a later one; the last bar of a
        series that ends before is then not found.
    source
        Keep digests of candles of this source only.
    """
    found = Survey()
    names = {key.instrument.encode() for key in keys}
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
                        _note(found, codec, item.record, since_ms, source)
                progress(len(batch))
    return found


def _note(
    found: Survey, codec: Codec, record: SourceRecord, since_ms: int, source: CandleSource | None
) -> None:
    event = event_of(codec, record)  # the signals stage writes a dead letter for an invalid record
    if isinstance(event, Watermark):
        for name in event.instruments:
            key = SeriesKey(name, event.granularity)
            found.watermark_ms[key] = max(found.watermark_ms.get(key, -1), event.as_of_ms)
    elif isinstance(event, Candle):
        series = found.series.setdefault(
            SeriesKey(event.instrument, event.granularity), LoggedSeries()
        )
        series.last_bar_ms = max(series.last_bar_ms, event.bar_ms)
        if event.bar_ms >= since_ms and source in (None, event.source):
            series.bars.append(event.bar_ms)
            series.digests.append(digest(event))
