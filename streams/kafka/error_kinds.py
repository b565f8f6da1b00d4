"""One table of broker errors: which are retried, and what the others mean."""

from __future__ import annotations

from enum import Enum
from typing import Final

from confluent_kafka import KafkaError


class ErrorKind(Enum):
    """What a client does about an error of the Kafka client or of a broker."""

    CHANGING = "changing"
    """A leader or coordinator is changing, or a broker has just started: retry the same call."""
    UNREACHABLE = "unreachable"
    """No broker answers: retry the same call; start the broker or set its address."""
    FENCED = "fenced"
    """Another process has taken over: this one must stop writing."""
    LOGIN = "login"
    """The login or the certificate is refused."""
    AUTHORIZATION = "authorization"
    """The user has no right to do this."""
    REFUSED = "refused"
    """Anything else: retrying does not help."""


_RIGHTS: Final = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "READ, WRITE or DESCRIBE on the topic",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "READ on the consumer group",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "WRITE and DESCRIBE on the transactional id",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "CREATE, DESCRIBE or IDEMPOTENT_WRITE on the cluster",
    KafkaError.DELEGATION_TOKEN_AUTHORIZATION_FAILED: "DESCRIBE on the delegation token",
}
"""Error code -> the right that is missing."""

_KINDS: Final[dict[ErrorKind, tuple[int, ...]]] = {
    ErrorKind.CHANGING: (
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.CONCURRENT_TRANSACTIONS,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.ELIGIBLE_LEADERS_NOT_AVAILABLE,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.KAFKA_STORAGE_ERROR,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.LISTENER_NOT_FOUND,
        KafkaError.NOT_CONTROLLER,
        KafkaError.NOT_COORDINATOR,
        KafkaError.NOT_ENOUGH_REPLICAS,
        KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.PREFERRED_LEADER_NOT_AVAILABLE,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.STALE_BROKER_EPOCH,
        KafkaError.STALE_CTRL_EPOCH,
        KafkaError.THROTTLING_QUOTA_EXCEEDED,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        # a topic that was created a moment ago
        KafkaError.UNKNOWN_TOPIC_ID,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.UNSTABLE_OFFSET_COMMIT,
        # errors of a client whose metadata is out of date
        KafkaError._DESTROY,
        KafkaError._DESTROY_BROKER,
        KafkaError._UNKNOWN_BROKER,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._WAIT_CACHE,
        KafkaError._WAIT_COORD,
    ),
    ErrorKind.UNREACHABLE: (
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._MSG_TIMED_OUT,
        KafkaError._RESOLVE,
        KafkaError._TIMED_OUT,
        KafkaError._TIMED_OUT_QUEUE,
        KafkaError._TRANSPORT,
    ),
    ErrorKind.FENCED: (
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.INVALID_PRODUCER_ID_MAPPING,
        KafkaError.PRODUCER_FENCED,
        KafkaError._FENCED,
    ),
    ErrorKind.LOGIN: (
        KafkaError.ILLEGAL_SASL_STATE,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.SECURITY_DISABLED,
        KafkaError.UNSUPPORTED_SASL_MECHANISM,
        KafkaError._AUTHENTICATION,
        KafkaError._SSL,
    ),
    ErrorKind.AUTHORIZATION: tuple(_RIGHTS),
}
_KIND_OF: Final = {code: kind for kind, codes in _KINDS.items() for code in codes}


def error_kind(error: KafkaError) -> ErrorKind:
    """Return the kind of an error; ``REFUSED`` for a code that the table does not contain.

    An error of a newer broker that the client calls retriable is ``CHANGING``.
    """
    code = error.code()
    found = _KIND_OF.get(code)
    if found is None:
        return ErrorKind.CHANGING if error.retriable() else ErrorKind.REFUSED
    return found


def missing_right(error: KafkaError) -> str:
    """Return what to do about an ``AUTHORIZATION`` error: the right to grant."""
    return f"grant its user {_RIGHTS[error.code()]} (ACLs of the brokers)"


def is_transient(error: KafkaError) -> bool:
    """Return whether the same call may succeed later, without a change of settings or rights."""
    return error_kind(error) in (ErrorKind.CHANGING, ErrorKind.UNREACHABLE)
