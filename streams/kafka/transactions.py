"""Transactional producers: opening one, which fences its predecessor, and ending a transaction."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from streams.config.runtime import Runtime
from streams.kafka.client import SILENT, confluent_config, producer_config
from streams.kafka.errors import STAMP_REFUSED, explained
from streams.process.exit import leave

OPEN_SECONDS: Final = 30.0
FENCED: Final = (
    KafkaError._FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.PRODUCER_FENCED,
    KafkaError.INVALID_PRODUCER_ID_MAPPING,
)
"""What a producer is told whose transactional id another has taken."""


def transactional_producer(runtime: Runtime, transactional_id: str, **more: Any) -> Producer:
    """Return a producer that has fenced every former one of its transactional id.

    Its open transaction, if there was one, is aborted when this returns.

    Parameters
    ----------
    runtime, transactional_id
        The deployment, and the id in full.
    more
        Further settings of the client, with ``_`` for ``.``.

    Raises
    ------
    Fatal, Recoverable
        The broker refuses this client; no broker answers.
    """
    producer = Producer(
        producer_config(runtime)
        | {
            "transactional.id": transactional_id,
            "transaction.timeout.ms": int(runtime.transaction_timeout_sec * 1000),
            "linger.ms": 0,
            "retry.backoff.ms": 2,
            **SILENT,
        }
        | {name.replace("_", "."): value for name, value in more.items()}
    )
    try:
        producer.init_transactions(OPEN_SECONDS)
    except KafkaException as error:
        raise explained(runtime.kafka_bootstrap_servers, error) from error
    return producer


REFUSED_RECORD: Final = (STAMP_REFUSED, KafkaError.MSG_SIZE_TOO_LARGE)
"""What is said of a record that the broker takes from nobody."""


@contextmanager
def transaction(
    runtime: Runtime, producer: Producer, refused: Callable[[KafkaError], Exception]
) -> Iterator[None]:
    """Make one transaction of what is produced inside; it is there when this returns.

    Parameters
    ----------
    refused
        Returns what to raise where it was not committed. The process must end then: it neither
        aborts nor tries again.
    """
    try:
        producer.begin_transaction()
        yield
        settle(runtime, producer.commit_transaction, runtime.transaction_timeout_sec)
    except KafkaException as error:
        raise refused(error.args[0]) from error


INIT_SECONDS = 30.0


PAUSE_S = 0.05


def transactional_id(runtime: Runtime, stage: str, partition: int | str) -> str:
    """Return the id that fences: whoever takes the partition over uses the same."""
    return f"{runtime.application}-{stage}-{partition}"


def new_producer(runtime: Runtime, stage: str, partition: int | str) -> Producer:
    """Return a producer that has fenced every former owner of the partition.

    Its open transaction, if there was one, is aborted when this returns.
    """
    producer = Producer(
        confluent_config(runtime)
        | {
            "transactional.id": transactional_id(runtime, stage, partition),
            "transaction.timeout.ms": int(runtime.transaction_timeout_sec * 1000),
            "linger.ms": 0,
            "compression.type": "lz4",
            "retry.backoff.ms": 2,
            "queue.buffering.max.messages": 500_000,
            # what ends the worker is raised here; said by librdkafka too, it follows the last line
            "log_level": 0,
        }
    )
    try:
        producer.init_transactions(INIT_SECONDS)
    except KafkaException as error:
        leave(f"{stage}-{partition}: init_transactions: {error.args[0].str()}")
    return producer


def settle(runtime: Runtime, call: Callable[..., Any], *args: Any) -> None:
    """Make a call of a transaction, again while the broker says that it may go through later.

    Raises
    ------
    KafkaException
        The error is of another kind, or ``TRANSACTION_TIMEOUT_SEC`` has passed.
    """
    end = time.monotonic() + runtime.transaction_timeout_sec
    while True:
        try:
            call(*args)
            return
        except KafkaException as error:
            if not error.args[0].retriable() or time.monotonic() > end:
                raise
            time.sleep(PAUSE_S)
