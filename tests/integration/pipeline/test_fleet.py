"""A worker among others: its settings, what it refuses to read, what it tells of itself."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from streams.config.settings import Config
from streams.kafka.client import producer_config
from streams.kafka.control_topic import append_control
from streams.pipeline.worker.http import STUCK_AFTER_S, LagWatch
from streams.pipeline.worker.metrics import WorkerMetrics
from streams.process.child import free_port
from streams.records.codec import locked_codec
from streams.records.events import Control, DeadLetter, GateDecision, Manifold
from streams.records.topics import CANDLES, DEAD_LETTERS, GATES, MANIFOLDS, SIGNALS
from streams.stack.kafka import KafkaBroker
from tests.support.deployment import Deployment
from tests.support.sample_events import SAMPLES
from tests.support.waiting import PATIENCE_S

pytestmark = pytest.mark.kafka

MARKET = ("feed", "synthetic", "--start", "2024-03-04T10:00", "--pairs", "EUR_USD,GBP_USD")
Deploy = Callable[..., Deployment]


@pytest.fixture
def deploy(
    kafka: KafkaBroker, valkey_url: str, tmp_path: Path, topic_prefix: str
) -> Iterator[Deploy]:
    made: list[Deployment] = []

    def start(**settings: str) -> Deployment:
        made.append(
            Deployment(
                tmp_path,
                KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
                VALKEY_URL=valkey_url,
                TOPIC_PREFIX=topic_prefix,
                **({"TOPIC_PARTITIONS": "2"} | settings),
            )
        )
        return made[-1]

    yield start
    for deployment in made:
        deployment.stop()


def fill(deployment: Deployment, bars: int) -> None:
    done = deployment.run(*MARKET, "--bars", str(bars))
    assert done.returncode == 0, done.stderr


def test_frames_that_cannot_be_read_become_dead_letters_and_the_worker_goes_on(
    deploy: Deploy,
) -> None:
    deployment = deploy()
    fill(deployment, 140)
    good = locked_codec().encode(CANDLES, SAMPLES["Candle"])
    bad = {
        "bad_magic": b"\x01" + good[1:],
        "unknown_schema_id": b"\x00\x00\xff\xff\xff" + good[5:],
        "truncated": good[:-9],
        "null_value": None,
        "wrong_record": locked_codec().encode(SIGNALS, SAMPLES["Signal"]),
    }
    producer = Producer(producer_config(deployment.runtime))
    stamp = SAMPLES["Candle"].as_of_ms
    for value in bad.values():
        topic = deployment.runtime.topic(CANDLES)
        producer.produce(topic, value, b"EUR_USD", partition=0, timestamp=stamp)
    producer.flush()
    deployment.start_worker()
    fill(deployment, 200)
    deployment.settle()
    letters = [e for e in deployment.events(DEAD_LETTERS) if isinstance(e, DeadLetter)]
    assert sorted(letter.reason for letter in letters) == sorted(bad)
    for letter in letters:
        assert letter.value == bad[letter.reason]
        assert (letter.topic, letter.partition, letter.stage) == (CANDLES, 0, "signals")
    deployment.require_exact()
    deployment.require_verified()


def test_a_worker_follows_the_log_whatever_its_environment_says_also_after_a_crash(
    deploy: Deploy,
) -> None:
    port = free_port()
    deployment = deploy(METRICS_PORT=str(port))
    fill(deployment, 200)
    # from here on every process is started with another threshold than the log has
    deployment.environment["AUTO_MIN_COHERENCE"] = "0.05"
    worker = deployment.start_worker()
    deployment.settle()
    said = worker.child.log.read_text()
    assert "AUTO_MIN_COHERENCE is 0.05 here, 0.55 is active" in said
    assert "manifold config set" in said

    def exported(active: str) -> bool:
        sample = f'active="{active}",here="0.05",setting="AUTO_MIN_COHERENCE"'
        return f"manifold_config_differs{{{sample}}} 1.0" in page(f"{url}/metrics")[1]

    url = f"http://127.0.0.1:{port}"
    assert deployment.keep_running(PATIENCE_S, lambda: exported("0.55"))
    reason = ("--reason", "calibrated")
    changed = deployment.run("config", "set", "AUTO_MIN_COHERENCE=0.10", *reason)
    assert changed.returncode == 0, changed.stderr
    fill(deployment, 250)
    assert deployment.keep_running(PATIENCE_S, lambda: exported("0.1"))
    worker.child.kill()
    fill(deployment, 300)
    deployment.settle()
    assert worker.restarts == 1
    assert deployment.keep_running(PATIENCE_S, lambda: exported("0.1"))
    deployment.require_exact()
    deployment.require_verified()
    decided = [e for e in deployment.events(GATES) if isinstance(e, GateDecision) and e.metrics]
    ids = list(dict.fromkeys(e.config_id for e in decided))
    assert len(ids) == 2
    before = [e for e in decided if e.config_id == ids[0]]
    after = [e for e in decided if e.config_id == ids[1]]
    assert max(e.as_of_ms for e in before) < min(e.as_of_ms for e in after)
    for decision in decided:
        floor = 0.55 if decision.config_id == ids[0] else 0.10
        fails = decision.metrics is not None and decision.metrics.coherence < floor
        assert ("coherence_below_min" in decision.reasons) == fails


def test_a_worker_that_started_before_a_change_takes_over_a_partition_that_follows_it(
    deploy: Deploy,
) -> None:
    deployment = deploy(TOPIC_PARTITIONS="1", SESSION_TIMEOUT_SEC="3")
    fill(deployment, 140)
    deployment.start_worker("worker-1")
    deployment.settle()
    port = free_port()
    other = deployment.start_worker("worker-2", METRICS_PORT=str(port))
    # it has read ops.control and owns nothing
    assert deployment.keep_running(
        PATIENCE_S, lambda: page(f"http://127.0.0.1:{port}/healthz")[0] == 200
    )
    changed = deployment.run("config", "set", "AUTO_MIN_COHERENCE=0.10", "--reason", "test")
    assert changed.returncode == 0, changed.stderr
    fill(deployment, 200)
    deployment.settle()
    owner = deployment.processes.pop("worker-1")
    owner.child.kill()
    fill(deployment, 250)
    deployment.settle()
    assert other.restarts == 0
    deployment.require_exact()
    deployment.require_verified()


def test_what_is_not_installed_cannot_be_followed_until_the_fleet_adopts_what_is(
    deploy: Deploy,
) -> None:
    deployment = deploy()
    installed = Config().tzdata_version
    other = Control(
        "config", None, Config(tzdata_version="2020.1").to_json(), "t", "t", 1_600_000_000_000
    )
    append_control(deployment.runtime, deployment.codec, [other])
    for command in (("worker",), (*MARKET, "--bars", "10"), ("trade", "--status-port", "0")):
        refused = deployment.run(*command)
        assert refused.returncode == 2, (command, refused.stderr)
        (line,) = [one for one in refused.stderr.splitlines() if one.startswith("manifold: ")]
        assert "the log requires TZDATA_VERSION=2020.1" in line
        assert f"manifold config set TZDATA_VERSION={installed} --reason" in line
    assert deployment.events(CANDLES) == []
    adopted = deployment.run("config", "set", f"TZDATA_VERSION={installed}", "--reason", "newer")
    assert adopted.returncode == 0, adopted.stderr
    fill(deployment, 10)
    assert deployment.events(CANDLES)


def page(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def test_a_worker_shows_its_metrics_and_its_health(deploy: Deploy) -> None:
    port = free_port()
    deployment = deploy(METRICS_PORT=str(port))
    fill(deployment, 200)
    deployment.start_worker()
    deployment.settle()
    root = f"http://127.0.0.1:{port}"
    assert deployment.keep_running(PATIENCE_S, lambda: page(f"{root}/healthz")[0] == 200)
    assert json.loads(page(f"{root}/healthz")[1])["stuck"] == {}
    text = page(f"{root}/metrics")[1]
    found = {line.partition("{")[0].partition(" ")[0] for line in text.splitlines()}
    for name in (
        *("sep_rolling_gate", "sep_gate_eligible", "sep_allocator_selected"),
        *("manifold_records_in_total", "manifold_records_out_total", "manifold_consumer_lag"),
        *("manifold_stage_seconds_bucket", "manifold_candle_to_weights_seconds_count"),
        "manifold_gate_reasons_total",
    ):
        assert name in found, name
    manifolds = sum(isinstance(e, Manifold) for e in deployment.events(MANIFOLDS))
    written = [
        float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.startswith("manifold_records_out_total")
        and 'stage="signals"' in line
        and f'topic="{MANIFOLDS}"' in line
    ]
    # watermarks are records too
    assert sum(written) >= manifolds > 0


def test_health_fails_when_a_stage_has_work_and_does_none(deploy: Deploy) -> None:
    deployment = deploy()
    fill(deployment, 50)
    now = [time.monotonic()]
    metrics = WorkerMetrics()
    watch = LagWatch(deployment.runtime, metrics, lambda: now[0])
    for partition in range(2):
        metrics.position_reached("signals", partition, 0)
        metrics.position_reached("gates", partition, 0)
    watch.refresh()
    assert watch.stuck() == {}
    now[0] += STUCK_AFTER_S + 1
    watch.refresh()
    # the gates have nothing to do: their source is empty
    stuck: dict[str, Any] = watch.stuck()
    assert list(stuck) == ["signals"]
    assert "is stalled at offset 0" in stuck["signals"]
    for partition in range(2):
        metrics.position_reached("signals", partition, 10)
    watch.refresh()
    assert watch.stuck() == {}
