"""The candles of a manifold snapshot: selection, and reading from the log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from streams.candles.columns import SeriesKey
from streams.candles.rules import input_refusal
from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.errors import Fatal
from streams.instants import clock
from streams.kafka.partitioner import partition_of
from streams.kafka.reader import LogReader
from streams.records.codec import Codec, DecodeError
from streams.records.control import ControlLog
from streams.records.events import Candle
from streams.records.log_record import SourceRecord
from streams.records.topics import CANDLES

DAY_MS = 86_400_000
STRETCH = 20_000


class Selection(NamedTuple):
    """Selection of the candles of a manifold.

    Attributes
    ----------
    at_ms
        Use candles that ended by this time (epoch ms). None: all.
    days
        One manifold per UTC day, of the candles that start in it; empty: one manifold of all.
    last
        Without ``days``: number of newest candles; None for all.
    newest_days
        Number of newest UTC days to use as ``days``; 0 when ``days`` is given.
    """

    at_ms: int | None
    days: tuple[date, ...] = ()
    last: int | None = None
    newest_days: int = 0

    def counted_from(self, at_ms: int) -> Selection:
        """Return the selection with the newest days up to the day of a time."""
        if not self.newest_days:
            return self
        until_ms = at_ms if self.at_ms is None else min(at_ms, self.at_ms)
        return self._replace(days=last_days(self.newest_days, until_ms), newest_days=0)

    @property
    def since_ms(self) -> int | None:
        """Return the start of the earliest day, None without days."""
        return utc_day_start_ms(min(self.days)) if self.days else None

    @property
    def until_ms(self) -> int | None:
        """Return the latest allowed end of a candle; None for no limit."""
        ends = [utc_day_start_ms(max(self.days)) + DAY_MS] if self.days else []
        return min([*ends, *([] if self.at_ms is None else [self.at_ms])], default=None)

    def split(self, candles: Sequence[Candle]) -> list[list[Candle]]:
        """Return the candles of each manifold; days without candles are omitted."""
        known = [c for c in candles if self.until_ms is None or c.as_of_ms <= self.until_ms]
        if not self.days:
            return [known if self.last is None else known[-self.last :]]
        found: dict[date, list[Candle]] = {day: [] for day in sorted(self.days)}
        for candle in known:
            mine = found.get(day_of(candle.bar_ms))
            if mine is not None:
                mine.append(candle)
        return [day for day in found.values() if day]


def day_of(at_ms: int) -> date:
    """Return the UTC day of a time."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).date()


def utc_day_start_ms(day: date) -> int:
    """Return the start of a UTC day, epoch ms."""
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)


def last_days(count: int, at_ms: int) -> tuple[date, ...]:
    """Return the last UTC days up to and including the day of a time."""
    last = day_of(at_ms)
    return tuple(last - timedelta(days=back) for back in reversed(range(count)))


def days_between(first: date, last: date) -> tuple[date, ...]:
    """Return the days from first to last, both inclusive."""
    return tuple(first + timedelta(days=n) for n in range((last - first).days + 1))


def config_at(control: ControlLog, at_ms: int | None) -> Config | None:
    """Return the configuration that was active at a time; None without any.

    Uses the time of the record in ``ops.control``; the stages apply it from the next watermark on.
    For candles older than the log it is the first configuration, under which they were loaded.
    """
    offset = 0
    for at, record in control.records:
        found = control.state(offset).config is not None
        if at_ms is not None and record.as_of_ms > at_ms and found:
            break
        offset = at + 1
    return control.state(offset).config


def read_log(
    runtime: Runtime, codec: Codec, key: SeriesKey, chosen: Selection, config: Config
) -> list[Candle]:
    """Return the candles of a series in ``md.candles`` that a selection may need, by time.

    Only candles that the signals stage accepts: no refused, duplicate or out-of-order ones.

    Raises
    ------
    Fatal
        There is none; the message says what to do.
    Recoverable
        No broker answers.
    """
    found: list[list[Candle]] = []
    with LogReader(runtime) as reader:
        partition = partition_of(key.instrument.encode(), len(reader.partitions(CANDLES)))
        count = 0
        for records in _backwards(reader, partition, key.instrument.encode()):
            mine = [c for r in records if (c := _candle(codec, r, key, chosen, config)) is not None]
            found.append(mine)
            count += len(mine)
            earliest = min((c.bar_ms for c in mine), default=None)
            since_ms = chosen.since_ms
            if since_ms is not None and earliest is not None and earliest < since_ms:
                break
            # one more than requested: the first one of a chunk may be out of order
            if not chosen.days and chosen.last is not None and count > chosen.last:
                break
    candles = _ascending(candle for events in reversed(found) for candle in events)
    if not candles:
        said = "" if chosen.until_ms is None else f" up to {clock(chosen.until_ms)} UTC"
        raise Fatal(
            f"{runtime.topic(CANDLES)} holds no candle of {key.instrument} ({key.granularity})"
            f"{said}: see 'manifold status' for the instruments, 'manifold load' to fill the log"
        )
    return candles


def _backwards(reader: LogReader, partition: int, key: bytes) -> Iterator[list[SourceRecord]]:
    """Yield the records of a key by chunks of the partition, the last chunk first.

    A partition has several instruments in the order in which they were loaded, so timestamps do not
    show where those of one instrument end.
    """
    low, high = reader.bounds(CANDLES, partition)
    count = STRETCH
    while high > low:
        start = max(low, high - count)
        batches = reader.read_values(CANDLES, partition, start, high)
        yield [record for batch in batches for record in batch if record.key == key]
        high, count = start, count * 2


def _candle(
    codec: Codec, record: SourceRecord, key: SeriesKey, chosen: Selection, config: Config
) -> Candle | None:
    """Return the candle of a record if the selection may need it and the stages accept it."""
    if chosen.until_ms is not None and record.timestamp_ms > chosen.until_ms:
        return None
    try:
        event = codec.decode(CANDLES, record.value)
    except DecodeError:
        return None  # reported as a dead letter
    if not isinstance(event, Candle) or (event.instrument, event.granularity) != key:
        return None
    if event.volume is None and not config.allow_missing_volume:
        return None
    return None if input_refusal(event, record.key, record.timestamp_ms) else event


def _ascending(candles: Iterable[Candle]) -> list[Candle]:
    taken: list[Candle] = []
    for candle in candles:
        if not taken or candle.bar_ms > taken[-1].bar_ms:
            taken.append(candle)
    return taken
