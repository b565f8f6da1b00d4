"""A log whose configuration was written by a version with fewer settings."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from streams.config.settings import Config
from streams.kafka.client import producer_config
from streams.kafka.reader import LogReader
from streams.records.events import Control
from streams.records.topics import CONTROL, GATES, MANIFOLDS, SIGNALS, SUMMARIES, WEIGHTS
from streams.stack.kafka import KafkaBroker
from tests.support.deployment import LIVELY, Deployment

pytestmark = pytest.mark.kafka

MARKET = ("feed", "synthetic", "--start", "2024-03-04T10:00", "--pairs", "EUR_USD,GBP_USD")
NEWER = ("ATR_BARS", "COOLDOWN_SEC", "TZDATA_VERSION")
"""Settings that the older version did not have; their defaults hold."""


@pytest.fixture
def deployment(kafka: KafkaBroker, topic_prefix: str, tmp_path: Path) -> Iterator[Deployment]:
    made = Deployment(
        tmp_path,
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        TOPIC_PREFIX=topic_prefix,
        TOPIC_PARTITIONS="2",
        **LIVELY,
    )
    yield made
    made.stop()


def write_old_config(deployment: Deployment) -> str:
    """Write the record as the older version did, byte for byte; return its id."""
    values = json.loads(Config.from_env(deployment.environment).to_json())
    old = {name: value for name, value in values.items() if name not in NEWER}
    text = json.dumps(old, sort_keys=True, separators=(",", ":"))
    made = hashlib.sha256(text.encode()).hexdigest()[:16]
    now_ms = int(time.time() * 1000)
    record = Control("config", None, text, "environment", "first start", now_ms)
    producer = Producer(producer_config(deployment.runtime))
    producer.produce(
        deployment.runtime.topic(CONTROL),
        deployment.codec.encode(CONTROL, record),
        f"config:{made}".encode(),
        partition=0,
        timestamp=now_ms,
    )
    assert producer.flush(20) == 0
    return made


def configs(deployment: Deployment) -> list[Control]:
    return [event for event in deployment.events(CONTROL) if event.kind == "config"]


def test_records_keep_the_id_of_the_text_that_an_older_version_wrote(
    deployment: Deployment,
) -> None:
    old_id = write_old_config(deployment)
    assert old_id != Config.from_env(deployment.environment).config_id
    done = deployment.run(*MARKET, "--bars", "300")
    assert done.returncode == 0, done.stderr
    deployment.start_worker()
    deployment.settle()

    for topic in (SIGNALS, MANIFOLDS, SUMMARIES, GATES, WEIGHTS):
        ids = {e.config_id for e in deployment.events(topic) if hasattr(e, "config_id")}
        assert ids == {old_id}, topic
    with LogReader(deployment.runtime) as reader:
        stamped = {f.headers["config_id"] for batch in reader.read(WEIGHTS, 0) for f in batch}
    assert stamped == {old_id}
    deployment.require_verified()

    same = ("config", "set", "ALLOC_TOP_K=3", "--reason", "the same", "--json")
    done = deployment.run(*same)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["config_id"], answer["changes"], answer["offset"]) == (old_id, [], None)
    assert len(configs(deployment)) == 1, "the same settings were written again"
    shown = json.loads(deployment.run("config", "show", "--json").stdout)
    assert (shown["active_config_id"], shown["differs"]) == (old_id, [])
    assert json.loads(deployment.run("status", "--json").stdout)["config_id"] == old_id

    # only a change makes a new record, and with it a new id; it names what the old one named
    changed = deployment.run("config", "set", "ALLOC_TOP_K=2", "--reason", "a change", "--json")
    assert changed.returncode == 0, changed.stderr
    assert json.loads(changed.stdout)["config_id"] != old_id
    first, second = (json.loads(record.value) for record in configs(deployment))
    assert second == first | {"ALLOC_TOP_K": 2}
