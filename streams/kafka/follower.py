"""Following the log live, committed records only: on the event loop, or by a thread beside it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
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
from streams.kafka.decoding import event_of
from streams.kafka.reader import LogRecord, log_record
from streams.process.pausing import BackOff, pause
from streams.records.codec import Codec
from streams.records.events import Event

POLL_S = 0.5
AT_ONCE = 500
FETCH_WAIT_MS = 250
TAKE_WITHIN_MS = 500
STOP_WITHIN_S = 2.0

Place = tuple[str, int]
"""A topic by its name in ``streams.records.topics``, and a partition."""

LogPartition = TopicPartition
"""A topic by its full name, and a partition, as what follows on an event loop is told them."""

log = logging.getLogger("manifold.kafka")


async def keep_following(
    follow: Callable[[], Awaitable[None]],
    stopping: asyncio.Event,
    says: Callable[[Exception], str],
    log: logging.Logger,
) -> None:
    """Follow until told to stop; wait with back-off while something is away.

    Parameters
    ----------
    follow
        Follows with a new connection, from where it had come to.
    says
        Takes in what went wrong and returns the words for it.
    """
    back_off = BackOff()
    while not stopping.is_set():
        try:
            await follow()
        except (KafkaError, Recoverable, OSError) as error:
            pause_s = back_off.next_s()
            log.warning("%s; trying again in %.1f s", says(error), pause_s)
            await pause(stopping, pause_s)


@asynccontextmanager
async def consuming(
    runtime: Runtime,
    topics: Iterable[str] = (),
    starts: Mapping[Place, int] | None = None,
    **settings: Any,
) -> AsyncIterator[Any]:
    """Open a consumer of committed records on the event loop; it leaves when this ends.

    Parameters
    ----------
    topics
        What a member of a group subscribes to.
    starts
        Without a group: where to begin in every partition that is followed.
    settings
        Further ones of the client.
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
        await _left(consumer)


async def fetched(
    consumer: Any, most: int
) -> tuple[dict[LogPartition, list[Any]], tuple[LogPartition, ...]]:
    """Return what has come, and the partitions that do not hold the wanted offset any more."""
    try:
        came = await consumer.getmany(timeout_ms=TAKE_WITHIN_MS, max_records=most)
    except OffsetOutOfRangeError as error:
        return {}, tuple(error.args[0])
    return came, ()


async def _left(consumer: Any) -> None:
    """Leave the brokers, for so long at most; they may be what has gone."""
    # the consumer's own stop lets the cancellation of one of its tasks out, and leaves its
    # connections open then
    for leaving in (consumer.stop(), consumer._client.close()):
        task = asyncio.ensure_future(leaving)
        await asyncio.wait([task], timeout=STOP_WITHIN_S)
        if not task.done():
            task.cancel()
        elif not task.cancelled() and task.exception() is not None:
            log.info("leaving the brokers: %r", task.exception())


class DecodedRecord(NamedTuple):
    """A decoded record; ``source`` is its header of that name, "" without one."""

    topic: str
    partition: int
    offset: int
    event: Event
    source: str


class LogFollower:
    """Reads continuously from given offsets in its own thread.

    Parameters
    ----------
    runtime, codec
        The deployment.
    starts
        Start offset of every followed partition.

    Attributes
    ----------
    arrivals
        Batches of records, in order within each partition. Records that cannot be decoded are left
        out.
    """

    def __init__(self, runtime: Runtime, codec: Codec, starts: Mapping[Place, int]) -> None:
        self._codec = codec
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
        self.arrivals: asyncio.Queue[list[DecodedRecord]] = asyncio.Queue()
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
            batch = self._decoded([first, *self._consumer.consume(AT_ONCE, 0)])
            if batch:
                self._loop.call_soon_threadsafe(self.arrivals.put_nowait, batch)

    def _decoded(self, messages: list[Any]) -> list[DecodedRecord]:
        batch = []
        for message in messages:
            error = message.error()
            if error is not None:
                if error.code() != ConfluentError._PARTITION_EOF:
                    self.trouble = f"reading {message.topic()}: {error.str()}"
                continue
            self.trouble = ""
            found = decoded(self._codec, log_record(self._names[message.topic()], message))
            if found is not None:
                batch.append(found)
        return batch


def decoded(codec: Codec, read: LogRecord) -> DecodedRecord | None:
    """Return a record that was read; None when it is no event of its topic."""
    record = read.record
    event = event_of(codec, record)
    if event is None:
        return None
    source = read.headers.get("source", "")
    return DecodedRecord(record.topic, record.partition, record.offset, event, source)
