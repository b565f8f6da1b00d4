"""What the fast fold of weights wants is what the stage writes, byte by byte."""

from __future__ import annotations

from typing import Any

import pytest

from streams.records.events import GateDecision
from streams.records.topics import GATES, WEIGHTS
from streams.replay.verify.report import LaterRecords
from streams.replay.verify.rows import FastPathDeclined
from streams.replay.verify.weights import compare_weights
from tests.property.replay.test_verify_columns import (
    END,
    Log,
    Message,
    batches,
    changed,
    derived_log,
    forged,
)
from tests.support.changing_log import changing_control
from tests.support.stage_bench import CODEC


@pytest.fixture(scope="module", params=[1, 2])
def log(request: pytest.FixtureRequest) -> Log:
    return derived_log(request.param)


def compare(
    decisions: list[Message], weights: list[Message], size: int = 200, done: int = END
) -> tuple[int, int]:
    return compare_weights(
        *(CODEC, changing_control()),
        *(batches([one for one in decisions if one.offset() < done], size), batches(weights, size)),
        *(done, lambda topic, count: None, LaterRecords()),
    )


def topics(log: Log) -> tuple[list[Message], list[Message]]:
    return log.derived[GATES, 0], log.derived[WEIGHTS, 0]


@pytest.mark.parametrize("size", [1, 7, 200, 100_000])
def test_all_that_the_stage_derives_is_wanted_whatever_the_batches(log: Log, size: int) -> None:
    decisions, weights = topics(log)
    assert len(weights) > 300
    assert compare(decisions, weights, size) == (len(weights), len(decisions))


def test_what_the_stage_has_not_committed_is_left_out(log: Log) -> None:
    decisions, weights = topics(log)
    half = len(decisions) // 2
    compared, read = compare(decisions, weights, done=half)
    assert 0 < compared < len(weights)
    assert read == half


@pytest.mark.parametrize("what", ["value", "key", "time", "header", "missing", "twice", "strange"])
@pytest.mark.parametrize("at", ["middle", "end"])
def test_a_record_that_is_not_what_it_should_be_is_found(log: Log, what: str, at: str) -> None:
    decisions, weights = topics(log)
    number = len(weights) // 2 if at == "middle" else len(weights) - 1
    message = weights[number]
    value = message.value()
    assert value is not None
    tampered = {
        "value": [changed(message, value=value[:-1] + bytes([value[-1] ^ 1]))],
        "key": [changed(message, key=b"XXX_YYY")],
        "time": [changed(message, timestamp_ms=message.record.timestamp_ms + 1)],
        "header": [forged(message)],
        "missing": [],
        "twice": [message, message],
        "strange": [message, message._replace(sent_headers=(("source", b"elsewhere-1-0"),))],
    }[what]
    with pytest.raises(FastPathDeclined):
        compare(decisions, [*weights[:number], *tampered, *weights[number + 1 :]])


@pytest.mark.parametrize("value", [None, b"", b"\1", b"\0\0\0\0\1"])
def test_what_is_no_decision_is_left_to_the_stage(log: Log, value: Any) -> None:
    decisions, weights = topics(log)
    number = len(decisions) // 2
    damaged = changed(decisions[number], value=value)
    with pytest.raises(FastPathDeclined):
        compare([*decisions[:number], damaged, *decisions[number + 1 :]], weights)


def test_a_decision_that_says_something_else_is_noticed(log: Log) -> None:
    decisions, weights = topics(log)
    with pytest.raises(FastPathDeclined):
        compare([buffered(one) for one in decisions], weights)


def buffered(message: Message) -> Message:
    said = CODEC.decode(GATES, message.value())
    if not isinstance(said, GateDecision):
        return message
    return changed(message, value=CODEC.encode(GATES, said._replace(buffer=said.buffer + 0.5)))
