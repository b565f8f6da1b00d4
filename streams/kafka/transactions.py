"""Transactional producers: creation, which fences the previous one, and retries of calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NoReturn

from confluent_kafka import KafkaError, KafkaException, Producer

from streams.config.runtime import Runtime
from streams.errors import Fatal
from streams.kafka.client import SILENT, confluent_config, producer_config
from streams.kafka.error_kinds import ErrorKind, error_kind, is_transient, missing_right
from streams.kafka.errors import TIMESTAMP_REFUSED, translate_error
from streams.process.exit import exit_now

INIT_SECONDS: Final = 30.0
RETRY_PAUSE_S: Final = 0.05


def transactional_producer(runtime: Runtime, transactional_id: str, **more: Any) -> Producer:
    """Return a producer that has fenced every earlier producer of its transactional id.

    Its open transaction, if there was one, is aborted when this returns.

    Parameters
    ----------
    runtime, transactional_id
        The deployment, and the complete id.
    more
        Further client settings, with ``_`` for ``.``.

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
        retry_transactional(runtime, producer.init_transactions, INIT_SECONDS)
    except KafkaException as error:
        raise translate_error(runtime.kafka_bootstrap_servers, error) from error
    return producer


REFUSED_RECORD: Final = (TIMESTAMP_REFUSED, KafkaError.MSG_SIZE_TOO_LARGE)
"""Errors of a record that the broker refuses from every client."""


@contextmanager
def transaction(
    runtime: Runtime, producer: Producer, refused: Callable[[KafkaError], Exception]
) -> Iterator[None]:
    """Produce the records of the body in one transaction; it is committed on return.

    Parameters
    ----------
    refused
        Returns the exception to raise when the commit failed. The process must then exit without an
        abort or a retry.
    """
    try:
        producer.begin_transaction()
        yield
        retry_transactional(runtime, producer.commit_transaction, runtime.transaction_timeout_sec)
    except KafkaException as error:
        raise refused(error.args[0]) from error


def transactional_id(runtime: Runtime, stage: str, partition: int | str) -> str:
    """Return the transactional id of a partition; the next owner uses the same id and fences."""
    return f"{runtime.application}-{stage}-{partition}"


def new_producer(runtime: Runtime, stage: str, partition: int | str) -> Producer:
    """Return a producer that has fenced every earlier owner of the partition.

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
            # a fatal error is raised here; librdkafka would log it again
            "log_level": 0,
        }
    )
    try:
        retry_transactional(runtime, producer.init_transactions, INIT_SECONDS)
    except KafkaException as error:
        exit_for(f"{stage}-{partition}: init_transactions", error.args[0])
    return producer


def exit_for(what: str, error: KafkaError) -> NoReturn:
    """Exit because of an error of a transaction, with ``Fatal.exit_code`` for a missing right."""
    if error_kind(error) is ErrorKind.AUTHORIZATION:
        exit_now(f"{what}: {error.str()}; {missing_right(error)}", Fatal.exit_code)
    exit_now(f"{what}: {error.str()} ({error.name()})")


def retry_transactional(runtime: Runtime, call: Callable[..., Any], *args: Any) -> None:
    """Make a transactional call; repeat it while the error is transient.

    Raises
    ------
    KafkaException
        The error is not transient, the transaction is lost with it, or
        ``TRANSACTION_TIMEOUT_SEC`` has passed.
    """
    end = time.monotonic() + runtime.transaction_timeout_sec
    while True:
        try:
            call(*args)
            return
        except KafkaException as error:
            if not _repeatable(error.args[0]) or time.monotonic() > end:
                raise
            time.sleep(RETRY_PAUSE_S)


def _repeatable(error: KafkaError) -> bool:
    if error.fatal() or error.txn_requires_abort():
        return False
    return error.retriable() or is_transient(error)
