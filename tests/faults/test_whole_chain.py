"""Real processes killed, frozen and cut off under load: nothing lost, nothing twice.

Candles flow at many times the rate of a live market while the faults happen. The counting is done
from the log alone, apart from the product's own verification.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streams.records.topics import TRADES
from streams.stack.kafka import KafkaBroker
from streams.stack.valkey import ValkeyServer
from tests.support.deployment import LIVELY, READY, Deployment, random_instants
from tests.support.waiting import PATIENCE_S

KILLS = int(os.environ.get("MANIFOLD_FAULT_KILLS", "3"))
STOPS = 3 if os.environ.get("MANIFOLD_FAULT_KILLS") else 2
SERVER_KILLS = 3 if os.environ.get("MANIFOLD_FAULT_KILLS") else 1
PAIRS = "EUR_USD,GBP_USD,USD_JPY,AUD_USD,USD_CAD,NZD_USD"
BARS_A_SECOND = 40
SECONDS_A_KILL = 6

pytestmark = pytest.mark.kafka

Deploy = Callable[..., Deployment]


@pytest.fixture
def deploy(tmp_path: Path, topic_prefix: str) -> Iterator[Deploy]:
    made: list[Deployment] = []

    def start(broker: KafkaBroker, valkey_url: str, **settings: str) -> Deployment:
        made.append(
            Deployment(
                tmp_path,
                KAFKA_BOOTSTRAP_SERVERS=broker.bootstrap,
                VALKEY_URL=valkey_url,
                TOPIC_PREFIX=topic_prefix,
                HOTBAND_PAIRS=PAIRS,
                **(LIVELY | {"TOPIC_PARTITIONS": "4"} | settings),
            )
        )
        return made[-1]

    yield start
    for deployment in made:
        deployment.stop()


def start_market(deployment: Deployment, seconds: float) -> None:
    """Start a market that goes on for so long; every instrument is past its warm-up at once."""
    bars = 400 + int(seconds * BARS_A_SECOND)
    market = ["feed", "synthetic", "--bars", "400", "--start", "2024-03-04"]
    done = deployment.run(*market)
    assert done.returncode == 0, done.stderr
    speed = str(BARS_A_SECOND * 60)
    market[3] = str(bars)
    deployment.start("market", *market, "--speed", speed, once=True)


def test_worker_killed_at_random_instants_on_twelve_partitions(
    kafka: KafkaBroker, new_database: Callable[[], str], deploy: Deploy
) -> None:
    deployment = deploy(kafka, new_database(), TOPIC_PARTITIONS="12")
    start_market(deployment, KILLS * SECONDS_A_KILL)
    worker = deployment.start_worker()
    deployment.start("mirror", "mirror")
    for wait_s in random_instants(20260101, KILLS, 1.5, 2 * SECONDS_A_KILL - 1.5):
        deployment.keep_running(wait_s)
        if worker.child.running:
            worker.child.kill()
    deployment.settle()
    assert worker.restarts >= 1
    deployment.require_exact()
    deployment.require_verified()
    deployment.require_mirror_equals_rebuild(new_database())


def test_worker_killed_while_it_folds_history_under_new_parameters(
    kafka: KafkaBroker, valkey_url: str, deploy: Deploy
) -> None:
    deployment = deploy(kafka, valkey_url)
    market = ["feed", "synthetic", "--bars", "2000", "--start", "2024-03-04"]
    assert deployment.run(*market).returncode == 0
    worker = deployment.start_worker()
    deployment.settle()
    changed = ("AUTO_DIRECTION_LOOKBACK=6", "--reason", "a try")
    assert deployment.run("params", "set", "EUR_USD", *changed).returncode == 0
    market[3] = "2300"
    deployment.start("market", *market, "--speed", str(BARS_A_SECOND * 60), once=True)

    def new_runs() -> int:
        return worker.child.log.read_text().count("folding their last")

    for kills in range(STOPS):
        runs_before = new_runs() if kills else 0
        assert deployment.keep_running(
            PATIENCE_S,
            lambda before=runs_before: new_runs() > before or deployment.caught_up(),
            0.002,
        ), "no new run began: " + deployment.last_output()
        if new_runs() == runs_before:
            break  # the kill before came after the run was committed
        worker.child.kill()
    deployment.settle()
    deployment.require_exact()
    deployment.require_verified()
    runs = {trade.params_id for trade in deployment.events(TRADES) if trade.instrument == "EUR_USD"}
    assert len(runs) == 2


def test_frozen_worker_is_replaced_and_does_no_harm_when_it_wakes_up(
    kafka: KafkaBroker, valkey_url: str, deploy: Deploy
) -> None:
    deployment = deploy(kafka, valkey_url)
    start_market(deployment, 30)
    first = deployment.start_worker("worker-1")
    deployment.keep_running(7)
    first.child.signal(signal.SIGSTOP)
    deployment.start_worker("worker-2")
    # three times the session timeout
    deployment.keep_running(9)
    before = deployment.status().ends["sep.signals"]
    assert deployment.keep_running(
        PATIENCE_S, lambda: deployment.status().ends["sep.signals"] > before, 0.5
    ), "nobody took over: " + deployment.last_output()
    first.child.signal(signal.SIGCONT)
    deployment.settle()
    deployment.require_exact()
    deployment.require_verified()


def test_worker_told_to_stop_under_load_ends_its_batch_and_leaves(
    kafka: KafkaBroker, valkey_url: str, deploy: Deploy
) -> None:
    deployment = deploy(kafka, valkey_url)
    start_market(deployment, 15 * STOPS)
    for starts, wait_s in enumerate(random_instants(7, STOPS, 0.5, 3.0), 1):
        worker = deployment.start_worker()
        # one log for all of them
        assert deployment.keep_running(
            PATIENCE_S,
            lambda log=worker.child.log, starts=starts: log.read_text().count(READY) >= starts,
        ), worker.child.last_output(8)
        deployment.keep_running(wait_s)
        assert worker.stop() == 0, worker.child.last_output(8)
    deployment.start_worker()
    deployment.settle()
    deployment.require_exact()
    deployment.require_verified()


def test_broker_and_valkey_killed_one_after_the_other(
    new_kafka: Callable[[], KafkaBroker], new_valkey: Callable[[], ValkeyServer], deploy: Deploy
) -> None:
    broker, valkey = new_kafka(), new_valkey()
    deployment = deploy(broker, valkey.url)
    start_market(deployment, 15 * SERVER_KILLS)
    deployment.start_worker()
    deployment.start("mirror", "mirror")
    for down_s in random_instants(3, SERVER_KILLS, 0.5, 6.0):
        deployment.keep_running(5)
        broker.kill()
        deployment.keep_running(down_s)
        broker.start()
        deployment.keep_running(3)
        valkey.kill()
        deployment.keep_running(down_s)
        valkey.start()
    deployment.settle(180)
    deployment.require_exact()
    deployment.require_verified()
    deployment.require_mirror_equals_rebuild(valkey.url.removesuffix("/0") + "/1")
