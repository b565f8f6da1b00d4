"""The fast paths of a verification on records that the stages refuse: the same answer, or none."""

from __future__ import annotations

import asyncio
from collections import defaultdict

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from streams.pipeline.chain import make_chain
from streams.pipeline.memory import Derivation
from streams.records.log_record import SourceRecord
from streams.records.topics import CANDLES, DEAD_LETTERS, GATES
from streams.replay.verify.rows import FastPathDeclined
from streams.replay.verify.weights import DecisionReader
from tests.property.records.test_invalid_records import intruders
from tests.property.replay import test_verify_columns as columns
from tests.property.replay import test_verify_weights as weights
from tests.property.replay.test_verify_columns import Log, Message, counts, derived_log
from tests.support.changing_log import changing_control
from tests.support.stage_bench import CODEC

FEW = settings(max_examples=3, deadline=None, database=None, phases=[Phase.generate])


def log_with(seed: int, often: int) -> Log:
    """Return a log with invalid records among its candles, and what the stages derive from it."""
    derivation = Derivation(keeps_history=True)
    chain = make_chain(CODEC, changing_control(), history=derivation.history(CODEC))
    derivation.use(chain.stages)
    candles: dict[int, list[SourceRecord]] = {}
    derived: dict[tuple[str, int], list[Message]] = defaultdict(list)
    strange = intruders(seed, CANDLES, 100_000)
    for partition, whole in derived_log(1).candles.items():
        mixed: list[SourceRecord] = []
        for number, record in enumerate(whole):
            if number % often == 0:
                one = next(strange)
                mixed.append(
                    SourceRecord(CANDLES, partition, 0, one.timestamp_ms, one.key, one.value)
                )
            mixed.append(record)
        candles[partition] = [r._replace(offset=n) for n, r in enumerate(mixed)]
        for one in asyncio.run(derivation.feed(candles[partition])):
            at = (one.record.topic, one.record.partition)
            derived[at].append(Message(one.record, one.output.headers))
    return Log(candles, derived)


@FEW
@given(st.integers(0, 2**32))
def test_columns_derive_the_same_among_invalid_records(seed: int) -> None:
    log = log_with(seed, 40)
    refused = sum(len(found) // 41 for found in log.candles.values())
    assert len(log.derived[DEAD_LETTERS, 0]) >= refused
    assert columns.compare(log) == counts(log)


@FEW
@given(st.integers(0, 2**32))
def test_weights_are_left_to_the_stage_where_a_decision_is_invalid(seed: int) -> None:
    decisions, _ = weights.topics(derived_log(1))
    reader = DecisionReader(CODEC, changing_control())
    for one in intruders(seed, GATES, 40):
        strange = SourceRecord(GATES, 0, 0, one.timestamp_ms, one.key, one.value)
        place = seed % len(decisions)
        mixed = [*decisions[:place], Message(strange, ()), *decisions[place:]][place : place + 50]
        with pytest.raises(FastPathDeclined):
            reader.read(mixed)
    assert len(reader.read(decisions).verdicts) == len(decisions)
