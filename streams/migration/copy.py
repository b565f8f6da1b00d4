"""Copies the input records to another prefix: exactly once, also after interruptions.

The records under the new prefix must equal the first records under the old one; they are compared
one by one, and copying continues after them, in transactions of one transactional id. Each start
fences the previous one, whose open transaction is aborted. So the new topics alone show the
progress.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from streams.config.runtime import Runtime
from streams.errors import Fatal, Recoverable
from streams.kafka.delivery import Delivery
from streams.kafka.error_kinds import ErrorKind, error_kind
from streams.kafka.reader import LogReader
from streams.kafka.transactions import REFUSED_RECORD, transaction, transactional_producer
from streams.migration.checks import POLL_SEC, Ends
from streams.migration.translate import ControlOffsets, Translator
from streams.records.codec import Codec
from streams.records.topics import CONTROL

BATCH = 10_000
BATCH_BYTES = 16 << 20

Progress = Callable[[str, int], None]


def migrate_id(target: Runtime) -> str:
    """Return the transactional id of a migration to a prefix."""
    return f"{target.application}-migrate"


class CopiedRecord(NamedTuple):
    """A record as written under the new prefix."""

    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    headers: list[Any]


class PartitionCounts(NamedTuple):
    """The counts of one partition.

    Attributes
    ----------
    there
        Number of records already under the new prefix.
    further
        Number of further records of the old prefix: copied, or only counted.
    """

    there: int
    further: int


class Copier:
    """Compares and copies partitions.

    Each partition is read by a separate client, so that reads do not interfere.

    Parameters
    ----------
    runtime, target
        The deployment under the old and under the new prefix.
    codec
        Knows the schemas of both.
    ids
        As in `Translator`.
    ends
        End offsets of the copy in the old topics.
    progress
        Called with the topic and the number of records compared or copied since.
    """

    def __init__(
        self,
        runtime: Runtime,
        target: Runtime,
        codec: Codec,
        ids: dict[str, dict[int, int]],
        ends: Ends,
        progress: Progress,
    ) -> None:
        self._runtime, self._target, self._codec = runtime, target, codec
        self._ends, self._progress = ends, progress
        source = [message.offset() for message in self._source(CONTROL, 0)]
        self._offsets = ControlOffsets(source, ends[CONTROL, 0])
        self._translator = Translator(codec, ids, self._offsets)
        self._producer: Any = None

    def partitions(self, topic: str) -> list[int]:
        """Return the partitions of a topic, ascending."""
        return sorted(partition for name, partition in self._ends if name == topic)

    def open(self) -> None:
        """Fence a previous migration; its uncommitted records are aborted when this returns."""
        self._producer = transactional_producer(
            self._target,
            migrate_id(self._target),
            queue_buffering_max_messages=10 * BATCH,
        )

    def copy_partition(
        self, topic: str, partition: int, *, exists: bool, write: bool
    ) -> PartitionCounts:
        """Compare what is under the new prefix, then copy or count the rest of the old partition.

        Parameters
        ----------
        exists
            Whether the topic exists under the new prefix.
        write
            Whether to copy the rest; otherwise it is only counted.

        Raises
        ------
        Fatal
            The partition holds other records (the message names the offset and the difference),
            another migration to this prefix has taken over, or the broker refuses a record.
        Recoverable
            The brokers did not commit in time; the process must end then.
        """
        source = self._source(topic, partition)
        there = self._compare(topic, partition, source) if exists else 0
        further = 0
        for batch in self._batches(topic, source):
            if write:
                self._write(topic, partition, batch)
            further += len(batch)
            self._progress(topic, len(batch))
        return PartitionCounts(there, further)

    def _compare(self, topic: str, partition: int, source: Iterator[Any]) -> int:
        """Compare as many source records as the new partition has; they must be equal."""
        if topic == CONTROL:
            self._read_control_offsets()
        done = 0
        for found in _records(self._target, topic, partition):
            difference = self._difference(topic, next(source, None), found)
            if difference:
                raise Fatal(
                    f"{self._target.topic(topic)}-{partition} at offset {found.offset()} is no "
                    f"copy: {difference}. Another program has written there: use a prefix without "
                    "topics"
                )
            done += 1
            if done % BATCH == 0:
                self._progress(topic, BATCH)
        self._progress(topic, done % BATCH)
        return done

    # -- reading ---------------------------------------------------------------------------------

    def _source(self, topic: str, partition: int) -> Iterator[Any]:
        end = self._ends[topic, partition]
        for message in _records(self._runtime, topic, partition, end):
            unknown = self._codec.unknown_ids((message.value(),))
            if unknown:
                asyncio.run(self._codec.resolve(unknown))
            yield message

    def _batches(self, topic: str, source: Iterator[Any]) -> Iterator[list[Any]]:
        batch: list[Any] = []
        size = 0
        for message in source:
            full = len(batch) >= BATCH or size >= BATCH_BYTES
            # a record that refers to an earlier one by offset needs the new offset of that one
            after = topic == CONTROL and self._translator.refers_back(message.value())
            if batch and (full or after):
                yield batch
                batch, size = [], 0
            batch.append(message)
            size += len(message.value() or b"")
        if batch:
            yield batch

    def _read_control_offsets(self, expected: int = 0) -> None:
        """Read the new offsets of the control records, once all expected ones are visible."""
        give_up_at = time.monotonic() + self._target.transaction_timeout_sec
        while True:
            found = [message.offset() for message in _records(self._target, CONTROL, 0)]
            if len(found) >= expected:
                self._offsets.target = found
                return
            if time.monotonic() > give_up_at:
                raise Recoverable(
                    f"{self._target.topic(CONTROL)} shows {len(found)} of {expected} records that "
                    "were committed; repeat the command to continue"
                )
            time.sleep(POLL_SEC)

    # -- one record ------------------------------------------------------------------------------

    def _copied(self, topic: str, message: Any) -> CopiedRecord:
        return CopiedRecord(
            message.key(),
            self._translator.value(topic, message.offset(), message.value()),
            message.timestamp()[1],
            list(message.headers() or ()),
        )

    def _difference(self, topic: str, expected: Any, found: Any) -> str:
        if expected is None:
            end = self._ends[topic, found.partition()]
            return f"the old topic has no more records before {end}"
        copied = self._copied(topic, expected)
        seen = CopiedRecord(
            found.key(), found.value(), found.timestamp()[1], list(found.headers() or ())
        )
        if seen == copied:
            return ""
        names = [n for n, a, b in zip(CopiedRecord._fields, copied, seen, strict=True) if a != b]
        return f"its {' and '.join(names)} is not that of the old record at {expected.offset()}"

    # -- writing ---------------------------------------------------------------------------------

    def _write(self, topic: str, partition: int, batch: list[Any]) -> None:
        producer, delivery = self._producer, Delivery()
        if producer is None:
            raise RuntimeError("Copier.copy_partition writes only after Copier.open")
        copies = [self._copied(topic, message) for message in batch]
        name = self._target.topic(topic)

        def refused(error: Any) -> Fatal | Recoverable:
            first = delivery.refused
            return self._explained(name, first[0] if first else error)

        with transaction(self._target, producer, refused):
            for copied in copies:
                producer.produce(
                    name,
                    copied.value,
                    copied.key,
                    partition=partition,
                    timestamp=copied.timestamp_ms,
                    headers=copied.headers,
                    on_delivery=delivery.report,
                )
        if topic == CONTROL:
            self._read_control_offsets(len(self._offsets.target) + len(batch))

    def _explained(self, name: str, error: Any) -> Fatal | Recoverable:
        if error_kind(error) is ErrorKind.FENCED:
            return Fatal(
                "another manifold migrate to this prefix has taken over (transactional id "
                f"{migrate_id(self._target)})"
            )
        if error.code() in REFUSED_RECORD:
            return Fatal(f"{name} refuses a record of the old topic: {error.str()}")
        return Recoverable(f"cannot write to {name}: {error.str()}; repeat the command to continue")


def _records(runtime: Runtime, topic: str, partition: int, end: int | None = None) -> Iterator[Any]:
    """Yield the committed records of a partition, to its end where none is given.

    Raises
    ------
    Recoverable
        The client returns a record that is not after the previous one.
    """
    with LogReader(runtime) as reader:
        position, high = reader.bounds(topic, partition)
        for batch in reader.read_messages(topic, partition, position, high if end is None else end):
            for message in batch:
                if message.partition() != partition or message.offset() < position:
                    raise Recoverable(
                        f"{runtime.topic(topic)}-{partition} was read out of order: at {position} "
                        f"found {message.partition()}-{message.offset()}; run the command again"
                    )
                position = message.offset() + 1
                yield message
