"""Decisions that no stage has made, on a real log: the executor acts on none of them."""

from __future__ import annotations

import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from streams.kafka.client import producer_config
from streams.records.events import GateDecision, WeightEntry, Weights
from streams.records.topics import GATES, MANIFOLDS, ORDERS, WEIGHTS
from streams.stack.kafka import KafkaBroker
from tests.support.topic_settings import set_topic
from tests.support.trading import ExecutorProcess, flat, oanda_floor, script_of, switch_off
from tests.support.v20 import V20Process
from tests.support.waiting import PATIENCE_S

pytestmark = pytest.mark.kafka

PAIR, OTHER, MINUTE = "EUR_USD", "GBP_USD", 60_000
YEAR_2096_MS = 3_976_214_400_000


def counts(said: dict[str, Any]) -> dict[str, int]:
    """Return how many records were refused, by reason."""
    found: dict[str, int] = said["refused_decision_counts"]
    return found


def page_of(executor: ExecutorProcess, name: str) -> str:
    """Return a page of the executor."""
    with urllib.request.urlopen(f"http://127.0.0.1:{executor.port}/{name}", timeout=60) as found:
        return str(found.read().decode())


def test_no_forged_decision_is_acted_on_and_the_next_true_one_is(
    kafka: KafkaBroker, new_database: Callable[[], str], tmp_path: Path
) -> None:
    broker = V20Process(hours="always").start()
    prefix = f"t{uuid.uuid4().hex[:8]}."
    deployment = oanda_floor(tmp_path, kafka.bootstrap, prefix, new_database(), broker)
    # a broker that accepts every time stamp; Apache Kafka 4 refuses more than an hour ahead
    for topic in (GATES, WEIGHTS):
        set_topic(deployment.runtime, topic, "message.timestamp.after.max.ms", str((1 << 63) - 1))
    try:
        switch_off(deployment)
        script = script_of(deployment)
        executor = ExecutorProcess(deployment, PM_RAMP_STEP_PCT="1")  # opened by one order
        url = {"TRADE_STATUS_URL": f"http://127.0.0.1:{executor.port}/status"}
        own = f"{MANIFOLDS}-{script.partition(PAIR)}"
        committed, not_committed = f"{own}-1", f"{own}-1000000"
        executor.start()
        executor.until_reconciled()
        end_ms = script.bar({PAIR: 0, OTHER: 0})
        executor.until(lambda said: said["epoch_ms"] >= end_ms and said["decided_ms"])
        true = next(e for e in deployment.events(GATES) if e.instrument == PAIR)
        (weights,) = deployment.events(WEIGHTS)

        def forged(as_of_ms: int, **more: Any) -> GateDecision:
            times = {"bar_ms": as_of_ms - MINUTE, "signal_bar_ms": as_of_ms - MINUTE}
            return true._replace(as_of_ms=as_of_ms, position=1, direction=1, **times | more)

        def chosen(as_of_ms: int) -> Weights:
            entries = (WeightEntry(PAIR, 0.8, 1.0, 0.05),)
            times = {"as_of_ms": as_of_ms, "epoch_ms": as_of_ms, "bar_ms": as_of_ms - MINUTE}
            return weights._replace(entries=entries, **times)

        script.forge(GATES, forged(YEAR_2096_MS), committed)
        script.forge(WEIGHTS, chosen(YEAR_2096_MS), f"{GATES}-0-1")
        script.forge(GATES, forged(end_ms + MINUTE), committed)
        executor.until(lambda said: counts(said) == {"after_clock": 2, "after_candles": 1})
        script.watermark(end_ms + MINUTE)
        script.forge(GATES, forged(end_ms + MINUTE), not_committed)
        script.forge(WEIGHTS, chosen(end_ms + MINUTE), f"{GATES}-0-1000000")
        script.forge(GATES, forged(end_ms + MINUTE), f"{GATES}-0-1")
        script.forge(GATES, forged(end_ms + MINUTE), committed)
        script.forge(GATES, forged(end_ms + MINUTE, control_offset=1 << 40), committed)
        said = executor.until(lambda said: sum(counts(said).values()) == 8)
        assert counts(said) == {
            "after_clock": 2, "after_candles": 1, "source_not_committed": 2, "source_invalid": 2,
            "control_missing": 1,
        }  # fmt: skip
        assert said["reconciled"] and said["decided_ms"][PAIR] == end_ms == said["epoch_ms"]
        assert broker.account()["clientOrders"] == {} and deployment.events(ORDERS) == []
        metrics = page_of(executor, "metrics")
        for topic, reason in ((GATES, "after_candles"), (WEIGHTS, "source_not_committed")):
            labels = f'reason="{reason}",topic="{topic}"'
            assert f"manifold_refused_decisions_total{{{labels}}} 1.0" in metrics, metrics
        shown = deployment.run("executor", **url).stdout
        assert f"source_not_committed (its source is {not_committed}," in shown, shown

        script.bar({PAIR: 1})
        executor.until(lambda said: list(said["joined"]) == [PAIR])

        assert executor.process is not None
        executor.process.child.kill()
        executor.start()
        said = executor.until(lambda said: sum(counts(said).values()) == 8)
        executor.until(lambda said: said["reconciled"] and list(said["joined"]) == [PAIR])
        script.bar({PAIR: 0})
        executor.until(flat)
        assert broker.account()["positions"] == {}

        # an invalid record of the order log is noticed while the executor runs
        script.bar({OTHER: 1})
        executor.until(lambda said: list(said["joined"]) == [OTHER])
        producer = Producer(producer_config(deployment.runtime))
        producer.produce(deployment.runtime.topic(ORDERS), b"no record", b"EUR_USD")
        assert producer.flush(PATIENCE_S) == 0
        said = executor.until(lambda said: "invalid record" in said["unreconciled"])
        assert not said["reconciled"] and "of exec.orders-" in said["unreconciled"]
        assert "manifold_order_log_invalid_records 1.0" in page_of(executor, "metrics")
        script.bar({PAIR: 1, OTHER: 0})
        executor.until(lambda said: not said["joined"])
        executor.until(lambda said: "invalid record" in str(said["blocked"].get(PAIR)))
        reset = deployment.run("limits", "reset", "order_log", "--reason", "compared")
        assert reset.returncode == 0, reset.stderr
        executor.until(lambda said: said["reconciled"])
        script.bar({PAIR: 0})
        script.bar({PAIR: 1})
        executor.until(lambda said: list(said["joined"]) == [PAIR])
    finally:
        deployment.stop()
        broker.stop()
