"""Follows topics live, committed records only, and hands them to the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from threading import Thread
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, TopicPartition

from streams.config.runtime import Runtime
from streams.kafka.client import SILENT, confluent_config
from streams.kafka.reader import LogRecord, log_record
from streams.records.codec import Codec, DecodeError
from streams.records.events import Event

POLL_S = 0.5
AT_ONCE = 500

Place = tuple[str, int]
"""A topic by its name in ``streams.records.topics``, and a partition."""


class Found(NamedTuple):
    """A record that was read; ``source`` is its header of that name, "" when it has none."""

    topic: str
    partition: int
    offset: int
    event: Event
    source: str


class Following:
    """Reads on from given offsets in a thread of its own.

    Parameters
    ----------
    runtime, codec
        The deployment.
    starts
        Where to begin in every partition that is followed.

    Attributes
    ----------
    arrivals
        Batches of records, in the order of each partition. What cannot be decoded is left out.
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
            [TopicPartition(runtime.topic(t), p, offset) for (t, p), offset in starts.items()]
        )
        self.arrivals: asyncio.Queue[list[Found]] = asyncio.Queue()
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

    def _decoded(self, messages: list[Any]) -> list[Found]:
        batch = []
        for message in messages:
            error = message.error()
            if error is not None:
                if error.code() != KafkaError._PARTITION_EOF:
                    self.trouble = f"reading {message.topic()}: {error.str()}"
                continue
            self.trouble = ""
            found = decoded(self._codec, log_record(self._names[message.topic()], message))
            if found is not None:
                batch.append(found)
        return batch


def decoded(codec: Codec, read: LogRecord) -> Found | None:
    """Return a record that was read; None when it is no event of its topic."""
    record = read.record
    try:
        event = codec.decode(record.topic, record.value)
    except DecodeError:
        return None
    source = read.headers.get("source", "")
    return Found(record.topic, record.partition, record.offset, event, source)
