"""When records of topics become visible to readers of committed records, and how many they are."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from streams.config.runtime import Runtime
from streams.kafka.client import confluent_config
from streams.kafka.reader import LogReader
from streams.records.events import WATERMARK_KEY

EVERY_S = 0.025
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
        The deployment, and topics by their names in ``streams.records.topics``.
    """

    def __init__(self, runtime: Runtime, topics: Sequence[str]) -> None:
        self._admin = AdminClient(confluent_config(runtime) | {"log_level": 0})
        self._asked: dict[TopicPartition, OffsetSpec] = {}
        self._topics = {runtime.topic(topic): topic for topic in topics}
        with LogReader(runtime) as reader:
            for name, topic in self._topics.items():
                for partition in reader.partitions(topic):
                    self._asked[TopicPartition(name, partition)] = OffsetSpec.latest()
        self._begun = self._measure()
        self._ends = dict(self._begun)
        self._first: dict[str, float] = {}
        self._last: dict[str, float] = {}

    def _measure(self) -> dict[str, int]:
        """Return the last stable offsets of every topic added up, by one request to the broker."""
        ends = dict.fromkeys(self._topics.values(), 0)
        committed = IsolationLevel.READ_COMMITTED
        answers = self._admin.list_offsets(self._asked, isolation_level=committed)
        for at, answer in answers.items():
            ends[self._topics[at.topic]] += answer.result(30.0).offset
        return ends

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
        ends, now = self._measure(), time.monotonic()
        for topic, end in ends.items():
            if end != self._ends[topic]:
                self._first.setdefault(topic, now)
                self._last[topic] = now
        self._ends = ends
        return now


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
