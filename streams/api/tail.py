"""The end of the log, read before it is followed, and what a client that comes back has missed."""

from __future__ import annotations

import logging
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
from streams.topics import CONTROL, WEIGHTS

FIRST_STRETCH = 500
LONGEST_SEARCH = 100_000
OVERLAP_MS = 300_000
"""How much earlier, by event time, a resumed client is told of other partitions than its event's:
a record may be written after one with a later time. It may get some twice, and ids tell which."""

FOLLOWED: tuple[str, ...] = tuple(kind.topic for kind in KINDS.values() if kind.topic)
"""Topics whose records are told of."""

PER_INSTRUMENT = frozenset(
    topic for topic in FOLLOWED if topic.startswith(("md.", "sep.", "opt.", "bt.summ"))
)
"""Topics whose last record of every instrument is looked for."""

log = logging.getLogger("manifold.api")


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
    ends: dict[tuple[str, int], int] = {(CONTROL, 0): view.control.end}
    with LogReader(runtime) as reader:
        # weights name the universe that the others are searched for
        for topic in sorted(FOLLOWED, key=lambda name: name != WEIGHTS):
            if topic == CONTROL:
                continue
            bounds = reader.all_bounds(topic, reader.partitions(topic))
            spread = len(bounds) > 1
            for partition, (low, high) in bounds.items():
                wanted = _members(view, partition, len(bounds) if spread else 0)
                for record in _stretch(reader, codec, topic, partition, (low, high), wanted):
                    view.apply(record.place, record.event, record.origin)
                ends[topic, partition] = high
    return Start(view, ends)


def _members(view: LiveView, partition: int, partitions: int) -> frozenset[str]:
    names = view.universe
    if not partitions:
        return frozenset(names)
    return frozenset(n for n in names if partition_of(n.encode(), partitions) == partition)


def _stretch(
    reader: LogReader,
    codec: Codec,
    topic: str,
    partition: int,
    bounds: tuple[int, int],
    wanted: frozenset[str],
) -> list[Record]:
    """Return the end of a partition, oldest first, as far back as something is looked for."""
    low, high = bounds
    found: list[Record] = []
    count, end = FIRST_STRETCH, high
    missing = set(wanted) if topic in PER_INSTRUMENT else set()
    while end > low and high - end < LONGEST_SEARCH:
        start = max(low, end - count)
        stretch = list(_records(reader, codec, topic, partition, start, end))
        found = stretch + found
        missing -= {getattr(record.event, "instrument", "") for record in stretch}
        if not missing:
            break
        end, count = start, count * 2
    if missing and high > low:
        log.info("%s-%d: nothing of %s", topic, partition, ", ".join(sorted(missing)))
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
        spans: dict[tuple[str, int], tuple[int, int]] = {}
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
        for (topic, partition), (start, end) in spans.items():
            reached_ms = 0
            for record in _records(reader, codec, topic, partition, start, end):
                # what is late stays behind what stands before it in its partition
                reached_ms = max(reached_ms, record.ts_ms)
                if record.ts_ms < since_ms and (topic, partition) not in known:
                    continue
                records.append((reached_ms, record))
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
