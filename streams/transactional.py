"""Opening a transactional producer, which fences whoever used its transactional id before."""

from __future__ import annotations

from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from streams.broker_errors import explained
from streams.connection import SILENT, producer_config
from streams.settings import Runtime

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
