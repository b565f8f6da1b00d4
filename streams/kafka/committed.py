"""Committed offsets and members of consumer groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from confluent_kafka import (
    OFFSET_INVALID,
    ConsumerGroupState,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from streams.config.runtime import Runtime
from streams.kafka.client import SILENT, confluent_config
from streams.kafka.errors import call_broker

REQUEST_TIMEOUT_SEC: Final = 30.0


def committed_offsets(
    runtime: Runtime, topic: str, partitions: list[int], group: str | None = None
) -> dict[int, int]:
    """Return the committed offsets of a consumer group in ``topic``; the worker's by default.

    Partitions without a committed offset are left out.
    """
    name, group = runtime.topic(topic), group or runtime.application
    admin = AdminClient(confluent_config(runtime))
    found = group_offsets(runtime, admin, group, [(name, p) for p in partitions])
    return {partition: offset for (_, partition), offset in found.items()}


class StageCommits:
    """Reads the committed offsets of the stages repeatedly, through one connection.

    Parameters
    ----------
    runtime
        The deployment.
    partitions
        (topic as in ``streams.records.topics``, partition) pairs.
    """

    def __init__(self, runtime: Runtime, partitions: Sequence[tuple[str, int]]) -> None:
        self._runtime = runtime
        self._admin: Any = AdminClient(confluent_config(runtime) | {**SILENT})
        self._places = {(runtime.topic(topic), p): (topic, p) for topic, p in partitions}

    @property
    def group(self) -> str:
        """The consumer group of the stages."""
        return self._runtime.application

    def read(self, timeout_s: float) -> dict[tuple[str, int], int]:
        """Return the committed offsets; partitions without one are left out.

        Raises
        ------
        Fatal, Recoverable
            As ``group_offsets``.
        """
        found = group_offsets(self._runtime, self._admin, self.group, list(self._places), timeout_s)
        return {self._places[place]: offset for place, offset in found.items()}


def group_members(
    admin: Any, group: str, timeout_s: float = REQUEST_TIMEOUT_SEC
) -> list[str] | None:
    """Return the client ids of the members of a consumer group; None when there is no such group.

    Raises
    ------
    KafkaException
        The broker refuses, or does not answer.
    """
    future = admin.describe_consumer_groups([group], request_timeout=timeout_s)[group]
    try:
        found = future.result()
    except KafkaException as error:
        if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
            return None
        raise
    if found.state is ConsumerGroupState.DEAD:  # older brokers report a missing group as DEAD
        return None
    return [str(member.client_id) for member in found.members]


def group_offsets(
    runtime: Runtime,
    admin: Any,
    group: str,
    partitions: Sequence[tuple[str, int]],
    timeout_s: float = REQUEST_TIMEOUT_SEC,
) -> dict[tuple[str, int], int]:
    """Return the committed offsets of a consumer group; partitions without one are left out.

    While a transaction is open this is the offset committed before it. A request for stable offsets
    only would return none.

    Parameters
    ----------
    admin
        Admin client of the deployment.
    partitions
        (full topic name, partition) pairs.
    timeout_s
        Time limit, seconds.

    Raises
    ------
    Fatal, Recoverable
        The broker refuses, or does not answer.
    """
    request = [
        ConsumerGroupTopicPartitions(group, [TopicPartition(*place) for place in partitions])
    ]
    servers = runtime.kafka_bootstrap_servers

    def ask() -> list[Any]:
        response = admin.list_consumer_group_offsets(
            request, require_stable=False, request_timeout=timeout_s
        )
        try:
            answered: list[Any] = response[group].result().topic_partitions
        except KafkaException as error:
            if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
                return []  # nothing is committed yet
            raise
        for at in answered:
            if at.error is not None:
                raise KafkaException(at.error)
        return answered

    return {
        (at.topic, at.partition): at.offset
        for at in call_broker(servers, ask, timeout_s)
        if at.offset >= 0 and at.offset != OFFSET_INVALID
    }
