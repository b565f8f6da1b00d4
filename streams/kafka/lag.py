"""Lag of each stage and of the mirror, and which of them make no progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from confluent_kafka.admin import AdminClient

from streams.config.runtime import Runtime
from streams.errors import Fatal
from streams.kafka.client import SILENT, confluent_config
from streams.kafka.committed import group_offsets
from streams.kafka.errors import asking
from streams.kafka.reader import FEW, LogReader
from streams.records.topics import MIRRORED, STAGE_SOURCES

MIRROR: Final = "mirror"
ASK_SEC: Final = 10.0
Bounds = Mapping[int, tuple[int, int]]


class UnreadRange(NamedTuple):
    """Unread range of a partition."""

    topic: str
    partition: int
    start: int
    end: int


class LagProbe:
    """Reads committed offsets through one connection, and since when they have not advanced.

    Parameters
    ----------
    runtime
        The deployment.
    clock
        Monotonic seconds.
    """

    def __init__(self, runtime: Runtime, clock: Callable[[], float] = time.monotonic) -> None:
        self._runtime, self._clock = runtime, clock
        self._admin: Any = AdminClient(confluent_config(runtime) | {**SILENT})
        self._holds: dict[UnreadRange, bool] = {}
        self._moved: dict[str, tuple[int, float]] = {}

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
            *self._reached(self._runtime.application, stages, bounds),
            *self._reached(self._runtime.mirror_group, mirrored, bounds),
        ]
        for group in (
            STAGE_SOURCES,
            (MIRROR,),
        ):  # stage and mirror may have read the same partition to different offsets
            self._look_into(reader, [left for name, left in reached if name in group])
        kept = {left for _, left in reached}
        self._holds = {left: holds for left, holds in self._holds.items() if left in kept}
        lag = dict.fromkeys((*STAGE_SOURCES, MIRROR), 0)
        done = dict.fromkeys(lag, 0)
        for name, left in reached:
            done[name] += left.start
            if self._holds.get(left, True):
                lag[name] += max(0, left.end - left.start)
        return lag, self._standing(lag, done)

    def members(self, group: str) -> int | None:
        """Return the number of members of a consumer group; None when the broker does not report
        it.

        Raises
        ------
        Fatal, Recoverable
            The broker refuses, or does not answer.
        """
        servers = self._runtime.kafka_bootstrap_servers

        def ask() -> Any:
            asked = self._admin.describe_consumer_groups([group], request_timeout=ASK_SEC)
            return asked[group].result(ASK_SEC)

        try:
            described = asking(servers, ask, ASK_SEC)
        except Fatal:
            return None
        return len(described.members)

    def _reached(
        self, group: str, names: Mapping[str, str], bounds: Mapping[str, Bounds]
    ) -> list[tuple[str, UnreadRange]]:
        """Return the unread ranges of a group, each with the stage of its topic."""
        places = [(self._runtime.topic(t), p) for t in names for p in bounds[t]]
        told = group_offsets(self._runtime, self._admin, group, places, ASK_SEC)
        return [
            (
                name,
                UnreadRange(
                    topic, p, max(low, told.get((self._runtime.topic(topic), p), low)), high
                ),
            )
            for topic, name in names.items()
            for p, (low, high) in bounds[topic].items()
        ]

    def _look_into(self, reader: LogReader, every: Sequence[UnreadRange]) -> None:
        """Check once per range whether it holds records or only transaction markers."""
        unknown = [
            left for left in every if 0 < left.end - left.start <= FEW and left not in self._holds
        ]
        spans = {(left.topic, left.partition): (left.start, left.end) for left in unknown}
        held = reader.holding(spans) if spans else set()
        for left in unknown:
            self._holds[left] = (left.topic, left.partition) in held

    def _standing(self, lag: Mapping[str, int], done: Mapping[str, int]) -> dict[str, int]:
        now, standing = self._clock(), {}
        for name, position in done.items():
            before = self._moved.get(name)
            if before is None or before[0] != position or not lag[name]:
                self._moved[name] = (position, now)
            elif lag[name]:
                standing[name] = int((now - before[1]) * 1000)
        return standing
