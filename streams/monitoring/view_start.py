"""Reads the end of the log before the service follows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from streams.config.runtime import Runtime
from streams.kafka.control_topic import read_control
from streams.kafka.decoding import event_of
from streams.kafka.partitioner import partition_of
from streams.kafka.reader import LogReader, LogRecord
from streams.monitoring.view import LiveView, Origin
from streams.records.codec import Codec
from streams.records.control import ControlLog
from streams.records.events import Event
from streams.records.log_record import RecordCoordinates
from streams.records.topics import (
    CANDLES,
    CONTROL,
    FILLS,
    GATES,
    MANIFOLDS,
    ORDERS,
    SIGNALS,
    SUMMARIES,
    TOPICS,
    WEIGHTS,
)

FIRST_STRETCH = 500
LONGEST_SEARCH = 100_000

FOLLOWED: tuple[str, ...] = tuple(TOPICS)
"""Topics whose records are sent to clients."""

KEPT = (CANDLES, SIGNALS, MANIFOLDS, GATES, SUMMARIES, ORDERS, FILLS)
"""Topics, besides the weights, that the view keeps values of."""

Ends = dict[tuple[str, int], int]
Spans = dict[tuple[str, int], tuple[int, int]]


class Record(NamedTuple):
    """A decoded record and its position."""

    place: RecordCoordinates
    ts_ms: int
    event: Event
    origin: Origin


def decode_live_record(codec: Codec, found: LogRecord) -> Record | None:
    """Decode a record; None if it is not an event (a stage writes a dead letter for it)."""
    record = found.record
    event = event_of(codec, record)
    if event is None:
        return None
    place = RecordCoordinates(record.topic, record.partition, record.offset)
    source, engine = found.headers.get("source", ""), found.headers.get("engine", "")
    return Record(place, record.timestamp_ms, event, Origin(place.id, source, engine))


class Start(NamedTuple):
    """The view at the ends of all partitions.

    Attributes
    ----------
    ends
        (topic, partition) -> where to follow on from.
    """

    view: LiveView
    ends: dict[tuple[str, int], int]


def read_start(runtime: Runtime, codec: Codec) -> Start:
    """Read the current state of the log: all of ``ops.control``, the end of other topics.

    A topic with instruments is read backwards until every member of the universe was found, at most
    ``LONGEST_SEARCH`` offsets.

    Raises
    ------
    Fatal, Recoverable
        A topic is missing; no broker answers.
    """
    view = LiveView(read_control(runtime, codec, ControlLog(lenient=True)))
    ends: Ends = {(CONTROL, 0): view.control.end}
    with LogReader(runtime) as reader:
        lows: Ends = {}
        for topic in FOLLOWED:
            if topic == CONTROL:
                continue
            for partition, (low, high) in reader.all_bounds(
                topic, reader.partitions(topic)
            ).items():
                lows[topic, partition], ends[topic, partition] = low, high
        # the weights define the universe to search for in the other topics
        _fold(view, reader, codec, _last(ends, lows, (WEIGHTS,)))
        spans = _last(ends, lows, KEPT)
        searched, most = FIRST_STRETCH, max(1, LONGEST_SEARCH)
        while spans:
            _fold(view, reader, codec, spans)
            searched *= 2
            missing = _missing(view, ends)
            spans = {
                place: (max(lows[place], start - searched), start)
                for place, (start, _) in spans.items()
                if place in missing and start > lows[place] and searched <= most
            }
    return Start(view, ends)


def _last(ends: Ends, lows: Ends, topics: Sequence[str]) -> Spans:
    return {
        place: (max(lows[place], end - FIRST_STRETCH), end)
        for place, end in ends.items()
        if place[0] in topics
    }


def _fold(view: LiveView, reader: LogReader, codec: Codec, spans: Spans) -> None:
    for found in reader.read_many(spans):
        record = decode_live_record(codec, found)
        if record is not None:
            view.apply(record.place, record.event, record.origin)


def _missing(view: LiveView, ends: Ends) -> set[tuple[str, int]]:
    """Return the partitions in which an instrument of the universe was not found."""
    met: dict[str, Mapping[str, object]] = {
        CANDLES: view.candles,
        SIGNALS: view.signals,
        MANIFOLDS: view.manifolds,
        GATES: view.decisions,
        SUMMARIES: view.summaries,
    }
    found = set()
    for topic, known in met.items():
        partitions = sum(1 for place in ends if place[0] == topic)
        for name in view.universe:
            if name not in known:
                place = partition_of(name.encode(), partitions) if partitions > 1 else 0
                found.add((topic, place))
    return found
