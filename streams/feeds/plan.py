"""The records a feed writes, in order: candles by bar, and the watermarks between them.

Pure: the writer sends them to Kafka, a replay over files keeps them in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from streams.kafka.partitioner import partition_of
from streams.records.events import WATERMARK_KEY, Candle, Watermark

HOUR_MS = 3_600_000
WARMING_CANDLES = 129


class Fact(NamedTuple):
    """One record for ``md.candles``."""

    partition: int
    key: bytes
    event: Candle | Watermark

    @property
    def timestamp_ms(self) -> int:
        """Kafka timestamp of the record."""
        return self.event.as_of_ms


class FeedPlan:
    """The records of one feed and their order.

    Parameters
    ----------
    instruments
        The instruments that the feed's watermarks cover.
    granularity
        Bar length of its candles.
    partitions
        Number of partitions of ``md.candles``.
    """

    def __init__(self, instruments: Sequence[str], granularity: str, partitions: int) -> None:
        self._granularity = granularity
        self._by_partition: dict[int, tuple[str, ...]] = {}
        self._partition_of: dict[str, int] = {}
        for name in sorted(instruments):
            partition = partition_of(name.encode(), partitions)
            self._partition_of[name] = partition
            self._by_partition[partition] = (*self._by_partition.get(partition, ()), name)
        self._arrived = dict.fromkeys(self._partition_of, 0)
        self._last_bar_ms = dict.fromkeys(self._partition_of, -1)
        self._hours: dict[int, int] = {}
        self._offset = -1
        self._watermark_ms: dict[int, int] = {}

    @property
    def partitions(self) -> list[int]:
        """The partitions with an instrument of this feed, ascending."""
        return sorted(self._by_partition)

    def watermark(self, partition: int, as_of_ms: int, control_offset: int) -> Fact:
        """Return the watermark of one partition."""
        self._hours[partition] = as_of_ms // HOUR_MS
        self._watermark_ms[partition] = as_of_ms
        names = self._by_partition[partition]
        mark = Watermark(as_of_ms, self._granularity, control_offset, names)
        return Fact(partition, WATERMARK_KEY, mark)

    def opening(self, from_ms: int, control_offset: int) -> list[Fact]:
        """Return the watermarks before the first candle: one for each of the feed's partitions."""
        self._offset = control_offset
        return [self.watermark(p, from_ms, control_offset) for p in self.partitions]

    def candle(self, candle: Candle) -> Fact:
        """Return the record of a candle."""
        name = candle.instrument
        # a repeated or late candle does not bring the instrument closer to its first signal
        if candle.bar_ms > self._last_bar_ms[name]:
            self._last_bar_ms[name] = candle.bar_ms
            self._arrived[name] += 1
        return Fact(self._partition_of[name], name.encode(), candle)

    def bar(self, as_of_ms: int, candles: Sequence[Candle], control_offset: int) -> list[Fact]:
        """Return the records of one bar: its candles, then the watermarks that are due.

        A watermark is due in a partition where an instrument of the feed has no candle for this
        bar, in every partition when ``ops.control`` has grown, and once per event hour. A watermark
        is also due while an instrument may still be warming up: without signals it is decided
        (``warming``) only at watermarks, and epochs wait for that decision.

        Parameters
        ----------
        as_of_ms
            End of the bar.
        candles
            Its candles in order of arrival, including late candles of earlier bars.
        control_offset
            End of ``ops.control`` now.
        """
        facts = [self.candle(candle) for candle in candles]
        there = {candle.instrument for candle in candles if candle.as_of_ms == as_of_ms}
        grown = control_offset > self._offset
        self._offset = max(self._offset, control_offset)
        for partition, names in sorted(self._by_partition.items()):
            new_hour = as_of_ms // HOUR_MS != self._hours.get(partition)
            warming = any(self._arrived[name] < WARMING_CANDLES for name in names)
            if grown or new_hour or warming or not there.issuperset(names):
                facts.append(self.watermark(partition, as_of_ms, self._offset))
        return facts

    def not_waiting(self, as_of_ms: int, control_offset: int) -> list[Fact]:
        """Return the watermarks that end the wait for the instruments up to a time."""
        self._offset = max(self._offset, control_offset)
        return [
            Fact(
                partition,
                WATERMARK_KEY,
                Watermark(as_of_ms, self._granularity, self._offset, (), names),
            )
            for partition, names in sorted(self._by_partition.items())
        ]

    def closing(self, as_of_ms: int, control_offset: int) -> list[Fact]:
        """Return the watermarks that are still missing at the end."""
        offset = max(self._offset, control_offset)
        late = [p for p in self.partitions if self._watermark_ms.get(p, -1) < as_of_ms]
        return [self.watermark(p, as_of_ms, offset) for p in late]
