"""Partitions that change hands: frozen workers, workers that come and go, many partitions."""

from __future__ import annotations

import signal

import pytest

from tests.faults.conftest import StartTrial
from tests.faults.harness import LEFT_UNSAFE, Trial, Worker, wait_for

pytestmark = pytest.mark.kafka


def others_take_over(trial: Trial, other: Worker, chain: int = 1) -> None:
    """Wait until ``other`` has opened every partition of the first stage."""
    wanted = {f"opened first {p}" for p in range(trial.partitions)}
    wait_for(lambda: wanted <= set(other.marks), "nobody took over", other.child)
    wait_for(trial.finished, "the new owner does not finish", other.child)


@pytest.mark.parametrize("place", ["produced", "offsets", "committed"])
def test_a_worker_frozen_inside_a_transaction_leaves_when_it_wakes_and_disturbs_nobody(
    trial: StartTrial, place: str
) -> None:
    each = trial(chain=2 if place == "offsets" else 1)
    each.send(1_000)
    frozen = each.start("a", FAULT=f"freeze:{place}:3")
    wait_for(lambda: frozen.frozen, "the worker does not freeze", frozen.child)
    each.send(400)
    other = each.start("b")
    others_take_over(each, other)
    frozen.signal(signal.SIGCONT)
    assert frozen.ended() == LEFT_UNSAFE
    assert "manifold worker: leaving: " in frozen.child.last_output(8)
    each.send(400)
    each.wait_until_finished()
    each.require_exact()
    assert other.child.running


def test_a_worker_frozen_from_outside_past_its_session_does_no_harm_when_it_wakes(
    trial: StartTrial,
) -> None:
    each = trial()
    each.send(400)
    frozen = each.start("a")
    frozen.until_ready()
    each.send(400)
    frozen.signal(signal.SIGSTOP)
    each.send(400)
    other = each.start("b")
    others_take_over(each, other)
    frozen.signal(signal.SIGCONT)
    each.send(400)
    each.wait_until_finished()
    each.require_exact()
    assert other.child.running


def test_sigterm_under_load_ends_the_batch_and_leaves_with_code_0(trial: StartTrial) -> None:
    each = trial(chain=2)
    for _ in range(2):
        each.send(600)
        worker = each.start(DELAY_S="0.002")
        worker.until_ready()
        each.send(600)
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0, worker.child.last_output(8)
    assert not each.finished(), "the worker was told to stop when there was nothing to do"
    assert each.aborted() == 0, "a stop on demand cuts no transaction off"
    each.start()
    each.wait_until_finished()
    each.require_exact()


def test_a_partition_that_stays_keeps_its_producer_and_its_state_over_rebalances(
    trial: StartTrial,
) -> None:
    each = trial()
    each.send(600)
    first = each.start("a")
    each.wait_until_finished()
    taken = [f"producer first {p}" for p in range(each.partitions)]
    assert sorted(m for m in first.marks if m.startswith("producer")) == taken
    other = each.start("b")
    wait_for(lambda: "ready" in other.marks and dropped(first), "no rebalance", other.child)
    kept = set(range(each.partitions)) - dropped(first)
    assert kept, "nothing stayed with the first worker"
    each.send(600)
    each.wait_until_finished()
    other.signal(signal.SIGTERM)
    assert other.ended() == 0
    wait_for(lambda: taken_again(first) == dropped(first), "nobody took over", first.child)
    each.send(600)
    wait_for(each.finished, "the work does not end", first.child)
    each.require_exact()
    for partition in range(each.partitions):
        times = 1 if partition in kept else 2
        assert first.marks.count(f"producer first {partition}") == times
        assert first.marks.count(f"restored {each.changelog()} {partition}") == times
        assert first.marks.count(f"opened first {partition}") == times


def dropped(worker: Worker) -> set[int]:
    return {int(m.split()[2]) for m in worker.marks if m.startswith("dropped first")}


def taken_again(worker: Worker) -> set[int]:
    opened = [int(m.split()[2]) for m in worker.marks if m.startswith("opened first")]
    return {partition for partition in opened if opened.count(partition) == 2}


def test_twelve_partitions_and_three_stages_are_exact_under_load_and_kills(
    trial: StartTrial,
) -> None:
    each = trial(chain=3, partitions=12)
    each.send(3_000, keys=240)
    for fault in ("kill:produced:20", "kill:offsets:25"):
        worker = each.start(FAULT=fault)
        worker.until_ready()
        each.send(1_000, keys=240)
        assert worker.ended() == -signal.SIGKILL
    each.start()
    each.send(3_000, keys=240)
    each.wait_until_finished()
    each.require_exact()
    assert each.aborted() > 0
