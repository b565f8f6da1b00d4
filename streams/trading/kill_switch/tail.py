"""Follows ``ops.control`` for the kill switch: reads to its end at every query."""

from __future__ import annotations

import time
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streams.config.runtime import Runtime
from streams.errors import Fatal, Recoverable
from streams.kafka.client import SILENT, confluent_config
from streams.kafka.errors import translate_error
from streams.kafka.reader import EMBEDDED_CLUSTER
from streams.records.codec import Codec, DecodeError
from streams.records.events import Control
from streams.records.kill_switch import KillSwitch, Unreadable, after
from streams.records.topics import CONTROL

_NO_LEADER = (
    KafkaError._UNKNOWN_PARTITION,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError._DESTROY,
)


class ControlTail:
    """The kill switch according to the log alone.

    Two clients: one follows the topic (committed records only) with a long poll, the other queries
    the topic's end over its own connection, so that the query never waits behind the poll. The end
    includes open transactions: while one of another producer hides records, the end cannot be
    reached, which is an error.

    Parameters
    ----------
    runtime, codec
        The deployment. Connects at the first query. For one thread at a time.
    """

    def __init__(self, runtime: Runtime, codec: Codec) -> None:
        self._runtime, self._codec = runtime, codec
        self._topic = runtime.topic(CONTROL)
        self._complaints: list[KafkaError] = []
        self._follower: Any = None
        self._asker: Any = None
        self._cluster_id = ""
        self.switch = KillSwitch()
        self.position = 0

    @property
    def log_name(self) -> str:
        """Cluster and topic; empty before the first query."""
        return f"{self._cluster_id}/{self._topic}" if self._cluster_id else ""

    def refresh(self, within_s: float) -> KillSwitch:
        """Read to the end of the topic at the moment of the call; return the state.

        Parameters
        ----------
        within_s
            Seconds after which it gives up.

        Raises
        ------
        Recoverable
            The end cannot be queried or reached in time.
        Fatal
            The topic does not exist, or the broker refuses this client.
        """
        deadline = time.monotonic() + within_s
        del self._complaints[:-5]
        try:
            return self._refresh(deadline, within_s)
        except KafkaException as error:
            if self._asker is not None:
                self._asker.poll(0)
            if error.args[0].code() in _NO_LEADER:
                raise Recoverable(f"no broker leads {self._topic} right now") from error
            raise translate_error(
                self._runtime.kafka_bootstrap_servers, error, self._complaints
            ) from error

    def close(self) -> None:
        """Close the clients."""
        for client in (self._follower, self._asker):
            if client is not None:
                client.close()
        self._follower = self._asker = None

    def _refresh(self, deadline: float, within_s: float) -> KillSwitch:
        self._connect(deadline)
        low, end = self._bounds(deadline)
        if end < self.position and self._cluster_id != EMBEDDED_CLUSTER:
            reached = self.position
            self._start_over()
            raise Recoverable(
                f"{self._topic} ends at {end} and was read up to {reached}: it lost records or "
                "was recreated"
            )
        self.position = max(self.position, low)
        while self.position < end:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise Recoverable(
                    f"{self._topic} was read up to {self.position} only, its end is at {end}: not "
                    f"reached within {within_s:g} s (a transaction of another producer may be open)"
                )
            self._take(self._follower.poll(left_s))
        return self.switch

    def _connect(self, deadline: float) -> None:
        if self._asker is None:
            self._asker = self._client(**{"isolation.level": "read_uncommitted"})
        if not self._cluster_id:
            told = self._asker.list_topics(self._topic, _left(deadline))
            found = told.topics[self._topic]
            if found.error is not None or not found.partitions:
                raise Fatal(f"topic {self._topic} does not exist; run: manifold topics create")
            self._cluster_id = str(told.cluster_id)
        if self._follower is None:
            self._follower = self._client(
                **{"isolation.level": "read_committed", "enable.partition.eof": True}
            )
            self._follower.assign([TopicPartition(self._topic, 0, self.position)])

    def _client(self, **settings: Any) -> Any:
        return Consumer(
            confluent_config(self._runtime)
            | {
                "group.id": f"{self._runtime.application}-kill-switch",
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
        at = TopicPartition(self._topic, 0)
        low, end = self._asker.get_watermark_offsets(at, _left(deadline), cached=False)
        return int(low), int(end)

    def _start_over(self) -> None:
        self._follower.close()
        self._follower = None
        self._cluster_id, self.switch, self.position = "", KillSwitch(), 0

    def _take(self, message: Any) -> None:
        if message is None:
            return
        error = message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                # markers and aborted records take offsets: all before this one are read
                self.position = max(self.position, message.offset())
            return
        offset, at_ms = message.offset(), message.timestamp()[1]
        found: Any
        try:
            found = self._codec.decode(CONTROL, message.value())
        except DecodeError as problem:
            found = Unreadable(message.key(), str(problem), at_ms)
        if isinstance(found, Control | Unreadable):
            self.switch = after(self.switch, offset, found)
        self.position = offset + 1


def _left(deadline: float) -> float:
    # 0 means "forever" to the client
    return max(0.001, deadline - time.monotonic())
