"""kill -9 of a counting worker, at named points of a transaction and at random instants."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.faults.conftest import StartTrial
from tests.faults.harness import Trial, seeded

KILLS = int(os.environ.get("MANIFOLD_FAULT_KILLS", "10"))
PLACES = ("step", "produced", "offsets", "committed", "random")
RECORDS_A_KILL = 400

pytestmark = pytest.mark.kafka


def kill_many_times(trial: Trial, kills: int, seed: int) -> None:
    chance = seeded(seed)
    for number in range(kills):
        place = PLACES[number % len(PLACES)]
        trial.send(RECORDS_A_KILL)
        if place == "random":
            worker = trial.start(DELAY_S="0.001")
            worker.until_ready()
            trial.send(RECORDS_A_KILL)
            time.sleep(chance.uniform(0.0, 0.6))
            worker.child.kill()
        else:
            passes = chance.randint(1, 6) * (20 if place == "step" else 1)
            worker = trial.start(FAULT=f"kill:{place}:{passes}")
            worker.until_ready()
            while worker.child.running:
                trial.send(8)
        assert worker.ended() == -signal.SIGKILL
    trial.start()
    trial.wait_until_finished()
    trial.require_exact()


@pytest.mark.parametrize("chain", [1, 2])
def test_a_worker_killed_again_and_again_loses_nothing_and_repeats_nothing(
    trial: StartTrial, chain: int
) -> None:
    each = trial(chain)
    kill_many_times(each, KILLS // 2, seed=chain)
    assert each.aborted() > 0, "no transaction was cut off: the kills proved nothing"
