"""The candles of a manifold snapshot: which of them, and reading them from the log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from streams.candles.columns import SeriesKey
from streams.candles.rules import candle_refusal
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
from streams.records.validation import stamp_problem

DAY_MS = 86_400_000
STRETCH = 20_000


class Selection(NamedTuple):
    """Which candles of a series make a manifold.

    Attributes
    ----------
    at_ms
        As the series was known then (epoch ms): candles that ended by it. None: all.
    days
        A manifold for each of these UTC days, of the candles that start in it; empty: one manifold.
    last
        Of one manifold: how many of the newest candles; None for all.
    newest_days
        How many of the newest UTC days ``days`` are to be; 0 where they are given.
    """

    at_ms: int | None
    days: tuple[date, ...] = ()
    last: int | None = None
    newest_days: int = 0

    def counted_from(self, at_ms: int) -> Selection:
        """Return the selection with the newest days up to that of an instant."""
        if not self.newest_days:
            return self
        until_ms = at_ms if self.at_ms is None else min(at_ms, self.at_ms)
        return self._replace(days=last_days(self.newest_days, until_ms), newest_days=0)

    @property
    def since_ms(self) -> int | None:
        """Return the start of the earliest day, None without days."""
        return day_start_ms(min(self.days)) if self.days else None

    @property
    def until_ms(self) -> int | None:
        """Return when the last candle has ended at the latest; None: there is no limit."""
        ends = [day_start_ms(max(self.days)) + DAY_MS] if self.days else []
        return min([*ends, *([] if self.at_ms is None else [self.at_ms])], default=None)

    def split(self, candles: Sequence[Candle]) -> list[list[Candle]]:
        """Return the candles of each manifold; days without a candle are left out."""
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
    """Return the UTC day of an instant."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).date()


def day_start_ms(day: date) -> int:
    """Return the start of a UTC day, epoch ms."""
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)


def last_days(count: int, at_ms: int) -> tuple[date, ...]:
    """Return the last UTC days up to the one of an instant, that one included."""
    last = day_of(at_ms)
    return tuple(last - timedelta(days=back) for back in reversed(range(count)))


def days_between(first: date, last: date) -> tuple[date, ...]:
    """Return the days from first to last, both included."""
    return tuple(first + timedelta(days=n) for n in range((last - first).days + 1))


def config_at(control: ControlLog, at_ms: int | None) -> Config | None:
    """Return the configuration that was active at an instant; None where there is none at all.

    ``ops.control`` holds when it was said; it takes effect in the stream at the next watermark. Of
    candles that are older than the log it is the first one: they were loaded under it.
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

    They are those that the signals stage takes in: no refused one, no repeat, none that is older
    than the one before it.

    Raises
    ------
    Fatal
        There is none; says what to do.
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
            # one more than wanted: the first one of a stretch may be older than the one before it
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
    """Yield the records of a key by stretches of the partition, the last stretch first.

    Several instruments lie in a partition in the order in which they were loaded, so that no time
    stamp tells where those of one end.
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
    """Return the candle of a record when the selection may need it and the stages take it in."""
    if chosen.until_ms is not None and record.timestamp_ms > chosen.until_ms:
        return None
    try:
        event = codec.decode(CANDLES, record.value)
    except DecodeError:
        return None  # a dead letter tells of it
    if not isinstance(event, Candle) or (event.instrument, event.granularity) != key:
        return None
    if event.volume is None and not config.allow_missing_volume:
        return None
    refused = candle_refusal(event, record.key) or stamp_problem(event, record.timestamp_ms)
    return None if refused else event


def _ascending(candles: Iterable[Candle]) -> list[Candle]:
    taken: list[Candle] = []
    for candle in candles:
        if not taken or candle.bar_ms > taken[-1].bar_ms:
            taken.append(candle)
    return taken
