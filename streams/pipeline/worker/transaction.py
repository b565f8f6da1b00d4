"""The transaction of a batch, and the committed offsets of the consumer group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from streams.config.runtime import Runtime
from streams.kafka.client import confluent_config
from streams.kafka.errors import call_broker
from streams.kafka.transactions import INIT_SECONDS, retry_transactional
from streams.pipeline.worker.changelog import POSITION_ROW, position_row
from streams.records.log_record import Output, RowChanges


class GroupState:
    """The consumer group's committed offsets and metadata, read without joining it."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._consumer = Consumer(
            confluent_config(runtime)
            | {
                "group.id": runtime.application,
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
            }
        )

    @cached_property
    def metadata(self) -> Any:
        """The group metadata that a transaction needs to commit offsets."""
        return self._consumer.consumer_group_metadata()

    def committed(self, partitions: Sequence[tuple[str, int]]) -> dict[tuple[str, int], int | None]:
        """Return the committed offset of each (topic, partition), None without one.

        Only stable offsets are returned: the call waits for a transaction that is committing one.

        Raises
        ------
        Fatal, Recoverable
            The broker refuses this client; the group's coordinator does not answer.
        """
        asked = [TopicPartition(topic, partition) for topic, partition in partitions]

        def ask() -> list[Any]:
            answered: list[Any] = self._consumer.committed(asked, INIT_SECONDS)
            for at in answered:
                if at.error is not None:
                    raise KafkaException(at.error)
            return answered

        return {
            (at.topic, at.partition): at.offset if at.offset >= 0 else None
            for at in call_broker(self._runtime.kafka_bootstrap_servers, ask)
        }

    def unstable_offsets(self, partitions: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
        """Return the partitions with an unstable offset: written by a transaction that has not
        ended.

        Raises
        ------
        Fatal, Recoverable
            The broker refuses this client; the group's coordinator does not answer.
        """
        name = self._runtime.application
        asked = [TopicPartition(topic, partition) for topic, partition in partitions]
        admin = AdminClient(confluent_config(self._runtime))
        group = [ConsumerGroupTopicPartitions(name, asked)]

        def ask() -> list[Any]:
            answer = admin.list_consumer_group_offsets(
                group, require_stable=True, request_timeout=INIT_SECONDS
            )
            answered: list[Any] = answer[name].result(INIT_SECONDS).topic_partitions
            return answered

        found = call_broker(self._runtime.kafka_bootstrap_servers, ask)
        unstable = KafkaError.UNSTABLE_OFFSET_COMMIT
        return [
            (at.topic, at.partition)
            for at in found
            if at.error is not None and at.error.code() == unstable
        ]

    def first_offset(self, topic: str, partition: int) -> int:
        """Return the first offset of a partition.

        Raises
        ------
        Fatal, Recoverable
            The broker refuses this client; the partition's leader does not answer.
        """
        ask = partial(
            self._consumer.get_watermark_offsets, TopicPartition(topic, partition), INIT_SECONDS
        )
        return call_broker(self._runtime.kafka_bootstrap_servers, ask)[0]


class BatchTransaction:
    """One batch of one partition, as one Kafka transaction. Runs in a thread.

    Parameters
    ----------
    runtime, group
        The deployment, and the group whose offsets are committed.
    producer
        The partition's own.
    hook
        Called with ``produced``, ``offsets`` and ``committed`` at these points of the transaction;
        for tests that kill the process there.
    """

    def __init__(
        self,
        runtime: Runtime,
        group: GroupState,
        producer: Producer,
        hook: Callable[[str, Producer], None] | None = None,
    ) -> None:
        self._runtime, self._group, self._producer, self._hook = runtime, group, producer, hook

    def write(
        self,
        outputs: Sequence[Output],
        changelog: str,
        changes: RowChanges,
        source: TopicPartition,
        stamp_ms: int,
    ) -> None:
        """Write outputs, changed rows and the source offset; return after the commit.

        The offset is written twice, to the group and to the changelog: if a broker loses a part of
        the transaction, the two differ.

        Parameters
        ----------
        outputs
            Records to write, each with its own time stamp.
        changelog
            Full name of the topic of the rows.
        changes
            Row -> new content, None to delete it.
        source
            The offset after the last record of the batch.
        stamp_ms
            Timestamp of that record, epoch ms. The rows get it too: with a timestamp from this
            machine's clock a broker would refuse them (INVALID_TIMESTAMP) when that clock is an
            hour ahead.

        Raises
        ------
        KafkaException
            An error that retrying the call does not resolve. The process must then exit without an
            abort or a retry of the batch.
        """
        runtime, producer = self._runtime, self._producer
        producer.begin_transaction()
        for output in outputs:
            producer.produce(
                runtime.topic(output.topic),
                output.value,
                output.key,
                partition=output.partition,
                timestamp=output.timestamp_ms,
                headers=list(output.headers),
            )
        for key, row in changes.items():
            producer.produce(changelog, row, key, partition=source.partition, timestamp=stamp_ms)
        producer.produce(
            changelog,
            position_row(source.offset),
            POSITION_ROW,
            partition=source.partition,
            timestamp=stamp_ms,
        )
        self._at("produced")
        timeout_s = runtime.transaction_timeout_sec
        metadata = self._group.metadata
        retry_transactional(
            runtime, producer.send_offsets_to_transaction, [source], metadata, timeout_s
        )
        self._at("offsets")
        retry_transactional(runtime, producer.commit_transaction, timeout_s)
        self._at("committed")

    def _at(self, place: str) -> None:
        if self._hook is not None:
            self._hook(place, self._producer)
