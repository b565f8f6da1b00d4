"""Translate errors of the Kafka clients to ``Fatal`` or ``Recoverable``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import ClusterMetadata  # type: ignore[attr-defined]

from streams.errors import Fatal, Recoverable
from streams.kafka.error_kinds import ErrorKind, error_kind, is_transient, missing_right

CONNECT_SEC: Final = 5.0
LEADER_CHANGE_SEC: Final = 30.0
LEADER_CHANGE_PAUSE_SEC: Final = 0.2

TIMESTAMP_REFUSED: Final = KafkaError.INVALID_TIMESTAMP
"""Error of a record whose timestamp is more than an hour ahead of the brokers' clock."""

_DENIALS: Final = (ErrorKind.LOGIN, ErrorKind.AUTHORIZATION)

T = TypeVar("T")


class Denied(Fatal):
    """The login is refused, or the user has no right to do this."""


def first_answer(client: Any, servers: str, client_errors: list[KafkaError]) -> ClusterMetadata:
    """Return the cluster's first answer to a new client; gives up after ``CONNECT_SEC``.

    Polls with short timeouts, because the reason of a failure is reported through ``poll``.

    Parameters
    ----------
    client
        A confluent-kafka client whose ``error_cb`` fills ``client_errors``.
    servers
        The brokers' addresses, for the message.

    Raises
    ------
    Fatal
        The login or the certificate is refused.
    Recoverable
        No broker answers.
    """
    deadline = time.monotonic() + CONNECT_SEC
    while True:
        try:
            answer: ClusterMetadata = client.list_topics(timeout=1.0)
        except KafkaException as error:
            client.poll(0)
            problem = translate_error(servers, error, client_errors)
            if isinstance(problem, Fatal) or time.monotonic() > deadline:
                raise problem from error
        else:
            return answer


@contextmanager
def recoverable(action: str) -> Iterator[None]:
    """Raise Kafka errors of the body as Recoverable; the message begins with ``action``."""
    try:
        yield
    except KafkaException as error:
        raise Recoverable(f"{action}: {error.args[0].str()}") from error


def translate_error(
    servers: str, error: KafkaException, client_errors: Iterable[KafkaError] = ()
) -> Fatal | Recoverable:
    """Translate a Kafka error to ``Fatal`` or ``Recoverable``; names the brokers and what to do.

    Parameters
    ----------
    servers
        The brokers' addresses, for the message.
    error
        What the client raised.
    client_errors
        Errors received by the client's ``error_cb``; only there a refused login is reported.
    """
    cause: Any = error.args[0]
    if not isinstance(cause, KafkaError):
        return Fatal(f"the Kafka client cannot use its settings: {cause}; check KAFKA_*")
    if cause.code() == KafkaError._INVALID_ARG:
        return Fatal(f"the Kafka client cannot use its settings: {cause.str()}; check KAFKA_*")
    earlier = list(client_errors)
    denials = [c for c in (*earlier, cause) if error_kind(c) in _DENIALS]
    if denials:
        return _denied(servers, denials[-1])
    if error_kind(cause) is ErrorKind.CHANGING:
        return Recoverable(
            f"the brokers {servers} are changing leaders ({cause.str()}); retry in a few seconds"
        )
    if error_kind(cause) is ErrorKind.UNREACHABLE:
        reasons = [c for c in earlier if c.code() != KafkaError._ALL_BROKERS_DOWN] or [cause]
        return Recoverable(
            f"no broker answers at KAFKA_BOOTSTRAP_SERVERS={servers} ({reasons[-1].str()}); "
            "start it (manifold up) or set the address"
        )
    return Fatal(f"the broker {servers} refuses: {cause.str()}")


def _denied(servers: str, error: KafkaError) -> Denied:
    if error_kind(error) is ErrorKind.LOGIN:
        advice = "check KAFKA_SECURITY_*, KAFKA_SASL_* and KAFKA_TLS_*"
    else:
        advice = missing_right(error)
    return Denied(f"the broker {servers} refuses this client: {error.str()}; {advice}")


def reading_problem(servers: str, place: str, error: KafkaError) -> Fatal | Recoverable | None:
    """Return the exception for an error that a consumer reports; None for a transient one.

    The client itself retries a transient error.

    Parameters
    ----------
    servers
        The brokers' addresses, for the message.
    place
        Topic and partition that are read, for the message.
    """
    if is_transient(error):
        return None
    if error_kind(error) in _DENIALS:
        return _denied(servers, error)
    return Recoverable(f"reading {place}: {error.str()}")


def call_broker(
    servers: str, call: Callable[[], T], leader_change_s: float = LEADER_CHANGE_SEC
) -> T:
    """Call a client and translate its Kafka errors to ``Fatal`` or ``Recoverable``.

    While the cluster changes leaders the call is retried, for up to ``leader_change_s`` seconds.
    """
    deadline = time.monotonic() + leader_change_s
    while True:
        try:
            return call()
        except KafkaException as error:
            cause = error.args[0]
            changing = isinstance(cause, KafkaError) and error_kind(cause) is ErrorKind.CHANGING
            if not changing or time.monotonic() > deadline:
                raise translate_error(servers, error) from error
        time.sleep(LEADER_CHANGE_PAUSE_SEC)
