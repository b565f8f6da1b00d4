"""Records of the order log that cannot be read, on a real log: only opening is blocked."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Producer

from streams.kafka.client import producer_config
from streams.records.topics import FILLS, ORDERS
from streams.stack.kafka import KafkaBroker
from tests.support.trading import ExecutorProcess, flat, oanda_floor, script_of, switch_off
from tests.support.v20 import V20Process
from tests.support.waiting import PATIENCE_S

pytestmark = pytest.mark.kafka


@pytest.mark.parametrize("topic", [ORDERS, FILLS])
def test_a_record_that_cannot_be_read_blocks_opening_and_nothing_else(
    kafka: KafkaBroker, new_database: Callable[[], str], tmp_path: Path, topic: str
) -> None:
    broker = V20Process(hours="always").start()
    prefix = f"t{uuid.uuid4().hex[:8]}."
    deployment = oanda_floor(tmp_path, kafka.bootstrap, prefix, new_database(), broker)
    try:
        switch_off(deployment)
        script, executor = script_of(deployment), ExecutorProcess(deployment)
        executor.start()
        executor.until_reconciled()
        script.bar({"EUR_USD": 0, "GBP_USD": 0})
        script.bar({"EUR_USD": 1, "GBP_USD": -1})
        executor.until(lambda said: len(said["joined"]) == 2)

        producer = Producer(producer_config(deployment.runtime))
        producer.produce(deployment.runtime.topic(topic), b"no record", b"EUR_USD")
        assert producer.flush(PATIENCE_S) == 0
        assert executor.process is not None
        executor.process.child.kill()
        executor.start()
        said = executor.until(lambda said: "invalid record" in said["unreconciled"])
        assert not said["reconciled"] and f"of {topic}-" in said["unreconciled"]
        script.bar({"EUR_USD": 0, "GBP_USD": -1})
        executor.until(lambda said: list(said["joined"]) == ["GBP_USD"])
        script.bar({"EUR_USD": 1, "GBP_USD": -1})
        executor.until(lambda said: "invalid record" in str(said["blocked"].get("EUR_USD")))

        executor.process.child.kill()
        done = deployment.run("flatten", "--reason", "storm", "--wait", "0")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "invalid record(s) in the order log: asking the broker" in done.stdout
        assert broker.account()["positions"] == {}

        reset = deployment.run("limits", "reset", "order_log", "--reason", "compared")
        assert reset.returncode == 0, reset.stderr
        assert f"of {topic}-" in reset.stdout and "bad_magic" in reset.stdout
        executor.start()
        executor.until(lambda said: said["reconciled"] and flat(said))
    finally:
        deployment.stop()
        broker.stop()
