"""Each hole of Faust as it comes, shown open there, and closed in the product's worker.

A test named ``..._in_plain_faust...`` states what is wrong there; the test after it makes the same
thing happen to the product's worker and asks for every record once.
"""

from __future__ import annotations

import signal
import time

import pytest

from tests.faults.conftest import StartTrial
from tests.faults.harness import LEFT_UNSAFE, Trial, Worker, coordinates, counted, wait_for

PLAIN = "plain_app"
STANDS_STILL_S = 6.0

pytestmark = pytest.mark.kafka


def last_are_out(trial: Trial) -> bool:
    """Return whether the last record of every partition has its output."""
    lasts = {found.partition: found.offset for found in trial.read(trial.topic())}
    return set(lasts.items()) <= {coordinates(found) for found in trial.read(trial.topic(1))}


def missing(trial: Trial) -> int:
    wanted = {(found.partition, found.offset) for found in trial.read(trial.topic())}
    return len(wanted - {coordinates(found) for found in trial.read(trial.topic(1))})


def restart_with_slow_seek(trial: Trial, app: str) -> Worker:
    """Leave records behind a worker that has a table to restore, and start it again."""
    trial.send(40)
    first = trial.start(app=app)
    trial.wait_until_finished()
    first.signal(signal.SIGTERM)
    assert first.ended() == 0
    trial.send(200)
    second = trial.start(app=app, SEEK_PAUSE_S="2.5", DELAY_S="0.02")
    wait_for(lambda: "sought" in second.marks, "the worker does not seek", second.child)
    time.sleep(1.0)
    trial.send(40)
    return second


def test_records_are_lost_after_a_table_restore_in_plain_faust(trial: StartTrial) -> None:
    each = trial()
    second = restart_with_slow_seek(each, PLAIN)
    wait_for(lambda: last_are_out(each), "the work does not end", second.child)
    assert missing(each) > 0


def test_no_record_is_lost_after_a_table_restore(trial: StartTrial) -> None:
    each = trial()
    restart_with_slow_seek(each, "counting_app")
    each.wait_until_finished()
    each.require_exact()


def state_in_the_log(trial: Trial) -> int:
    """Return how many records the changelog has counted, committed or not."""
    found = trial.read(trial.changelog(), "read_uncommitted")
    return sum({record.key: int(record.value) for record in found}.values())


def test_records_are_counted_twice_after_a_kill_before_the_commit_in_plain_faust(
    trial: StartTrial,
) -> None:
    each = trial()
    each.send(200)
    first = each.start(app=PLAIN, COMMIT_S="3600")
    wait_for(lambda: each.finished() and state_in_the_log(each) == 200, "no end", first.child)
    first.child.kill()
    for _ in range(4):  # a restart may lose all of them after its restore: the hole above
        again = each.start(app=PLAIN, COMMIT_S="3600")
        wait_for(lambda: "sought" in again.marks, "no restart", again.child)  # noqa: B023
        time.sleep(1.0)
        each.send(40)
        wait_for(lambda: last_are_out(each), "the work does not end", again.child)
        again.child.kill()
        counts = counted(each.read(each.topic(1)))
        if sum(max(found) for found in counts.values()) > each.sent.total():
            return
    raise AssertionError("nothing was counted twice")


def test_state_written_before_a_kill_and_not_committed_is_never_restored(
    trial: StartTrial,
) -> None:
    each = trial()
    each.send(200)
    killed = each.start(FAULT="kill:produced:1")
    assert killed.ended() == -signal.SIGKILL
    assert state_in_the_log(each) > 0, "the kill came before the state was in the log"
    each.start()
    each.wait_until_finished()
    each.require_exact()


def test_a_record_whose_handler_raises_is_skipped_in_plain_faust(trial: StartTrial) -> None:
    each = trial()
    each.send(100)
    worker = each.start(app=PLAIN, FAULT="raise:step:5")
    wait_for(lambda: last_are_out(each), "the work does not end", worker.child)
    assert missing(each) == 1
    ends = [f.offset + 1 for f in each.read(each.topic())]
    wait_for(lambda: max(each.committed()) == max(ends), "no commit", worker.child)
    assert worker.child.running, "nobody was told"


def test_a_step_that_raises_ends_the_worker_and_its_record_comes_again(trial: StartTrial) -> None:
    each = trial()
    each.send(100)
    worker = each.start(FAULT="raise:step:5")
    assert worker.ended() == LEFT_UNSAFE
    assert "ValueError('a bug in the step')" in worker.child.last_output()
    each.start()
    each.wait_until_finished()
    each.require_exact()


def test_a_frozen_worker_that_wakes_writes_old_state_over_new_in_plain_faust(
    trial: StartTrial,
) -> None:
    each = trial(partitions=1)
    each.send(200, keys=1)
    frozen = each.start("a", app=PLAIN, FAULT="freeze:step:50")
    wait_for(lambda: frozen.frozen, "the worker does not freeze", frozen.child)
    other = each.start("b", app=PLAIN)
    wait_for(lambda: "sought" in other.marks, "nobody took over", other.child)
    time.sleep(1.0)
    each.send(100, keys=1)  # what lay there before may be lost in its restore
    wait_for(lambda: last_are_out(each), "the work does not end", other.child)
    before = len(each.read(each.topic(1)))
    state = each.read(each.changelog())[-1]
    frozen.signal(signal.SIGCONT)
    wait_for(lambda: len(each.read(each.topic(1))) > before, "it writes nothing", frozen.child)

    def written_after() -> list[int]:
        found = each.read(each.changelog())
        return [int(row.value) for row in found if row.offset > state.offset]

    # any of them: it goes on counting from its old state, and may soon have passed the new one
    wait_for(written_after, "no state was written", frozen.child)
    assert min(written_after()) < int(state.value)


def test_a_frozen_worker_that_wakes_cannot_write_any_more(trial: StartTrial) -> None:
    each = trial(partitions=1)
    each.send(200, keys=1)
    frozen = each.start("a", FAULT="freeze:step:50")
    wait_for(lambda: frozen.frozen, "the worker does not freeze", frozen.child)
    other = each.start("b")
    wait_for(each.finished, "nobody took over", other.child)
    frozen.signal(signal.SIGCONT)
    assert frozen.ended() == LEFT_UNSAFE
    each.require_exact()
    assert other.child.running


def leave_markers(trial: Trial) -> None:
    """Leave a changelog that ends with the markers of transactions, and records to do."""
    trial.send(200)
    first = trial.start()
    trial.wait_until_finished()
    first.signal(signal.SIGTERM)
    assert first.ended() == 0
    trial.send(200)


def test_a_restore_never_ends_where_the_changelog_ends_with_a_marker_in_plain_faust(
    trial: StartTrial,
) -> None:
    each = trial()
    leave_markers(each)
    worker = each.start(app=PLAIN)
    wait_for(lambda: "assigned" in worker.marks, "no partitions", worker.child)
    time.sleep(STANDS_STILL_S)
    assert worker.child.running
    assert "ready" not in worker.marks
    assert missing(each) == 200


def test_a_restore_ends_where_the_changelog_ends_with_a_marker(trial: StartTrial) -> None:
    each = trial()
    leave_markers(each)
    each.start()
    each.wait_until_finished()
    each.require_exact()


def test_a_call_that_never_returns_stops_plain_faust_for_good_and_nobody_is_told(
    trial: StartTrial,
) -> None:
    each = trial()
    each.send(100)
    worker = each.start(app=PLAIN, FAULT="hang:step:5")
    wait_for(lambda: "hang step" in worker.marks, "it does not hang", worker.child)
    time.sleep(STANDS_STILL_S)
    assert worker.child.running
    assert missing(each) > 0


@pytest.mark.parametrize("place", ["offsets", "committed"])
def test_a_transaction_that_never_returns_ends_the_worker_which_shows_where_it_stood(
    trial: StartTrial, place: str
) -> None:
    each = trial()
    each.send(100)
    worker = each.start(FAULT=f"hang:{place}:2", TRANSACTION_TIMEOUT_SEC="2")
    assert worker.ended() == LEFT_UNSAFE
    assert "a transaction did not end within 4 s" in worker.child.last_output()
    assert "transaction.py" in worker.child.log.read_text(), "no stacks"
    each.start()
    each.wait_until_finished()
    each.require_exact()


def test_records_lost_between_the_fetch_and_the_stage_end_the_worker(trial: StartTrial) -> None:
    each = trial(chain=2)
    each.send(200)
    worker = each.start(FAULT="lose:fetched:2")
    worker.until_ready()
    while worker.child.running:
        each.send(20)
    assert worker.ended() == LEFT_UNSAFE
    assert "were lost between broker and stage: processed up to" in worker.child.last_output()
    each.start()
    each.wait_until_finished()
    each.require_exact()
