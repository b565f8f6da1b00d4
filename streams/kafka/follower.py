"""Follow topics live (committed records only) and pass the records to the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from threading import Thread
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, TopicPartition

from streams.config.runtime import Runtime
from streams.kafka.client import SILENT, confluent_config
from streams.records.codec import Codec, DecodeError
from streams.records.events import Event

POLL_S = 0.5
AT_ONCE = 500

Place = tuple[str, int]
"""A topic by its name in ``streams.records.topics``, and a partition."""


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
            [TopicPartition(runtime.topic(t), p, offset) for (t, p), offset in starts.items()]
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
                if error.code() != KafkaError._PARTITION_EOF:
                    self.trouble = f"reading {message.topic()}: {error.str()}"
                continue
            self.trouble = ""
            place = (self._names[message.topic()], message.partition())
            found = decoded(self._codec, place, message)
            if found is not None:
                batch.append(found)
        return batch


def decoded(codec: Codec, place: Place, message: Any) -> DecodedRecord | None:
    """Decode a record; None when it is not an event of its topic."""
    try:
        event = codec.decode(place[0], message.value())
    except DecodeError:
        return None
    source = dict(message.headers() or ()).get("source", b"").decode("utf-8", "replace")
    return DecodedRecord(*place, message.offset(), event, source)
