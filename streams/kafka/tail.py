"""Reads a partition to its current end on request, within a deadline."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streams.config.runtime import Runtime
from streams.errors import Fatal, Recoverable
from streams.kafka.client import SILENT, confluent_config
from streams.kafka.errors import translate_error
from streams.kafka.reader import EMBEDDED_CLUSTER
from streams.records.log_record import SourceRecord


class LogReplaced(Recoverable):
    """The partition ends before the position: it lost records or the topic was recreated."""


class PartitionTail:
    """The first partition of a topic, read to its current end at every query.

    Two clients: one follows the partition (committed records only) with a long poll, the other
    queries its end over its own connection, so that the query never waits behind the poll. The end
    includes open transactions: while one of another producer hides records, the end cannot be
    reached, which is an error.

    Parameters
    ----------
    runtime
        The deployment. Connects at the first query. For one thread at a time.
    topic
        As named in ``streams.records.topics``.
    group
        Suffix of the clients' consumer group id.

    Attributes
    ----------
    cluster_id
        Id of the cluster; empty before the first query.
    position
        The offset after the last record that was read.
    """

    def __init__(self, runtime: Runtime, topic: str, group: str) -> None:
        self._runtime, self._topic, self._group = runtime, topic, group
        self.topic = runtime.topic(topic)
        self._complaints: list[KafkaError] = []
        self._follower: Any = None
        self._asker: Any = None
        self.cluster_id = ""
        self.position = 0

    def read_new(self, within_s: float) -> Iterator[SourceRecord]:
        """Yield the records up to the end of the partition at the moment of the call.

        Parameters
        ----------
        within_s
            Seconds after which it gives up.

        Raises
        ------
        Recoverable
            The end cannot be queried or reached in time.
        LogReplaced
            The end lies before the position; the next query reads from the first offset.
        Fatal
            The topic does not exist, or the broker refuses this client.
        """
        deadline = time.monotonic() + within_s
        del self._complaints[:-5]
        try:
            yield from self._read_new(deadline, within_s)
        except KafkaException as error:
            if self._asker is not None:
                self._asker.poll(0)
            raise translate_error(
                self._runtime.kafka_bootstrap_servers, error, self._complaints
            ) from error

    def close(self) -> None:
        """Close the clients."""
        for client in (self._follower, self._asker):
            if client is not None:
                client.close()
        self._follower = self._asker = None

    def _read_new(self, deadline: float, within_s: float) -> Iterator[SourceRecord]:
        self._connect(deadline)
        low, end = self._bounds(deadline)
        if end < self.position and self.cluster_id != EMBEDDED_CLUSTER:
            reached = self.position
            self._follower.close()
            self._follower = None
            self.cluster_id, self.position = "", 0
            raise LogReplaced(
                f"{self.topic} ends at {end} and was read up to {reached}: it lost records or "
                f"was recreated"
            )
        self.position = max(self.position, low)
        while self.position < end:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise Recoverable(
                    f"{self.topic} was read up to {self.position} only, its end is at {end}: not "
                    f"reached within {within_s:g} s (a transaction of another producer may be open)"
                )
            message = self._follower.poll(left_s)
            if message is None:
                continue
            if message.error() is None:
                yield self._record(message)
                self.position = message.offset() + 1
            elif message.error().code() == KafkaError._PARTITION_EOF:
                # markers and aborted records take offsets: all before this one are read
                self.position = max(self.position, message.offset())

    def _record(self, message: Any) -> SourceRecord:
        at_ms = message.timestamp()[1]
        return SourceRecord(self._topic, 0, message.offset(), at_ms, message.key(), message.value())

    def _connect(self, deadline: float) -> None:
        if self._asker is None:
            self._asker = self._client(**{"isolation.level": "read_uncommitted"})
        if not self.cluster_id:
            told = self._asker.list_topics(self.topic, _left(deadline))
            found = told.topics[self.topic]
            if found.error is not None or not found.partitions:
                raise Fatal(f"topic {self.topic} does not exist; run: manifold topics create")
            self.cluster_id = str(told.cluster_id)
        if self._follower is None:
            self._follower = self._client(
                **{"isolation.level": "read_committed", "enable.partition.eof": True}
            )
            self._follower.assign([TopicPartition(self.topic, 0, self.position)])

    def _client(self, **settings: Any) -> Any:
        return Consumer(
            confluent_config(self._runtime)
            | {
                "group.id": f"{self._runtime.application}-{self._group}",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                # the end of a transaction does not end a long poll at the broker
                "fetch.wait.max.ms": 100,
                "fetch.error.backoff.ms": 100,
                "reconnect.backoff.max.ms": 1_000,
                "error_cb": self._complaints.append,
                **SILENT,
            }
            | settings
        )

    def _bounds(self, deadline: float) -> tuple[int, int]:
        at = TopicPartition(self.topic, 0)
        low, end = self._asker.get_watermark_offsets(at, _left(deadline), cached=False)
        return int(low), int(end)


def _left(deadline: float) -> float:
    # 0 means "forever" to the client
    return max(0.001, deadline - time.monotonic())
