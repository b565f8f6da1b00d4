"""Offsets that do not belong to the state: a broker that lost a commit, an operator's reset.

A broker that loses the markers of a transaction and keeps its offset is forged by committing the
offset from outside: the log is the same afterwards.
"""

from __future__ import annotations

import signal

import pytest
from confluent_kafka.admin import NewTopic

from streams.pipeline.worker import last_output as derived
from streams.records.topics import CANDLES, GATES, MANIFOLDS, SIGNALS
from tests.faults.conftest import StartTrial
from tests.faults.harness import LEFT_UNSAFE, Trial, Worker, wait_for

RECORDS = 80
PER_PARTITION = RECORDS // 2

pytestmark = pytest.mark.kafka


def work_and_stop(trial: Trial) -> None:
    """Process some records, stop, and leave as many unprocessed."""
    trial.send(RECORDS)
    first = trial.start()
    trial.wait_until_finished()
    first.signal(signal.SIGTERM)
    assert first.ended() == 0
    trial.send(RECORDS)


def said(worker: Worker) -> str:
    return worker.child.log.read_text()


def test_a_commit_without_its_outputs_and_state_is_processed_again(trial: StartTrial) -> None:
    each = trial(partitions=2)
    work_and_stop(each)
    each.commit({0: 2 * PER_PARTITION, 1: PER_PARTITION + 1})
    worker = each.start()
    each.wait_until_finished()
    each.require_exact()
    source = each.topic()
    for partition, lost in ((0, PER_PARTITION), (1, 1)):
        assert f"{source}-{partition} is committed at {PER_PARTITION + lost}, but" in said(worker)
        assert f"its {lost} offsets are processed again" in said(worker)


def test_the_first_commit_of_all_without_its_outputs_and_state_is_processed_again(
    trial: StartTrial,
) -> None:
    each = trial(chain=2, partitions=2)
    each.send(RECORDS)
    each.commit({0: PER_PARTITION, 1: 1})
    worker = each.start()
    each.wait_until_finished()
    each.require_exact()
    assert "goes up to 0 and nothing derived from there on is in the log" in said(worker)


def test_a_worker_that_dies_while_it_heals_heals_again(trial: StartTrial) -> None:
    each = trial(partitions=2)
    work_and_stop(each)
    each.commit({0: 2 * PER_PARTITION, 1: 2 * PER_PARTITION})
    dying = each.start(FAULT="kill:offsets:1")
    assert dying.ended() == -signal.SIGKILL
    each.start()
    each.wait_until_finished()
    each.require_exact()


def test_partitions_that_heal_keep_their_place_over_a_rebalance(trial: StartTrial) -> None:
    each = trial(partitions=2)
    work_and_stop(each)
    each.commit({0: 2 * PER_PARTITION, 1: 2 * PER_PARTITION})
    first = each.start("a", DELAY_S="0.1")
    first.until_ready()
    each.start("b")
    each.wait_until_finished()
    each.require_exact()
    # a machine so busy that the group takes it for gone ends it, as it does any worker
    assert first.child.running or first.ended() == LEFT_UNSAFE, said(first)


def test_a_commit_with_some_of_its_outputs_ends_the_worker_which_says_what_to_do(
    trial: StartTrial,
) -> None:
    each = trial(partitions=2)
    work_and_stop(each)
    each.commit({1: 2 * PER_PARTITION})
    each.write_derived(1, f"{CANDLES}-1-{PER_PARTITION}")
    visible = max(found.offset for found in each.read(each.topic(1)) if found.partition == 1)
    worker = each.start()
    assert worker.ended() == LEFT_UNSAFE
    for words in (
        f"first: {each.topic()}-1 is committed at {2 * PER_PARTITION}, but the state in "
        f"{each.changelog()} goes up to {PER_PARTITION}",
        f"{each.topic(1)}-1-{visible} is derived from a record behind it",
        "load the candles again under another APP_ID and TOPIC_PREFIX",
    ):
        assert words in worker.child.last_output()
    assert len(each.read(each.topic(1))) == RECORDS + 1


def test_outputs_derived_from_another_partition_prove_nothing(trial: StartTrial) -> None:
    each = trial(partitions=2)
    work_and_stop(each)
    each.commit({1: 2 * PER_PARTITION})
    before = len(each.read(each.topic(1)))
    each.write_derived(1, f"{CANDLES}-0-{PER_PARTITION}")
    each.write_derived(1, f"{SIGNALS}-1-{PER_PARTITION}")
    worker = each.start()
    wait_for(lambda: len(each.read(each.topic(1))) == before + 2 + RECORDS, "no end", worker.child)
    assert "processed again" in said(worker)


def test_outputs_left_open_beside_settled_state_end_the_worker_which_says_what_to_do(
    trial: StartTrial,
) -> None:
    each = trial(partitions=2)
    each.send(RECORDS)
    left = each.leave_open(each.topic(1), 1)
    worker = each.start()
    assert worker.ended() == LEFT_UNSAFE
    for words in (
        f"first: the broker left a transaction open in {each.topic(1)}-1 whose state in "
        f"{each.changelog()} is committed",
        "load the candles again under another APP_ID and TOPIC_PREFIX",
    ):
        assert words in worker.child.last_output()
    left.abort_transaction(20)
    each.start()
    each.wait_until_finished()
    each.require_exact()


@pytest.mark.parametrize("first_look", [1, 2, 1_000])
def test_the_last_output_of_a_partition_is_found_among_those_of_others(
    trial: StartTrial, monkeypatch: pytest.MonkeyPatch, first_look: int
) -> None:
    each = trial(partitions=2)
    each.create([NewTopic(each.runtime.topic(GATES), 1, 1)])
    monkeypatch.setattr(derived, "FIRST_LOOK", first_look)
    for source in ("1-7", "0-5", "1-9", "0-6", "0-8", "10-30", "0-9"):
        each.write_derived(0, f"{MANIFOLDS}-{source}", GATES)

    def found(partition: int, since: int) -> str | None:
        source = derived.SourcePartition(MANIFOLDS, partition)
        return derived.newest_output(each.runtime, source, since, (GATES,))

    assert found(1, 9) == f"{each.runtime.topic(GATES)}-0-2"
    assert found(1, 10) is None
    assert found(0, 9) == f"{each.runtime.topic(GATES)}-0-6"
    assert found(2, 0) is None


def test_offsets_reset_backwards_end_the_worker_which_says_what_to_do(trial: StartTrial) -> None:
    each = trial(partitions=2)
    work_and_stop(each)
    each.commit({0: 0})
    worker = each.start()
    assert worker.ended() == LEFT_UNSAFE
    for words in (
        f"first: {each.topic()}-0 is committed at 0, but the state in {each.changelog()} goes up "
        f"to {PER_PARTITION}",
        f"set the offset of the group {each.runtime.application} to {PER_PARTITION} again",
    ):
        assert words in worker.child.last_output()
    each.commit({0: PER_PARTITION})
    each.start()
    each.wait_until_finished()
    each.require_exact()


def test_a_group_that_the_broker_has_forgotten_goes_on_where_its_state_ends(
    trial: StartTrial,
) -> None:
    each = trial(partitions=2)
    work_and_stop(each)
    each.forget_group()
    each.start()
    each.wait_until_finished()
    each.require_exact()
