"""When records of topics become visible to readers of committed records, and how many they are."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from streams.events import WATERMARK_KEY
from streams.replay.log_reader import LogReader
from streams.settings import Runtime

EVERY_S = 0.02
QUIET_S = 1.5
"""Nothing new for that long: the last change before it was the last of all."""


class Seen(NamedTuple):
    """When a topic's end moved, in seconds of ``time.monotonic``, and by how many offsets."""

    first: float
    last: float
    offsets: int


class TopicWatch:
    """Follows the last stable offsets of topics from its making on.

    Offsets count transaction markers too, so they say when, never how many records there are.

    Parameters
    ----------
    runtime, topics
        The deployment, and topics by their names in ``streams.topics``.
    """

    def __init__(self, runtime: Runtime, topics: Sequence[str]) -> None:
        self._reader = LogReader(runtime)
        self._partitions = {topic: self._reader.partitions(topic) for topic in topics}
        self._begun = {topic: self._end(topic) for topic in topics}
        self._ends = dict(self._begun)
        self._first: dict[str, float] = {}
        self._last: dict[str, float] = {}

    def _end(self, topic: str) -> int:
        bounds = self._reader.all_bounds(topic, self._partitions[topic])
        return sum(end for _, end in bounds.values())

    def until_quiet(
        self, least: Mapping[str, int], seconds: float, alive: Callable[[], bool]
    ) -> dict[str, Seen]:
        """Return what was seen once every topic grew by its ``least`` and is quiet.

        Raises
        ------
        RuntimeError
            Not so within ``seconds``, or the process that derives has ended.
        """
        give_up_at = time.monotonic() + seconds
        while True:
            now = self._poll()
            grown = {topic: end - self._begun[topic] for topic, end in self._ends.items()}
            there = all(grown[topic] >= count for topic, count in least.items())
            if there and now - max(self._last.values()) > QUIET_S:
                return {t: Seen(self._first[t], self._last[t], grown[t]) for t in least}
            if now > give_up_at or not alive():
                raise RuntimeError(f"of {dict(least)} offsets there are {grown}")
            time.sleep(EVERY_S)

    def _poll(self) -> float:
        for topic, before in self._ends.items():
            self._ends[topic] = end = self._end(topic)
            if end != before:
                now = time.monotonic()
                self._first.setdefault(topic, now)
                self._last[topic] = now
        return time.monotonic()

    def close(self) -> None:
        """Leave the broker."""
        self._reader.close()


def derived_records(runtime: Runtime, topic: str, after_ms: int) -> tuple[int, int]:
    """Return how many records of instruments there are after a time, and how many distinct ones.

    Counted by reading them; watermarks are left out.
    """
    count, distinct = 0, set()
    with LogReader(runtime) as reader:
        for partition in reader.partitions(topic):
            for batch in reader.read(topic, partition):
                for found in batch:
                    record = found.record
                    if record.key != WATERMARK_KEY and record.timestamp_ms > after_ms:
                        count += 1
                        distinct.add((record.key, record.timestamp_ms))
    return count, len(distinct)
