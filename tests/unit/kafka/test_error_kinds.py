"""The table of broker errors, and what the callers make of it."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from streams.errors import Fatal, Recoverable
from streams.kafka.error_kinds import ErrorKind, error_kind, is_transient, missing_right
from streams.kafka.errors import call_broker, reading_problem, translate_error
from streams.kafka.transactions import _repeatable

CHANGING = (
    "NOT_LEADER_FOR_PARTITION",
    "NOT_COORDINATOR",
    "COORDINATOR_LOAD_IN_PROGRESS",
    "UNKNOWN_TOPIC_OR_PART",
    "NOT_ENOUGH_REPLICAS",
    "_UNKNOWN_PARTITION",
    "_DESTROY_BROKER",
)
RIGHTS = {
    "TOPIC": "on the topic",
    "GROUP": "READ on the consumer group",
    "TRANSACTIONAL_ID": "on the transactional id",
    "CLUSTER": "on the cluster",
}


def error(name: str, **flags: bool) -> KafkaError:
    return KafkaError(getattr(KafkaError, name), **flags)


def test_every_code_of_the_client_has_exactly_one_kind() -> None:
    codes = {
        getattr(KafkaError, name): name
        for name in dir(KafkaError)
        if name.strip("_").isupper() and isinstance(getattr(KafkaError, name), int)
    }
    assert len(codes) > 150
    kinds = {name: error_kind(KafkaError(code)) for code, name in codes.items()}
    for kind in ErrorKind:
        assert kind in kinds.values()
    denied = {n for n in kinds.items() if n[1] is ErrorKind.AUTHORIZATION}
    assert all(name.endswith("AUTHORIZATION_FAILED") for name, _ in denied)
    assert {n for n in kinds if n.endswith("AUTHORIZATION_FAILED")} == {n for n, _ in denied}


@pytest.mark.parametrize("name", CHANGING)
def test_a_changing_cluster_is_asked_again_by_every_caller(name: str) -> None:
    assert error_kind(error(name)) is ErrorKind.CHANGING
    assert is_transient(error(name)) and _repeatable(error(name))
    assert reading_problem("b:9092", "eu1.md.candles-0", error(name)) is None
    answers: list[Any] = [KafkaException(error(name)), "the answer"]

    def ask() -> str:
        found = answers.pop(0)
        if isinstance(found, KafkaException):
            raise found
        return str(found)

    assert call_broker("b:9092", ask) == "the answer"
    assert isinstance(translate_error("b:9092", KafkaException(error(name))), Recoverable)


def test_a_lost_transaction_is_never_repeated() -> None:
    assert not _repeatable(error("NOT_COORDINATOR", txn_requires_abort=True))
    assert not _repeatable(error("NOT_COORDINATOR", fatal=True))
    assert not _repeatable(error("PRODUCER_FENCED"))
    assert _repeatable(error("UNKNOWN", retriable=True))


@pytest.mark.parametrize(("what", "right"), list(RIGHTS.items()))
def test_a_missing_right_is_fatal_and_named(what: str, right: str) -> None:
    denied = error(f"{what}_AUTHORIZATION_FAILED")
    assert right in missing_right(denied)
    for problem in (
        translate_error("b:9092", KafkaException(denied)),
        translate_error("b:9092", KafkaException(error("_TIMED_OUT")), [denied]),
        reading_problem("b:9092", "eu1.md.candles-0", denied),
    ):
        assert isinstance(problem, Fatal)
        assert right in str(problem)
    with pytest.raises(Fatal):
        call_broker("b:9092", _raising(denied))


def _raising(problem: KafkaError) -> Any:
    def ask() -> None:
        raise KafkaException(problem)

    return ask
