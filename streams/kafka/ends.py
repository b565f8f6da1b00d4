"""The two end offsets of a partition: high watermark and last stable offset."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    OffsetSpec,
)

from streams.config.runtime import Runtime
from streams.errors import Recoverable
from streams.kafka.client import confluent_config

TIMEOUT_S = 30.0


class Ends(NamedTuple):
    """End offsets of a partition.

    Attributes
    ----------
    stable
        Last stable offset: all transactions before it have ended; read_committed readers see up to
        here.
    written
        High watermark: the end including open transactions.
    """

    stable: int
    written: int


def partition_ends(
    runtime: Runtime, partitions: Sequence[tuple[str, int]]
) -> dict[tuple[str, int], Ends]:
    """Return the end offsets of partitions, given by full topic names.

    Raises
    ------
    Recoverable
        A leader does not answer.
    """
    admin = AdminClient(confluent_config(runtime))
    asked = [TopicPartition(topic, partition) for topic, partition in partitions]
    latest: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    ask = partial(
        admin.list_offsets,
        dict.fromkeys(asked, latest),
        request_timeout=TIMEOUT_S,
    )
    try:
        # the stable offset first: a transaction that ends in between only raises the other one
        stable, written = (
            {(at.topic, at.partition): future.result().offset for at, future in answer.items()}
            for answer in (
                ask(isolation_level=IsolationLevel.READ_COMMITTED),
                ask(isolation_level=IsolationLevel.READ_UNCOMMITTED),
            )
        )
    except KafkaException as error:
        raise Recoverable(f"ends of {partitions[0][0]}: {error}") from error
    return {at: Ends(stable[at], written[at]) for at in stable}
