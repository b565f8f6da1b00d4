"""Bulk reading of the log: committed records, up to an end fixed in advance."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streams.config.runtime import Runtime
from streams.errors import Fatal, Recoverable
from streams.kafka.client import READING_ON, SILENT, confluent_config
from streams.kafka.errors import call_broker, first_answer, reading_problem, translate_error
from streams.records.log_record import SourceRecord

T = TypeVar("T")

TIMEOUT_S = 30.0
READ_BATCH = 5_000
# consume() waits for a full batch that long, also when the end is reached
POLL_S = 0.01
EMBEDDED_CLUSTER = "tansu_cluster"


class LogRecord(NamedTuple):
    """A record with its headers, decoded to text."""

    record: SourceRecord
    headers: dict[str, str]


class LogReader:
    """Reads partitions of one deployment with a single client.

    Topics are named as in ``streams.records.topics``, also in the records: without the deployment's
    prefix.

    Parameters
    ----------
    runtime
        Broker addresses and topic prefix.
    cluster_id
        Cluster id known from another reader of the deployment; requested from the cluster when
        omitted.

    Raises
    ------
    Fatal
        A setting is invalid, or the login is refused.
    Recoverable
        No broker answers.
    """

    def __init__(self, runtime: Runtime, cluster_id: str | None = None) -> None:
        self._runtime = runtime
        self._servers = runtime.kafka_bootstrap_servers
        servers = runtime.kafka_bootstrap_servers
        client_errors: list[KafkaError] = []
        try:
            self._consumer = Consumer(
                confluent_config(runtime)
                | {
                    "group.id": f"{runtime.application}-reader",
                    "enable.auto.commit": False,
                    "isolation.level": "read_committed",
                    "enable.partition.eof": True,
                    "auto.offset.reset": "earliest",
                    "fetch.wait.max.ms": 50,
                    "queued.min.messages": 50_000,
                    **READING_ON,
                    "error_cb": client_errors.append,
                    **SILENT,
                }
            )
        except KafkaException as error:
            raise translate_error(servers, error) from error
        if cluster_id is None:
            cluster_id = str(first_answer(self._consumer, servers, client_errors).cluster_id)
        self.cluster_id = cluster_id
        self._embedded = self.cluster_id == EMBEDDED_CLUSTER
        self._failing_since: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the client."""
        self._consumer.close()

    def partitions(self, topic: str) -> list[int]:
        """Return the partition numbers of ``topic``.

        Raises
        ------
        Fatal
            The topic does not exist.
        """
        name = self._runtime.topic(topic)
        listed = call_broker(self._servers, lambda: self._consumer.list_topics(name, TIMEOUT_S))
        found = listed.topics[name]
        if found.error is not None or not found.partitions:
            raise Fatal(f"topic {name} does not exist; run: manifold topics create")
        return sorted(found.partitions)

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """Return the first offset and the end (last stable offset) of a partition."""
        return self.all_bounds(topic, [partition])[partition]

    def all_bounds(self, topic: str, partitions: list[int]) -> dict[int, tuple[int, int]]:
        """Return the first offset and the end of several partitions."""
        found: dict[int, tuple[int, int]] = {}
        for partition in partitions:
            at = TopicPartition(self._runtime.topic(topic), partition)
            ask = partial(self._consumer.get_watermark_offsets, at, TIMEOUT_S)
            found[partition] = call_broker(self._servers, ask)
        filled = {p: high for p, (low, high) in found.items() if high > low}
        if filled and self._embedded:
            for partition, end in self._ends_by_reading(topic, filled).items():
                found[partition] = (found[partition][0], end)
        return found

    def _ends_by_reading(self, topic: str, starts: dict[int, int]) -> dict[int, int]:
        """Return the ends by reading: the embedded broker counts the last batch as one record."""
        name = self._runtime.topic(topic)
        self._consumer.assign([TopicPartition(name, p, at) for p, at in starts.items()])
        ends: dict[int, int] = {}
        deadline = time.monotonic() + TIMEOUT_S
        while len(ends) < len(starts):
            messages: list[Any] = self._consumer.consume(READ_BATCH, POLL_S)
            for message in messages:
                error = message.error()
                if error is not None and error.code() == KafkaError._PARTITION_EOF:
                    ends[message.partition()] = message.offset()
            if time.monotonic() > deadline:
                raise Recoverable(f"no end of {name} within {TIMEOUT_S:.0f} s")
        return ends

    def offset_at(self, topic: str, partition: int, as_of_ms: int) -> int:
        """Return the offset of the first record stamped ``as_of_ms`` or later (the end if none).

        The embedded broker searches by arrival time instead; there this returns the first offset.
        """
        if self._embedded:
            return self.bounds(topic, partition)[0]
        at = TopicPartition(self._runtime.topic(topic), partition, as_of_ms)
        found = call_broker(
            self._servers, lambda: self._consumer.offsets_for_times([at], TIMEOUT_S)
        )
        offset: int = found[0].offset
        return offset if offset >= 0 else self.bounds(topic, partition)[1]

    def read(
        self, topic: str, partition: int, start: int | None = None, end: int | None = None
    ) -> Iterator[list[LogRecord]]:
        """Yield the committed records of ``[start, end)`` in batches.

        ``start`` defaults to the first offset, ``end`` to the last stable offset at the call.
        """
        low, high = self.bounds(topic, partition)
        first = low if start is None else max(start, low)
        yield from self.read_span(topic, partition, first, high if end is None else min(end, high))

    def read_span(
        self, topic: str, partition: int, start: int, end: int
    ) -> Iterator[list[LogRecord]]:
        """Return the committed records of ``[start, end)``, which must lie within the bounds.

        Fetching starts with this call, not with the request for the first batch: a client that
        starts to fetch some time after its creation waits a second.
        """
        return self._read(topic, partition, start, end, log_record)

    def read_values(
        self, topic: str, partition: int, start: int, end: int
    ) -> Iterator[list[SourceRecord]]:
        """Return the same without headers, which take more time to decode than everything else."""
        return self._read(topic, partition, start, end, _source_record)

    def read_messages(
        self, topic: str, partition: int, start: int, end: int
    ) -> Iterator[list[Any]]:
        """Return the same as the client's messages, for callers that need only some of their
        fields."""
        return self._read(topic, partition, start, end, _unchanged)

    def _read(
        self, topic: str, partition: int, start: int, end: int, convert: Callable[[str, Any], T]
    ) -> Iterator[list[T]]:
        if start < end:
            self._consumer.assign([TopicPartition(self._runtime.topic(topic), partition, start)])
        return self._batches(topic, partition, start, end, convert)

    def _batches(
        self,
        topic: str,
        partition: int,
        position: int,
        end: int,
        convert: Callable[[str, Any], T],
    ) -> Iterator[list[T]]:
        self._failing_since = None
        while position < end:
            reached = position
            batch, position = self._batch(topic, partition, position, end, convert)
            if position > reached:
                self._failing_since = None
            if batch:
                yield batch
        # otherwise a waiting fetch blocks every other request on the connection
        self._consumer.unassign()

    def non_empty(self, spans: Mapping[tuple[str, int], tuple[int, int]]) -> set[tuple[str, int]]:
        """Return the (topic, partition) whose span [start, end) contains a record.

        All spans are read concurrently: transaction markers and aborted records take offsets, and
        reading spans that contain nothing else one by one is slow.

        Raises
        ------
        Recoverable
            The broker does not answer in time.
        """
        found: set[tuple[str, int]] = set()
        left = self._assign(spans)
        # the first record of a partition decides, or its current end
        open_ends: dict[tuple[str, int], int | None] = dict.fromkeys(left)
        for message in records_until(self._consumer, self._servers, open_ends):
            topic, end = left[message.topic(), message.partition()]
            if message.offset() < end:
                found.add((topic, message.partition()))
            del open_ends[message.topic(), message.partition()]
        self._consumer.unassign()  # as at the end of read
        return found

    def read_many(self, spans: Mapping[tuple[str, int], tuple[int, int]]) -> Iterator[LogRecord]:
        """Yield the committed records of several partitions, read concurrently.

        Records are ordered within a partition only.

        Parameters
        ----------
        spans
            (topic, partition) -> start and end; the end at most the last stable offset.

        Raises
        ------
        Recoverable
            No more records arrive before the ends are reached.
        """
        unread = {key: span for key, span in spans.items() if span[0] < span[1]}
        if not unread:
            return
        left = self._assign(unread)
        ends: dict[tuple[str, int], int | None] = {key: end for key, (_, end) in left.items()}
        for message in records_until(self._consumer, self._servers, ends):
            yield log_record(left[message.topic(), message.partition()][0], message)
        self._consumer.unassign()  # as at the end of read

    def _assign(
        self, spans: Mapping[tuple[str, int], tuple[int, int]]
    ) -> dict[tuple[str, int], tuple[str, int]]:
        """Assign the partitions at the starts; return (full name, partition) -> (topic, end)."""
        names = {topic: self._runtime.topic(topic) for topic, _ in spans}
        starts = [TopicPartition(names[t], p, start) for (t, p), (start, _) in spans.items()]
        self._consumer.assign(starts)
        return {(names[t], p): (t, end) for (t, p), (_, end) in spans.items()}

    def _batch(
        self,
        topic: str,
        partition: int,
        position: int,
        end: int,
        convert: Callable[[str, Any], T],
    ) -> tuple[list[T], int]:
        messages: list[Any] = self._consumer.consume(READ_BATCH, POLL_S)
        batch: list[T] = []
        has_events = any(message.error() is not None for message in messages)
        if messages and not has_events and (last := messages[-1].offset()) < end:
            # the usual case, handled twice as fast
            return [convert(topic, message) for message in messages], last + 1
        for message in messages:
            error = message.error()
            if error is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    # markers and aborted records take offsets: nothing committed is left before it
                    position = max(position, message.offset())
                    if position >= end:
                        break
                else:
                    self._transient(f"{topic}-{partition}", error)
                continue
            if message.offset() >= end:
                return batch, end
            batch.append(convert(topic, message))
            position = message.offset() + 1
        return batch, position

    def _transient(self, place: str, error: KafkaError) -> None:
        """Return while the client retries this error; raise when it persists or is of another
        kind."""
        problem = reading_problem(self._servers, place, error)
        if problem is not None:
            raise problem
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        elif now - self._failing_since > TIMEOUT_S:
            raise Recoverable(f"reading {place}: {error.str()}, for {TIMEOUT_S:.0f} s")


def records_until(
    consumer: Any,
    servers: str,
    left: dict[tuple[str, int], int | None],
    timeout_s: float = TIMEOUT_S,
) -> Iterator[Any]:
    """Yield the records of several partitions up to their ends, as the client's messages.

    Records are ordered within a partition only.

    Parameters
    ----------
    consumer
        Assigned to the partitions, with ``enable.partition.eof``.
    servers
        The brokers' addresses, for messages.
    left
        (full topic name, partition) -> end; None for the current end. A partition is removed when
        its end is reached; the caller may remove one earlier.
    timeout_s
        Maximum time without a record, seconds.

    Raises
    ------
    Fatal
        The user has no right to read a partition.
    Recoverable
        No more records arrive before the ends are reached, or a partition cannot be read.
    """
    deadline = time.monotonic() + timeout_s
    while left:
        messages: list[Any] = consumer.consume(READ_BATCH, POLL_S)
        for message in messages:
            key = (message.topic(), message.partition())
            if key not in left:
                continue
            end, error = left[key], message.error()
            if error is None:
                at = message.offset()
                if end is None or at < end:
                    yield message
                if end is not None and at + 1 >= end:
                    left.pop(key, None)
                deadline = time.monotonic() + timeout_s
            elif error.code() == KafkaError._PARTITION_EOF:
                # markers and aborted records take offsets: nothing committed is left before it
                if end is None or message.offset() >= end:
                    del left[key]
            elif problem := reading_problem(servers, f"{key[0]}-{key[1]}", error):
                raise problem
        if left and time.monotonic() > deadline:
            names = ", ".join(f"{topic}-{partition}" for topic, partition in sorted(left))
            raise Recoverable(f"{names} cannot be read to the end within {timeout_s:.0f} s")


def _unchanged(topic: str, message: Any) -> Any:
    return message


def _source_record(topic: str, message: Any) -> SourceRecord:
    return SourceRecord(
        topic,
        message.partition(),
        message.offset(),
        message.timestamp()[1],
        message.key(),
        message.value(),
    )


def log_record(topic: str, message: Any) -> LogRecord:
    """Return a message of the client as a record; ``topic`` is the name without prefix."""
    headers = {k: (v or b"").decode("utf-8", "replace") for k, v in message.headers() or ()}
    return LogRecord(_source_record(topic, message), headers)
