"""Copies the facts to another prefix: exactly once, whenever it is ended and started again.

What lies under the new prefix must be a beginning of what lies under the old one; it is compared
record by record, and copying goes on behind it, in transactions of one id. Whoever starts fences
the one before, whose open transaction is aborted. So the new topics alone say how far the copy is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Producer

from streams.codec import Codec
from streams.delivery import Delivery
from streams.errors import Fatal, Recoverable
from streams.migration.checks import POLL_SEC, Ends
from streams.migration.translate import ControlOffsets, Translator
from streams.replay.log_reader import LogReader
from streams.safety.producers import settle
from streams.settings import Runtime
from streams.topics import CONTROL
from streams.transactional import FENCED, transactional_producer

BATCH = 10_000
BATCH_BYTES = 16 << 20

Progress = Callable[[str, int], None]


def migrate_id(target: Runtime) -> str:
    """Return the transactional id of whoever copies to a prefix."""
    return f"{target.application}-migrate"


class Image(NamedTuple):
    """A record as it is to lie under the new prefix."""

    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    headers: list[Any]


class Compared(NamedTuple):
    """How much of a partition is under the new prefix.

    Attributes
    ----------
    records
        How many records.
    position
        Offset under the old prefix behind the last of them.
    """

    records: int
    position: int


class Copier:
    """Compares and copies partitions.

    Parameters
    ----------
    target
        The deployment under the new prefix.
    old, new
        Readers under both prefixes.
    codec
        Knows the schemas of both.
    ids
        As in `Translator`.
    ends
        Up to where the old topics are copied.
    progress
        Called with the topic and the number of records compared or copied since.
    """

    def __init__(
        self,
        target: Runtime,
        old: LogReader,
        new: LogReader,
        codec: Codec,
        ids: dict[str, dict[int, int]],
        ends: Ends,
        progress: Progress,
    ) -> None:
        self._target, self._old, self._new, self._codec = target, old, new, codec
        self._ends, self._progress = ends, progress
        source = [message.offset() for message in self._source(CONTROL, 0)]
        self._offsets = ControlOffsets(source, ends[CONTROL, 0])
        self._translator = Translator(codec, ids, self._offsets)
        self._producer: Producer | None = None

    def partitions(self, topic: str) -> list[int]:
        """Return the partitions of a topic, ascending."""
        return sorted(partition for name, partition in self._ends if name == topic)

    def open(self) -> None:
        """Fence whoever copied before; what it had not committed is gone when this returns."""
        self._producer = transactional_producer(
            self._target,
            migrate_id(self._target),
            queue_buffering_max_messages=10 * BATCH,
        )

    def count(self, topic: str, partition: int, position: int) -> int:
        """Return how many records the old prefix holds from a position on."""
        return sum(1 for _ in self._source(topic, partition, position))

    def compare(self, topic: str, partition: int) -> Compared:
        """Compare what is under the new prefix with the beginning of the old partition.

        Raises
        ------
        Fatal
            It holds something else; names the offset and what differs.
        """
        if topic == CONTROL:
            self._read_control_offsets()
        low, end = self._new.bounds(topic, partition)
        done, position = 0, 0
        source: Iterator[Any] | None = None
        for found in _records(self._new, topic, partition, low, end):
            source = source or self._source(topic, partition)
            expected = next(source, None)
            difference = self._difference(topic, expected, found)
            if difference:
                raise Fatal(
                    f"{self._target.topic(topic)}-{partition} at offset {found.offset()} is no "
                    f"copy: {difference}. Something has written there already: use a prefix "
                    "without topics"
                )
            done, position = done + 1, expected.offset() + 1 if expected else position
            if done % BATCH == 0:
                self._progress(topic, BATCH)
        self._progress(topic, done % BATCH)
        return Compared(done, position)

    def copy(self, topic: str, partition: int, position: int) -> int:
        """Copy the rest of a partition; return how many records.

        Raises
        ------
        Fatal
            Another migration to this prefix has taken over, or the broker refuses a record.
        Recoverable
            The brokers did not commit in time; the process must end then.
        """
        copied = 0
        for batch in self._batches(topic, partition, position):
            self._write(topic, partition, batch)
            copied += len(batch)
            self._progress(topic, len(batch))
        return copied

    # -- reading ---------------------------------------------------------------------------------

    def _source(self, topic: str, partition: int, position: int = 0) -> Iterator[Any]:
        low, _ = self._old.bounds(topic, partition)
        start, end = max(low, position), self._ends[topic, partition]
        for batch in self._old.read_messages(topic, partition, start, end):
            unknown = self._codec.unknown_ids(message.value() for message in batch)
            if unknown:
                asyncio.run(self._codec.resolve(unknown))
            yield from batch

    def _batches(self, topic: str, partition: int, position: int) -> Iterator[list[Any]]:
        batch: list[Any] = []
        size = 0
        for message in self._source(topic, partition, position):
            full = len(batch) >= BATCH or size >= BATCH_BYTES
            # where a record names an earlier one by its offset, that one must have its new offset
            after = topic == CONTROL and self._translator.refers_back(message.value())
            if batch and (full or after):
                yield batch
                batch, size = [], 0
            batch.append(message)
            size += len(message.value() or b"")
        if batch:
            yield batch

    def _read_control_offsets(self, expected: int = 0) -> None:
        """Learn the new offsets of the control records, once there are as many as expected."""
        give_up_at = time.monotonic() + self._target.transaction_timeout_sec
        while True:
            low, end = self._new.bounds(CONTROL, 0)
            found = [m.offset() for m in _records(self._new, CONTROL, 0, low, end)]
            if len(found) >= expected:
                self._offsets.target = found
                return
            if time.monotonic() > give_up_at:
                raise Recoverable(
                    f"{self._target.topic(CONTROL)} shows {len(found)} of {expected} records that "
                    "were committed; the same command again goes on"
                )
            time.sleep(POLL_SEC)

    # -- one record ------------------------------------------------------------------------------

    def _image(self, topic: str, message: Any) -> Image:
        return Image(
            message.key(),
            self._translator.value(topic, message.offset(), message.value()),
            message.timestamp()[1],
            list(message.headers() or ()),
        )

    def _difference(self, topic: str, expected: Any, found: Any) -> str:
        if expected is None:
            return "the old topic has no further record"
        image = self._image(topic, expected)
        seen = Image(found.key(), found.value(), found.timestamp()[1], list(found.headers() or ()))
        if seen == image:
            return ""
        names = [n for n, a, b in zip(Image._fields, image, seen, strict=True) if a != b]
        return f"its {' and '.join(names)} is not that of the old record at {expected.offset()}"

    # -- writing ---------------------------------------------------------------------------------

    def _write(self, topic: str, partition: int, batch: list[Any]) -> None:
        producer, delivery = self._producer, Delivery()
        if producer is None:
            raise RuntimeError("Copier.copy needs Copier.open")
        images = [self._image(topic, message) for message in batch]
        name = self._target.topic(topic)
        try:
            producer.begin_transaction()
            for image in images:
                producer.produce(
                    name,
                    image.value,
                    image.key,
                    partition=partition,
                    timestamp=image.timestamp_ms,
                    headers=image.headers,
                    on_delivery=delivery.report,
                )
            settle(self._target, producer.commit_transaction, self._target.transaction_timeout_sec)
        except KafkaException as error:
            refused = delivery.refused
            raise self._explained(name, refused[0] if refused else error.args[0]) from error
        if topic == CONTROL:
            self._read_control_offsets(len(self._offsets.target) + len(batch))

    def _explained(self, name: str, error: KafkaError) -> Fatal | Recoverable:
        if error.code() in FENCED:
            return Fatal(
                f"another manifold migrate to this prefix has taken over (transactional id "
                f"{migrate_id(self._target)})"
            )
        if error.code() in (KafkaError.INVALID_TIMESTAMP, KafkaError.MSG_SIZE_TOO_LARGE):
            return Fatal(f"{name} refuses a record that the old topic has: {error.str()}")
        return Recoverable(f"cannot write to {name}: {error.str()}; the same command again goes on")


def _records(reader: LogReader, topic: str, partition: int, start: int, end: int) -> Iterator[Any]:
    for batch in reader.read_messages(topic, partition, start, end):
        yield from batch
