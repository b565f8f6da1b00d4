"""What ``manifold migrate`` asks of the log: a record that other readers refuse says nothing."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from streams.errors import Fatal
from streams.kafka.client import producer_config
from streams.kafka.reader import LogReader
from streams.migration.checks import accounts_in, require_kill_switch_engaged
from streams.records.events import Control
from streams.records.kill_switch import KillSwitchCommand
from streams.records.topics import CONTROL, ORDERS
from streams.stack.kafka import KafkaBroker
from tests.support.deployment import Deployment
from tests.support.sample_events import SAMPLES
from tests.support.waiting import PATIENCE_S

pytestmark = pytest.mark.kafka

AHEAD_MS = 60_000


def test_a_record_later_than_its_time_stamp_clears_no_kill_switch_and_names_no_account(
    kafka: KafkaBroker, topic_prefix: str, tmp_path: Path
) -> None:
    deployment = Deployment(
        tmp_path, KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap, TOPIC_PREFIX=topic_prefix
    )
    now_ms = int(time.time() * 1000)

    def write(topic: str, key: bytes, event: Any, ahead_ms: int = 0) -> None:
        producer = Producer(producer_config(deployment.runtime))
        value = deployment.codec.encode(topic, event._replace(as_of_ms=now_ms + ahead_ms))
        producer.produce(deployment.runtime.topic(topic), value, key, timestamp=now_ms)
        assert producer.flush(PATIENCE_S) == 0

    def switch(command: KillSwitchCommand, ahead_ms: int = 0) -> None:
        said = Control("kill_switch", None, command.to_json(), "test", "test", now_ms)
        write(CONTROL, b"kill_switch", said, ahead_ms)

    order: Any = SAMPLES["OrderIntent"]
    switch(KillSwitchCommand(True))
    switch(KillSwitchCommand(False, 1), AHEAD_MS)
    write(ORDERS, b"EUR_USD", order._replace(account_id="ours"))
    write(ORDERS, b"EUR_USD", order._replace(account_id="forged"), AHEAD_MS)
    with LogReader(deployment.runtime) as reader:
        require_kill_switch_engaged(deployment.runtime, deployment.codec, reader)
        assert accounts_in(deployment.codec, reader) == {"ours"}
    switch(KillSwitchCommand(False, 2))
    with LogReader(deployment.runtime) as reader, pytest.raises(Fatal, match="kill switch is off"):
        require_kill_switch_engaged(deployment.runtime, deployment.codec, reader)
