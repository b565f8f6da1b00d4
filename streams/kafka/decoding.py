"""Decodes records outside the stages: invalid records are counted, logged once and skipped.

The stages write dead letters for the same records. ``sep_invalid_records_total`` counts a record
once per process, even when it is read several times.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from streams.candles.rules import input_refusal
from streams.printable import one_line
from streams.records.codec import Codec, DecodeError
from streams.records.events import Candle, Event, Watermark
from streams.records.log_record import SourceRecord
from streams.records.validation import stamp_problem

INVALID_RECORDS: Final = "sep_invalid_records"
MOST_KNOWN: Final = 10_000
_SHOWN: Final = 300

log = logging.getLogger("manifold.records")


class InvalidRecords:
    """The invalid records that a process has read.

    Attributes
    ----------
    counts
        (topic, reason) -> number of records.
    """

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
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
        if self.counts[kind] == 1:
            detail = error.detail[:_SHOWN]
            log.warning(
                "%s is skipped, as is every such record: %s (%s)",
                *(record.coordinates, error.reason, one_line(detail)),
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
        for kind, count in sorted(INVALID.counts.items()):
            family.add_metric([*kind], count)
        yield family


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
