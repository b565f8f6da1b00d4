"""Decodes records outside the stages: invalid records are counted, logged once and skipped.

The stages write dead letters for the same records. ``sep_invalid_records_total`` counts a record
once per process, even when it is read several times.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from streams.candles.rules import input_refusal
from streams.printable import one_line
from streams.process.clock_skew import now_ms
from streams.records.codec import Codec, DecodeError
from streams.records.events import Candle, Event, Watermark
from streams.records.log_record import SourceRecord
from streams.records.validation import stamp_problem

INVALID_RECORDS: Final = "sep_invalid_records"
LAST_OFFSET: Final = "sep_invalid_record_last_offset"
LAST_TIME: Final = "sep_invalid_record_last_seconds"
FIRST_READING_MS: Final = 300_000
"""For so long after its start a process reads what was in the log before."""
MOST_KNOWN: Final = 10_000
_SHOWN: Final = 300

log = logging.getLogger("manifold.records")


class InvalidKind(NamedTuple):
    """The invalid records of a topic with the same reason that a process has read.

    Attributes
    ----------
    records
        Number of records.
    partition, offset
        Coordinates of the last one; -1 when not known.
    at_ms
        When the last one arrived: when it was read; by a process that has just started, by the
        record's own timestamp, because such a process reads the old ones again.
    """

    topic: str
    reason: str
    records: int
    partition: int
    offset: int
    at_ms: int

    @property
    def coordinates(self) -> str:
        """``topic-partition-offset`` of the last one."""
        return f"{self.topic}-{self.partition}-{self.offset}"


class InvalidRecords:
    """The invalid records that a process has read.

    Parameters
    ----------
    clock_ms
        Wall clock, epoch ms UTC.

    Attributes
    ----------
    counts
        (topic, reason) -> number of records.
    """

    def __init__(self, clock_ms: Callable[[], int] = now_ms) -> None:
        self._clock_ms, self._begun_ms = clock_ms, clock_ms()
        self.counts: Counter[tuple[str, str]] = Counter()
        self._last: dict[tuple[str, str], tuple[int, int, int]] = {}
        self._known: OrderedDict[tuple[str, int, int], None] = OrderedDict()

    def note(self, record: SourceRecord, error: DecodeError) -> None:
        """Count a record; log the first one of its topic and reason."""
        place = record.topic, record.partition, record.offset
        if place in self._known:
            return
        self._known[place] = None
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)
        kind = record.topic, str(error.reason)
        self.counts[kind] += 1
        read_ms = self._clock_ms()
        first_reading = read_ms - self._begun_ms < FIRST_READING_MS
        at_ms = min(record.timestamp_ms, read_ms) if first_reading else read_ms
        if kind not in self._last or at_ms >= self._last[kind][2]:
            self._last[kind] = record.partition, record.offset, at_ms
        if self.counts[kind] == 1:
            detail = error.detail[:_SHOWN]
            log.warning(
                "%s is skipped, as is every such record: %s (%s)",
                *(record.coordinates, error.reason, one_line(detail)),
            )

    def kinds(self) -> tuple[InvalidKind, ...]:
        """Return the kinds of invalid records, sorted by topic and reason."""
        return tuple(
            InvalidKind(*kind, self.counts[kind], *last)
            for kind, last in sorted(self._last.items())
        )


INVALID: Final = InvalidRecords()
"""The invalid records of this process."""


class InvalidRecordsCollector(Collector):
    """Exports ``sep_invalid_records_total`` of this process."""

    def collect(self) -> Iterator[Metric]:
        """Yield the current counts."""
        family = CounterMetricFamily(
            INVALID_RECORDS,
            "Records of the log that this process has refused and skipped",
            labels=["topic", "reason"],
        )
        offset = GaugeMetricFamily(
            LAST_OFFSET,
            "Offset of the last invalid record of its kind",
            labels=["topic", "reason", "partition"],
        )
        at = GaugeMetricFamily(
            LAST_TIME,
            "When the last invalid record of its kind arrived, epoch seconds",
            labels=["topic", "reason"],
        )
        for kind in INVALID.kinds():
            family.add_metric([kind.topic, kind.reason], kind.records)
            offset.add_metric([kind.topic, kind.reason, str(kind.partition)], kind.offset)
            at.add_metric([kind.topic, kind.reason], kind.at_ms / 1000)
        yield from (family, offset, at)


def decode_record(codec: Codec, record: SourceRecord) -> Event:
    """Decode and validate a record; an invalid one is counted.

    Parameters
    ----------
    record
        A record of any topic; ``topic`` is its name without the deployment's prefix.

    Raises
    ------
    DecodeError
        It cannot be decoded, a value is invalid, or ``as_of_ms`` is after its Kafka timestamp.
    """
    try:
        return _decoded(codec, record)
    except DecodeError as error:
        INVALID.note(record, error)
        raise


def refusal_of(codec: Codec, record: SourceRecord) -> str | None:
    """Return why a record is invalid, None when it is valid; nothing is counted."""
    try:
        _decoded(codec, record)
    except DecodeError as error:
        return one_line(str(error))
    return None


def _decoded(codec: Codec, record: SourceRecord) -> Event:
    event = codec.decode(record.topic, record.value)
    problem = stamp_problem(event, record.timestamp_ms)
    if problem is not None:
        raise DecodeError("invalid_value", problem, event)
    return event


def candle_event_of(codec: Codec, record: SourceRecord) -> Candle | Watermark | None:
    """Return the event of a record of ``md.candles``; None when the stage ``signals`` refuses it.

    An invalid record is counted, as is one that is valid under another key only.
    """
    event = event_of(codec, record)
    if not isinstance(event, Candle | Watermark):
        return None
    refusal = input_refusal(event, record.key, record.timestamp_ms)
    if refusal is None:
        return event
    INVALID.note(record, DecodeError(refusal.reason, refusal.detail, event))
    return None


def event_of(codec: Codec, record: SourceRecord) -> Event | None:
    """Decode and validate a record; None when it is invalid, which is counted."""
    try:
        return decode_record(codec, record)
    except DecodeError:
        return None
