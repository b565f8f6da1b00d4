"""Follows the whole log, committed records only, into the view and to the subscribers.

No consumer group: every service instance reads all records. After an outage of the broker it
continues from its position; if it is too far behind it skips to the end and reports that.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from typing import Any

from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.errors import Recoverable
from streams.kafka.decoding import decode_record
from streams.kafka.follower import LogPartition, keep_following, open_consumer, poll_records
from streams.monitoring.view import LiveView, Origin
from streams.monitoring.view_start import FOLLOWED, Start
from streams.records.codec import Codec, DecodeError
from streams.records.log_record import RecordCoordinates, SourceRecord
from streams.records.topics import CONTROL
from streams.service.channels import compact_json, frame_of
from streams.service.hub import Hub

BATCH = 2_000
MAX_BEHIND = 20_000
"""Maximum lag of one partition in records; beyond it the live view skips to the end."""
KEPT_AT_SKIP = 1_000
PROBE_S, PROBE_WITHIN_S = 2.0, 4.0

log = logging.getLogger("manifold.api")


class ViewFollower:
    """One consumer of all partitions.

    Parameters
    ----------
    runtime, config, codec
        The deployment; the codec is used by this follower alone.
    start
        The view so far, and the positions to continue from.
    hub
        Receives the frames.
    yield_every
        Number of records after which other tasks run: fewer than the queue of a client.

    Attributes
    ----------
    alive_at
        Monotonic seconds of the last answer of the broker, None before the first.
    trouble
        Why it is not following, None when it is.
    skipped
        Number of records skipped because the service was too far behind.
    """

    def __init__(
        self,
        runtime: Runtime,
        config: Config,
        codec: Codec,
        start: Start,
        hub: Hub,
        yield_every: int = 100,
    ) -> None:
        self._runtime, self._codec, self._hub = runtime, codec, hub
        self._interval_sec = config.alloc_interval_sec
        self.view: LiveView = start.view
        self._next = dict(start.ends)
        self._names = {runtime.topic(topic): topic for topic in FOLLOWED}
        self._yield_every = yield_every
        self._stopping = asyncio.Event()
        self.alive_at: float | None = None
        self.trouble: str | None = None
        self.skipped = 0
        self.records = 0
        for (topic, partition), at in start.ends.items():
            hub.passed(RecordCoordinates(topic, partition, at - 1))

    def stop(self) -> None:
        """Ask ``run`` to return."""
        self._stopping.set()

    async def run(self) -> None:
        """Follow until ``stop``; waits with back-off while the broker is unavailable."""
        await keep_following(self._follow, self._stopping, self._unavailable, log)

    def _unavailable(self, error: Exception) -> str:
        self.trouble = f"the log cannot be followed: {error}"
        return self.trouble

    async def _follow(self) -> None:
        async with open_consumer(
            self._runtime, starts=self._next, group_id=None, auto_offset_reset="none"
        ) as consumer:
            while not self._stopping.is_set():
                await self._take(consumer)

    async def _take(self, consumer: Any) -> None:
        received, lost = await poll_records(consumer, BATCH)
        if lost:
            await self._restart_at_end(consumer, lost)
            return
        if any(received.values()):
            self.alive_at, self.trouble = time.monotonic(), None
        else:
            await self._probe(consumer)
        values = [record.value for found in received.values() for record in found]
        unknown = self._codec.unknown_ids(values)
        if unknown:
            await self._codec.resolve(unknown)
        for tp, found in received.items():
            topic = self._names[tp.topic]
            for number, record in enumerate(found, 1):
                self._publish(topic, record)
                if number % self._yield_every == 0:
                    await asyncio.sleep(0)  # lets client tasks send
            if found:
                self._next[topic, tp.partition] = found[-1].offset + 1
                self._skip(consumer, tp, topic, found[-1].offset + 1)

    async def _probe(self, consumer: Any) -> None:
        """Send the brokers a request: without records, a quiet log looks like a lost connection.

        Raises
        ------
        KafkaError, Recoverable
            The brokers do not answer.
        """
        now = time.monotonic()
        if self.trouble is None and self.alive_at is not None and now - self.alive_at < PROBE_S:
            return
        try:
            async with asyncio.timeout(PROBE_WITHIN_S):
                await consumer.end_offsets(list(consumer.assignment()))
        except TimeoutError:
            raise Recoverable(f"the brokers do not answer within {PROBE_WITHIN_S:g} s") from None
        self.alive_at, self.trouble = time.monotonic(), None

    def _publish(self, topic: str, record: Any) -> None:
        place = RecordCoordinates(topic, record.partition, record.offset)
        self.records += 1
        try:
            at = record.partition, record.offset, record.timestamp, record.key, record.value
            event = decode_record(self._codec, SourceRecord(topic, *at))
        except DecodeError as error:
            if topic == CONTROL:
                self.view.control.refuse(record.offset, f"{error.reason}: {error.detail}")
        else:
            self.view.apply(place, event, _origin(place, record.headers))
            frame = frame_of(place, record.timestamp, event, self.view.state, self._interval_sec)
            if frame is not None:
                self._hub.publish(frame)
        self._hub.passed(place)

    def _skip(self, consumer: Any, tp: LogPartition, topic: str, at: int) -> None:
        if topic == CONTROL:
            return  # small, and every record is needed
        end = consumer.highwater(tp)
        if end is None or end - at <= MAX_BEHIND:
            return
        to = end - KEPT_AT_SKIP
        log.warning("%s-%d: %d records behind; continuing at %d", topic, tp.partition, end - at, to)
        consumer.seek(tp, to)
        self._gap(topic, tp.partition, at, to)

    async def _restart_at_end(self, consumer: Any, lost: Iterable[LogPartition]) -> None:
        """Continue at the end of partitions whose requested offset is gone (recreated,
        truncated)."""
        for tp in lost:
            topic = self._names[tp.topic]
            ends = await consumer.end_offsets([tp])
            log.warning("%s-%d no longer holds the requested offset", topic, tp.partition)
            consumer.seek(tp, ends[tp])
            self._gap(topic, tp.partition, self._next[topic, tp.partition], ends[tp])

    def _gap(self, topic: str, partition: int, at: int, to: int) -> None:
        self._next[topic, partition] = to
        self.skipped += max(0, to - at)
        self._hub.passed(RecordCoordinates(topic, partition, to - 1))
        self._hub.tell_all(
            compact_json(
                {
                    "type": "gap",
                    "topic": topic,
                    "partition": partition,
                    "from_offset": at,
                    "to_offset": to,
                    "detail": "the service was too far behind and continued at the end",
                }
            )
        )


def _origin(place: RecordCoordinates, headers: Any) -> Origin:
    told = {name: (text or b"").decode("utf-8", "replace") for name, text in headers}
    return Origin(place.id, told.get("source", ""), told.get("engine", ""))
