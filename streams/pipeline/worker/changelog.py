"""Restoring rows from a changelog: the committed state, up to the last stable offset.

Faust's own restore waits for the record before the high watermark, which after a transaction is a
marker that readers never receive.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from streams.config.runtime import Runtime
from streams.kafka.client import READING_ON, confluent_config
from streams.kafka.reader import records_until

SILENCE_S = 60.0
POSITION_ROW = b"~position"
"""The row with the source offset that the state corresponds to. Every transaction writes it; stages
do not see it."""


class Restored(NamedTuple):
    """The committed state of a partition.

    Attributes
    ----------
    rows
        The stage's rows.
    position
        The source offset that the rows correspond to; None when no transaction has written it.
    """

    rows: dict[bytes, bytes]
    position: int | None


def position_row(position: int) -> bytes:
    """Return the content of the row with the source offset that the state corresponds to."""
    return b"%d" % position


def restore_rows(
    runtime: Runtime, changelog: str, partitions: Iterable[int]
) -> dict[int, Restored]:
    """Return the committed state of each partition of a changelog.

    Parameters
    ----------
    changelog
        Full name of the topic.

    Raises
    ------
    Fatal, Recoverable
        The user has no right to read the changelog; it cannot be read to its end.
    """
    rows: dict[int, dict[bytes, bytes]] = {partition: {} for partition in partitions}
    consumer = Consumer(
        confluent_config(runtime)
        | {
            "group.id": f"{runtime.application}-restore",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            **READING_ON,
        }
    )
    try:
        consumer.assign([TopicPartition(changelog, p, OFFSET_BEGINNING) for p in sorted(rows)])
        ends: dict[tuple[str, int], int | None] = {(changelog, p): None for p in rows}
        servers = runtime.kafka_bootstrap_servers
        for message in records_until(consumer, servers, ends, SILENCE_S):
            _apply(rows[message.partition()], message.key() or b"", message.value())
    finally:
        consumer.close()
    return {partition: _restored(found) for partition, found in rows.items()}


def _restored(rows: dict[bytes, bytes]) -> Restored:
    position = rows.pop(POSITION_ROW, None)
    return Restored(rows, None if position is None else int(position))


def _apply(rows: dict[bytes, bytes], key: bytes | str, value: bytes | str | None) -> None:
    name = key if isinstance(key, bytes) else key.encode()
    if value is None:
        rows.pop(name, None)
    else:
        rows[name] = value if isinstance(value, bytes) else value.encode()
