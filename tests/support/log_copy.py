"""Writing a partition again with the same offsets, and the committed offsets of a group."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, Producer, TopicPartition

from streams.config.runtime import Runtime
from streams.kafka.client import producer_config
from streams.kafka.topics_admin import Cluster
from tests.support.waiting import until

TIMEOUT_S = 30.0
NO_COORDINATOR_YET = (
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
)

Header = tuple[str, bytes | None]


class CopiedRecord(NamedTuple):
    """A record to write, without its offset."""

    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    headers: tuple[Header, ...]


class _Segment(NamedTuple):
    """Records that follow each other, and the number of commit markers behind them."""

    records: list[CopiedRecord]
    markers: int


def write_partition(
    runtime: Runtime,
    topic: str,
    partition: int,
    records: Iterable[tuple[int, Sequence[CopiedRecord]]],
    end: int,
) -> None:
    """Write records to an empty partition so that each gets its original offset.

    An offset without a record is taken as that of a commit marker, and a transaction is committed
    there again. Several in a row are those of transactions that were open at the same time. Records
    behind the last marker are written without a transaction.

    Parameters
    ----------
    topic
        Full name.
    records
        Original offset, and what is written there: one record for a true copy. An empty sequence
        leaves a record out; the offsets behind a change differ.
    end
        The original high watermark.

    Raises
    ------
    AssertionError
        There are more offsets without a record than transactions could have left.
    """
    segments = _segments(records, end)
    # from the end: a transaction begins as late as the markers allow
    needed, to_begin = 0, []
    for segment in reversed(segments):
        needed += segment.markers
        to_begin.append(min(needed, len(segment.records)))
        needed -= to_begin[-1]
    assert needed == 0, f"{topic}-{partition}: {needed} offsets without a record or transaction"
    idle: list[Producer] = []
    open_transactions: list[Producer] = []
    for segment, begun in zip(segments, reversed(to_begin), strict=True):
        # one record opens each transaction; the last one takes the rest
        for number in range(begun):
            producer = idle.pop() if idle else _transactional_producer(runtime)
            producer.begin_transaction()
            open_transactions.append(producer)
            taken = slice(number, number + 1 if number + 1 < begun else None)
            _produce(producer, topic, partition, segment.records[taken])
        if not begun:
            _produce(Producer(producer_config(runtime)), topic, partition, segment.records)
        for _ in range(segment.markers):
            idle.append(open_transactions.pop(0))
            idle[-1].commit_transaction(TIMEOUT_S)


def _segments(records: Iterable[tuple[int, Sequence[CopiedRecord]]], end: int) -> list[_Segment]:
    found: list[_Segment] = []
    segment: list[CopiedRecord] = []
    position = 0
    for offset, copies in records:
        if offset > position:
            found.append(_Segment(segment, offset - position))
            segment = []
        segment += copies
        position = offset + 1
    return [*found, _Segment(segment, end - position)]


def _transactional_producer(runtime: Runtime) -> Producer:
    config = producer_config(runtime) | {"transactional.id": f"copy-{uuid.uuid4().hex}"}
    producer = Producer(config)
    producer.init_transactions(TIMEOUT_S)
    return producer


def _produce(
    producer: Producer, topic: str, partition: int, records: Iterable[CopiedRecord]
) -> None:
    """Write records, and wait until they are there: the next producer's come behind them."""
    for record in records:
        producer.produce(
            topic,
            record.value,
            record.key,
            partition=partition,
            timestamp=record.timestamp_ms,
            headers=list(record.headers),
        )
    assert producer.flush(TIMEOUT_S) == 0


def commit_offsets(runtime: Runtime, group: str, offsets: Mapping[tuple[str, int], int]) -> None:
    """Set the committed offsets of a consumer group without members.

    Parameters
    ----------
    offsets
        (full topic name, partition) -> offset.
    """
    asked = [TopicPartition(*place, offset) for place, offset in offsets.items()]
    request = [ConsumerGroupTopicPartitions(group, asked)]
    admin = Cluster(runtime).client
    errors: list[KafkaError] = []

    def written() -> bool:
        found = admin.alter_consumer_group_offsets(request)[group].result(TIMEOUT_S)
        errors[:] = [at.error for at in found.topic_partitions if at.error is not None]
        # a new broker has no coordinator yet
        assert all(error.code() in NO_COORDINATOR_YET for error in errors), errors
        return not errors

    until(written, lambda: f"{group}: {errors}")
