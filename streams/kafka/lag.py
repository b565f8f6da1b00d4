"""Lag of each stage and of the mirror, and which of them make no progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

from confluent_kafka.admin import AdminClient

from streams.config.runtime import Runtime
from streams.errors import Fatal
from streams.kafka.client import SILENT, confluent_config
from streams.kafka.committed import group_members, group_offsets
from streams.kafka.errors import call_broker
from streams.kafka.reader import READ_BATCH, LogReader
from streams.records.topics import MIRRORED, STAGE_SOURCES

MIRROR: Final = "mirror"
REQUEST_TIMEOUT_SEC: Final = 10.0
SCAN_LIMIT: Final = READ_BATCH
Bounds = Mapping[int, tuple[int, int]]
K = TypeVar("K", bound=Hashable)


def remaining(
    reader: LogReader, spans: Mapping[tuple[str, int], tuple[int, int]]
) -> dict[tuple[str, int], int]:
    """Return how many offsets lie in each span [start, end); one without a record counts 0.

    Transaction markers and aborted records take offsets too, so spans of up to ``READ_BATCH``
    offsets are read to check for records.

    Raises
    ------
    Recoverable
        The broker does not answer in time.
    """
    left = {place: max(0, end - start) for place, (start, end) in spans.items()}
    short = {place: spans[place] for place, count in left.items() if 0 < count <= SCAN_LIMIT}
    non_empty = reader.non_empty(short) if short else set()
    return left | {place: 0 for place in short if place not in non_empty}


class StallDetector(Generic[K]):
    """Detects positions that do not advance although records are left.

    Parameters
    ----------
    clock
        Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._moved: dict[K, tuple[int, float]] = {}

    def note(self, name: K, position: int, lag: int) -> bool:
        """Record a position and its lag; return whether it is stalled."""
        before = self._moved.get(name)
        stalled = before is not None and before[0] == position and lag > 0
        if not stalled:
            self._moved[name] = (position, self._clock())
        return stalled

    def of(self, name: K) -> tuple[int, float]:
        """Return a position, and seconds since it last advanced or had no lag."""
        position, since = self._moved[name]
        return position, self._clock() - since


class UnreadRange(NamedTuple):
    """Unread range of a partition."""

    topic: str
    partition: int
    start: int
    end: int


class LagProbe:
    """Reads committed offsets through one connection, and for how long they have not advanced.

    Parameters
    ----------
    runtime
        The deployment.
    clock
        Monotonic seconds.
    """

    def __init__(self, runtime: Runtime, clock: Callable[[], float] = time.monotonic) -> None:
        self._runtime = runtime
        self._admin: Any = AdminClient(confluent_config(runtime) | {**SILENT})
        self._remaining: dict[UnreadRange, int] = {}
        self._stalls = StallDetector[str](clock)

    def look(
        self, reader: LogReader, bounds: Mapping[str, Bounds]
    ) -> tuple[dict[str, int], dict[str, int]]:
        """Return the lag per stage in records, and for how many ms a stage has not advanced.

        Parameters
        ----------
        reader
            Checks whether an unread range contains any record.
        bounds
            Topic -> partition -> first offset and end, for source topics of the stages and mirrored
            topics.

        Raises
        ------
        Fatal, Recoverable
            As ``LogReader``.
        """
        stages = {source: stage for stage, source in STAGE_SOURCES.items()}
        mirrored = dict.fromkeys(MIRRORED, MIRROR)
        reached = [
            *self._unread_ranges(self._runtime.application, stages, bounds),
            *self._unread_ranges(self._runtime.mirror_group, mirrored, bounds),
        ]
        # a stage and the mirror may have read the same partition to different offsets
        for group in (STAGE_SOURCES, (MIRROR,)):
            self._count_records(reader, [left for name, left in reached if name in group])
        lag = dict.fromkeys((*STAGE_SOURCES, MIRROR), 0)
        done = dict.fromkeys(lag, 0)
        for name, left in reached:
            done[name] += left.start
            lag[name] += self._remaining[left]
        self._remaining = {left: self._remaining[left] for _, left in reached}
        stalls = self._stalls
        stalled = [name for name, at in done.items() if stalls.note(name, at, lag[name])]
        return lag, {name: int(stalls.of(name)[1] * 1000) for name in stalled}

    def members(self, group: str) -> int | None:
        """Return the number of members of a consumer group; None when the broker does not report
        it.

        Raises
        ------
        Fatal, Recoverable
            The broker refuses, or does not answer.
        """
        servers = self._runtime.kafka_bootstrap_servers
        try:
            found = call_broker(
                servers,
                lambda: group_members(self._admin, group, REQUEST_TIMEOUT_SEC),
                REQUEST_TIMEOUT_SEC,
            )
        except Fatal:
            return None
        return len(found or ())

    def _unread_ranges(
        self, group: str, names: Mapping[str, str], bounds: Mapping[str, Bounds]
    ) -> list[tuple[str, UnreadRange]]:
        """Return the unread ranges of a group, each with the stage of its topic."""
        partitions = [(self._runtime.topic(t), p) for t in names for p in bounds[t]]
        committed = group_offsets(
            self._runtime, self._admin, group, partitions, REQUEST_TIMEOUT_SEC
        )
        return [
            (
                name,
                UnreadRange(
                    topic, p, max(low, committed.get((self._runtime.topic(topic), p), low)), high
                ),
            )
            for topic, name in names.items()
            for p, (low, high) in bounds[topic].items()
        ]

    def _count_records(self, reader: LogReader, every: Sequence[UnreadRange]) -> None:
        """Count the records of each unread range once."""
        new = {(left.topic, left.partition): left for left in every if left not in self._remaining}
        counts = remaining(reader, {place: (left.start, left.end) for place, left in new.items()})
        self._remaining |= {left: counts[place] for place, left in new.items()}
