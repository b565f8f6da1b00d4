"""How far each stage and the mirror are behind the log, and which of them stands still."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from streams.broker_errors import SILENT
from streams.connection import confluent_config
from streams.errors import Fatal
from streams.replay.log_reader import LogReader, asking, remaining
from streams.settings import Runtime
from streams.topics import MIRRORED, STAGE_SOURCES

MIRROR: Final = "mirror"
ASK_SEC: Final = 10.0
Bounds = Mapping[int, tuple[int, int]]


class LagSight:
    """Asks for positions with one connection, and remembers since when they have not moved.

    Parameters
    ----------
    runtime
        The deployment.
    clock
        Monotonic seconds.
    """

    def __init__(self, runtime: Runtime, clock: Callable[[], float] = time.monotonic) -> None:
        self._runtime, self._clock = runtime, clock
        self._admin: Any = AdminClient(confluent_config(runtime) | {"logger": SILENT})
        self._counted: dict[tuple[str, int], tuple[int, int, int]] = {}
        self._moved: dict[str, tuple[int, float]] = {}

    def look(
        self, reader: LogReader, bounds: Mapping[str, Bounds]
    ) -> tuple[dict[str, int], dict[str, int]]:
        """Return the lag by stage in records, and for how many ms it has not moved.

        Parameters
        ----------
        reader
            Looks whether there is a record at all in what is left.
        bounds
            Topic -> partition -> first offset and end; the sources of the stages and what is
            mirrored.

        Raises
        ------
        Fatal, Recoverable
            As ``LogReader``.
        """
        stages = {source: stage for stage, source in STAGE_SOURCES.items()}
        lag: dict[str, int] = {}
        done: dict[str, int] = {}
        for group, topics in (
            (self._runtime.application, tuple(stages)),
            (self._runtime.mirror_group, MIRRORED),
        ):
            reached = self._reached(group, {topic: bounds[topic] for topic in topics})
            for (topic, partition), at in reached.items():
                name = MIRROR if topics is MIRRORED else stages[topic]
                end = bounds[topic][partition][1]
                lag[name] = lag.get(name, 0) + self._left(reader, topic, partition, at, end)
                done[name] = done.get(name, 0) + at
        return lag, self._standing(lag, done)

    def members(self, group: str) -> int | None:
        """Return how many processes are in a consumer group; None when the broker does not say.

        Raises
        ------
        Fatal, Recoverable
            The broker refuses, or does not answer.
        """
        futures = self._admin.describe_consumer_groups([group], request_timeout=ASK_SEC)
        try:
            described = asking(self._runtime, lambda: futures[group].result(ASK_SEC))
        except Fatal:
            return None
        return len(described.members)

    def _reached(self, group: str, bounds: Mapping[str, Bounds]) -> dict[tuple[str, int], int]:
        places = [TopicPartition(self._runtime.topic(t), p) for t in bounds for p in bounds[t]]
        asked = [ConsumerGroupTopicPartitions(group, places)]
        answer = asking(
            self._runtime,
            lambda: self._admin.list_consumer_group_offsets(asked, require_stable=True)[
                group
            ].result(ASK_SEC),
        )
        told = {(at.topic, at.partition): at.offset for at in answer.topic_partitions}
        return {
            (topic, partition): max(low, told.get((self._runtime.topic(topic), partition), low))
            for topic, partitions in bounds.items()
            for partition, (low, _) in partitions.items()
        }

    def _left(self, reader: LogReader, topic: str, partition: int, at: int, end: int) -> int:
        # a look into the partition tells markers from records; once is enough for a stretch
        known = self._counted.get((topic, partition))
        if known is None or known[:2] != (at, end):
            left = remaining(reader, topic, {partition: (at, end)})
            known = self._counted[topic, partition] = (at, end, left)
        return known[2]

    def _standing(self, lag: Mapping[str, int], done: Mapping[str, int]) -> dict[str, int]:
        now, standing = self._clock(), {}
        for name, position in done.items():
            before = self._moved.get(name)
            if before is None or before[0] != position or not lag[name]:
                self._moved[name] = (position, now)
            elif lag[name]:
                standing[name] = int((now - before[1]) * 1000)
        return standing
