"""Followers of the log, committed records only: on the event loop, or in a separate thread."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from threading import Thread
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from confluent_kafka import Consumer
from confluent_kafka import KafkaError as ConfluentError
from confluent_kafka import TopicPartition as ConfluentPartition

from streams.config.runtime import Runtime
from streams.errors import Recoverable
from streams.kafka.client import SILENT, aiokafka_config, confluent_config
from streams.kafka.decoding import event_of, refusal_of
from streams.kafka.reader import LogRecord, log_record
from streams.process.pausing import BackOff, pause
from streams.records.codec import Codec
from streams.records.events import Event
from streams.records.log_record import InvalidRecord

POLL_S = 0.5
MAX_BATCH = 500
FETCH_WAIT_MS = 250
FETCH_TIMEOUT_MS = 500
CLOSE_TIMEOUT_S = 2.0

PartitionKey = tuple[str, int]
"""(topic name as in ``streams.records.topics``, partition)."""

LogPartition = TopicPartition
"""(full topic name, partition), as the aiokafka client uses it."""

log = logging.getLogger("manifold.kafka")


async def keep_following(
    follow: Callable[[], Awaitable[None]],
    stopping: asyncio.Event,
    describe: Callable[[Exception], str],
    log: logging.Logger,
) -> None:
    """Run ``follow`` until ``stopping`` is set; retry with back-off while a server is unavailable.

    Parameters
    ----------
    follow
        Opens a new connection and continues from its last position.
    describe
        Records the error and returns the message for it.
    """
    back_off = BackOff()
    while not stopping.is_set():
        try:
            await follow()
        except (KafkaError, Recoverable, OSError) as error:
            pause_s = back_off.next_s()
            log.warning("%s; trying again in %.1f s", describe(error), pause_s)
            await pause(stopping, pause_s)


@asynccontextmanager
async def open_consumer(
    runtime: Runtime,
    topics: Iterable[str] = (),
    starts: Mapping[PartitionKey, int] | None = None,
    **settings: Any,
) -> AsyncIterator[Any]:
    """Open a consumer of committed records on the event loop; close it at the end of the body.

    Parameters
    ----------
    topics
        Topics to subscribe to as a member of a group.
    starts
        Without a group: start offset of every followed partition.
    settings
        Further client settings.
    """
    make: Any = AIOKafkaConsumer
    consumer = make(
        *map(runtime.topic, topics),
        **aiokafka_config(runtime),
        isolation_level="read_committed",
        enable_auto_commit=False,
        fetch_max_wait_ms=FETCH_WAIT_MS,
        **settings,
    )
    try:
        await consumer.start()
        if starts is not None:
            at = {LogPartition(runtime.topic(t), p): offset for (t, p), offset in starts.items()}
            consumer.assign(list(at))
            for tp, offset in at.items():
                consumer.seek(tp, offset)
        yield consumer
    finally:
        await _close_consumer(consumer)


async def poll_records(
    consumer: Any, max_records: int
) -> tuple[dict[LogPartition, list[Any]], tuple[LogPartition, ...]]:
    """Return the records received, and the partitions whose requested offset is out of range."""
    try:
        received = await consumer.getmany(timeout_ms=FETCH_TIMEOUT_MS, max_records=max_records)
    except OffsetOutOfRangeError as error:
        return {}, tuple(error.args[0])
    return received, ()


async def _close_consumer(consumer: Any) -> None:
    """Close the consumer; waits at most ``CLOSE_TIMEOUT_S`` per step, as no broker may answer."""
    # aiokafka's stop() may raise CancelledError of one of its tasks and then leaves connections
    # open
    for closing in (consumer.stop(), consumer._client.close()):
        task = asyncio.ensure_future(closing)
        await asyncio.wait([task], timeout=CLOSE_TIMEOUT_S)
        if not task.done():
            task.cancel()
        elif not task.cancelled() and task.exception() is not None:
            log.info("closing the consumer: %r", task.exception())


class DecodedRecord(NamedTuple):
    """A decoded record; ``source`` is the header ``source``, "" if missing."""

    topic: str
    partition: int
    offset: int
    event: Event
    source: str


FollowedRecord = DecodedRecord | InvalidRecord


class LogFollower:
    """Reads continuously from given offsets in a separate thread.

    Parameters
    ----------
    runtime, codec
        The deployment.
    starts
        Start offset of every followed partition.
    report_invalid
        Topics whose invalid records arrive as ``InvalidRecord``.

    Attributes
    ----------
    arrivals
        Batches of records, in order within each partition. Records that cannot be decoded are left
        out, except those of ``report_invalid``.
    """

    def __init__(
        self,
        runtime: Runtime,
        codec: Codec,
        starts: Mapping[PartitionKey, int],
        report_invalid: Collection[str] = (),
    ) -> None:
        self._codec, self._report_invalid = codec, report_invalid
        self._names = {runtime.topic(topic): topic for topic, _ in starts}
        self._consumer = Consumer(
            confluent_config(runtime)
            | {
                "group.id": f"{runtime.application}-executor",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "auto.offset.reset": "error",
                "fetch.wait.max.ms": 100,
                **SILENT,
            }
        )
        self._consumer.assign(
            [ConfluentPartition(runtime.topic(t), p, offset) for (t, p), offset in starts.items()]
        )
        self.arrivals: asyncio.Queue[list[FollowedRecord]] = asyncio.Queue()
        self.trouble = ""
        self._loop = asyncio.get_running_loop()
        self._stopping = False
        self._thread = Thread(target=self._run, name="following", daemon=True)
        self._thread.start()

    async def aclose(self) -> None:
        """Stop reading."""
        self._stopping = True
        await asyncio.to_thread(self._thread.join)
        self._consumer.close()

    def _run(self) -> None:
        while not self._stopping:
            first = self._consumer.poll(POLL_S)
            if first is None:
                continue
            batch = self._decoded([first, *self._consumer.consume(MAX_BATCH, 0)])
            if batch:
                self._loop.call_soon_threadsafe(self.arrivals.put_nowait, batch)

    def _decoded(self, messages: list[Any]) -> list[FollowedRecord]:
        batch: list[FollowedRecord] = []
        for message in messages:
            error = message.error()
            if error is not None:
                if error.code() != ConfluentError._PARTITION_EOF:
                    self.trouble = f"reading {message.topic()}: {error.str()}"
                continue
            self.trouble = ""
            read = log_record(self._names[message.topic()], message)
            record = decode_log_record(self._codec, read)
            if record is not None:
                batch.append(record)
            elif read.record.topic in self._report_invalid:
                batch.append(invalid_record(self._codec, read))
        return batch


def invalid_record(codec: Codec, read: LogRecord) -> InvalidRecord:
    """Return the coordinates of an invalid record, and its problem."""
    at = read.record
    problem = refusal_of(codec, at) or "it cannot be decoded"
    return InvalidRecord(at.topic, at.partition, at.offset, problem)


def decode_log_record(codec: Codec, read: LogRecord) -> DecodedRecord | None:
    """Return the decoded record; None when its value is not an event of its topic."""
    record = read.record
    event = event_of(codec, record)
    if event is None:
        return None
    source = read.headers.get("source", "")
    return DecodedRecord(record.topic, record.partition, record.offset, event, source)
