"""The end of the log, read before it is followed, and what a client that comes back has missed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from streams.api.channels import CHANNEL_TOPICS, KINDS, Frame, Place, frame_of
from streams.api.view import LiveView, Origin
from streams.codec import Codec, DecodeError
from streams.control import ControlState
from streams.control_log import read_control
from streams.events import Event
from streams.feed.partitioner import partition_of
from streams.replay.log_reader import LogReader, LogRecord
from streams.settings import Runtime
from streams.topics import (
    CANDLES,
    CONTROL,
    FILLS,
    GATES,
    MANIFOLDS,
    ORDERS,
    SIGNALS,
    SUMMARIES,
    WEIGHTS,
)

FIRST_STRETCH = 500
LONGEST_SEARCH = 100_000
OVERLAP_MS = 300_000
"""How much earlier, by event time, a resumed client is told of other partitions than its event's:
a record may be written after one with a later time. It may get some twice, and ids tell which."""

FOLLOWED: tuple[str, ...] = tuple(kind.topic for kind in KINDS.values() if kind.topic)
"""Topics whose records are told of."""

KEPT = (CANDLES, SIGNALS, MANIFOLDS, GATES, SUMMARIES, ORDERS, FILLS)
"""Topics beside the weights of which the view keeps something."""

Ends = dict[tuple[str, int], int]
Spans = dict[tuple[str, int], tuple[int, int]]


class Record(NamedTuple):
    """A decoded record and its place."""

    place: Place
    ts_ms: int
    event: Event
    origin: Origin


def decoded(codec: Codec, found: LogRecord) -> Record | None:
    """Return a record decoded; None for what is no event (a stage makes a dead letter of it)."""
    record = found.record
    try:
        event = codec.decode(record.topic, record.value)
    except DecodeError:
        return None
    place = Place(record.topic, record.partition, record.offset)
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
    """Read what the log says now: ``ops.control`` whole, of everything else the end.

    Of a topic with instruments it is read back until every member of the universe was met, but
    not further than ``LONGEST_SEARCH`` offsets.

    Raises
    ------
    Fatal, Recoverable
        A topic is missing; no broker answers.
    """
    view = LiveView(read_control(runtime, codec))
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
        # weights name the universe that the others are searched for
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
        record = decoded(codec, found)
        if record is not None:
            view.apply(record.place, record.event, record.origin)


def _missing(view: LiveView, ends: Ends) -> set[tuple[str, int]]:
    """Return the partitions in which an instrument of the universe was not met."""
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


def _records(
    reader: LogReader, codec: Codec, topic: str, partition: int, start: int, end: int
) -> Iterator[Record]:
    for batch in reader.read(topic, partition, start, end):
        for each in batch:
            record = decoded(codec, each)
            if record is not None:
                yield record


class CannotResume(Exception):
    """Why a client cannot go on from where it was, in a sentence."""


def frames_since(
    runtime: Runtime,
    codec: Codec,
    places: Sequence[Place],
    channels: Iterable[str],
    upto: Mapping[tuple[str, int], int],
    limit: int,
    control: ControlState,
    alloc_interval_sec: int,
) -> list[Frame]:
    """Return the frames of what was written after some events, by time, in order per partition.

    Parameters
    ----------
    places
        The last events the client saw: of their partitions it gets exactly what follows; of others
        what is stamped no more than ``OVERLAP_MS`` before the newest of them.
    channels
        What it subscribes to.
    upto
        (topic, partition) -> where the live frames begin.
    limit
        Most log positions to read.

    Raises
    ------
    CannotResume
        An event is not there (any more), or the client is too far behind.
    Fatal, Recoverable
        A topic is missing; no broker answers.
    """
    wanted = {topic for channel in channels for topic in CHANNEL_TOPICS[channel]}
    with LogReader(runtime) as reader:
        times = [_time_of(reader, codec, place, upto) for place in places]
        since_ms = max(times) - OVERLAP_MS
        known = {(place.topic, place.partition): place.offset + 1 for place in places}
        spans: Spans = {}
        for (topic, partition), end in upto.items():
            if topic in wanted:
                start = known.get((topic, partition))
                if start is None:
                    start = reader.offset_at(topic, partition, since_ms)
                spans[topic, partition] = (start, end)
        behind = sum(max(0, end - start) for start, end in spans.values())
        if behind > limit:
            raise CannotResume(f"{behind} log positions behind, more than {limit}")
        records: list[tuple[int, Record]] = []
        reached_ms: dict[tuple[str, int], int] = {}
        for each in reader.read_many(spans):
            record = decoded(codec, each)
            if record is None:
                continue
            place = record.place[:2]
            # what is late stays behind what stands before it in its partition
            reached_ms[place] = max(reached_ms.get(place, 0), record.ts_ms)
            if record.ts_ms >= since_ms or place in known:
                records.append((reached_ms[place], record))
    records.sort(key=lambda pair: pair[0])
    frames = (frame_of(r.place, r.ts_ms, r.event, control, alloc_interval_sec) for _, r in records)
    return [frame for frame in frames if frame is not None]


def _time_of(
    reader: LogReader, codec: Codec, place: Place, upto: Mapping[tuple[str, int], int]
) -> int:
    if place.offset >= upto.get((place.topic, place.partition), 0):
        raise CannotResume(f"the log holds no event {place.id} yet")
    found = next(
        _records(reader, codec, *place[:2], place.offset, place.offset + 1),
        None,
    )
    if found is None:
        raise CannotResume(f"the log holds no event {place.id}")
    return found.ts_ms
