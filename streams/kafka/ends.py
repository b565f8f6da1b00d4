"""The two ends of a partition: of all that is written, and of what is settled."""

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
    """Where a partition ends.

    Attributes
    ----------
    stable
        Before it every transaction has ended; committed readers see up to here.
    written
        The end of everything, open transactions included.
    """

    stable: int
    written: int


def partition_ends(
    runtime: Runtime, partitions: Sequence[tuple[str, int]]
) -> dict[tuple[str, int], Ends]:
    """Return the ends of partitions, given by full topic names.

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
        # the stable end first: what ends in between only makes the other one larger
        stable, written = (
            {(at.topic, at.partition): told.result().offset for at, told in answer.items()}
            for answer in (
                ask(isolation_level=IsolationLevel.READ_COMMITTED),
                ask(isolation_level=IsolationLevel.READ_UNCOMMITTED),
            )
        )
    except KafkaException as error:
        raise Recoverable(f"ends of {partitions[0][0]}: {error}") from error
    return {at: Ends(stable[at], written[at]) for at in stable}
