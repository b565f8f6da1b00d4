"""Records that decode and make no sense, written to a log whose processes run: nothing ends."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from streams.kafka.client import producer_config
from streams.records.events import WATERMARK_KEY, Control, DeadLetter
from streams.records.topics import (
    CANDLES,
    CONTROL,
    DEAD_LETTERS,
    FILLS,
    GATES,
    MANIFOLDS,
    ORDERS,
    SUMMARIES,
    TOPICS,
    WEIGHTS,
)
from streams.stack.kafka import KafkaBroker
from tests.support.candle_files import market, write_csv
from tests.support.deployment import LIVELY, Deployment
from tests.support.sample_events import SAMPLES

pytestmark = pytest.mark.kafka

PAIRS = ("EUR_USD", "USD_JPY")
FAR_MS = 3_999_999_960_000
KEY = b"EUR_USD"


@pytest.fixture
def deployment(kafka: KafkaBroker, valkey_url: str, tmp_path: Path) -> Iterator[Deployment]:
    made = Deployment(
        tmp_path,
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        VALKEY_URL=valkey_url,
        TOPIC_PREFIX=f"t{uuid.uuid4().hex[:8]}.",
        TOPIC_PARTITIONS="2",
        **LIVELY,
    )
    yield made
    made.stop()


def control(kind: Any, value: str, instrument: str | None = None) -> tuple[str, bytes, Any]:
    now_ms = int(time.time() * 1000)
    return CONTROL, kind.encode(), Control(kind, instrument, value, "test", "test", now_ms)


def inputs() -> list[tuple[str, bytes, Any]]:
    """Return senseless records of the topics that the stages' inputs come from."""
    candle: Any = SAMPLES["Candle"]
    mark: Any = SAMPLES["Watermark"]
    mark = mark._replace(instruments=("GBP_USD",), not_waited_for=())
    now_ms = int(time.time() * 1000)
    return [
        (CANDLES, WATERMARK_KEY, mark._replace(as_of_ms=now_ms, control_offset=10**9)),
        (CANDLES, WATERMARK_KEY, mark._replace(as_of_ms=now_ms, control_offset=40)),
        (CANDLES, WATERMARK_KEY, mark._replace(as_of_ms=FAR_MS)),
        (CANDLES, KEY, candle._replace(bar_ms=FAR_MS - 60_000, as_of_ms=FAR_MS)),
        (CANDLES, b"x/y", candle._replace(instrument="x/y\n<img src=x onerror=alert(1)>")),
        (CANDLES, KEY, candle._replace(bar_ms=-60_000, as_of_ms=0)),
        control("audit", "[" * 100_000),
        control("audit", '{"operation":"x","parameters":{"a":1e999}}'),
        control("params", '{"AUTO_MIN_COHERENCE":' + "9" * 400 + "}", "EUR_USD"),
        control("params", '{"params":{},"summary":{"calmar":1e999}}', "EUR_USD"),
        control("universe", '{"instruments":["x/y"],"mode":"replace","from_ms":0}'),
        control("kill_switch", '{"engaged":"perhaps"}'),
    ]


def derived() -> list[tuple[str, bytes, Any]]:
    """Return senseless records of the topics that the processes write."""
    now_ms = int(time.time() * 1000)
    bar = {"bar_ms": FAR_MS - 60_000, "as_of_ms": FAR_MS}
    samples: dict[str, Any] = dict(SAMPLES)
    order = samples["OrderIntent"]._replace(granularity="D", transaction_id="\u00b2")
    return [
        (MANIFOLDS, KEY, samples["Manifold"]._replace(**bar)),
        (MANIFOLDS, b"GBP_USD", samples["Manifold"]),
        (MANIFOLDS, KEY, samples["Manifold"]._replace(granularity="D")),
        (MANIFOLDS, WATERMARK_KEY, samples["Watermark"]._replace(control_offset=10**9)),
        (SUMMARIES, KEY, samples["Summary"]._replace(span_days=31)),
        (GATES, KEY, samples["GateDecision"]._replace(**bar)),
        (GATES, KEY, samples["GateDecision"]._replace(mode="none", direction=7)),
        (WEIGHTS, b"portfolio", samples["Weights"]._replace(**bar, epoch_ms=FAR_MS)),
        (ORDERS, KEY, order),
        (FILLS, KEY, samples["BrokerReport"]._replace(units=1e300, as_of_ms=now_ms)),
    ]


def write(
    deployment: Deployment, records: list[tuple[str, bytes, Any]], junk: Iterable[str]
) -> None:
    """Write records, and to some topics bytes that are none."""
    producer = Producer(producer_config(deployment.runtime))
    now_ms = int(time.time() * 1000)
    for topic, key, event in records:
        value = deployment.codec.encode(topic, event)
        producer.produce(deployment.runtime.topic(topic), value, key, timestamp=now_ms)
    for topic in junk:
        producer.produce(deployment.runtime.topic(topic), b"\0\0\0\0\1junk", b"\xff")
        producer.produce(deployment.runtime.topic(topic), None, b"EUR_USD")
    assert producer.flush(30) == 0


def load(deployment: Deployment, bars: int) -> None:
    file = write_csv(deployment.directory / f"{bars}.csv", market(PAIRS, bars))
    done = deployment.run("load", file)
    assert done.returncode == 0, done.stderr


def test_nothing_ends_and_everything_valid_is_derived(deployment: Deployment) -> None:
    load(deployment, 150)
    worker, mirror = deployment.start_worker(), deployment.start("mirror", "mirror")
    deployment.settle()
    write(deployment, inputs(), (CANDLES, CONTROL))
    load(deployment, 180)
    deployment.settle()
    deployment.require_verified()
    write(deployment, derived(), TOPICS)
    load(deployment, 200)
    deployment.settle()
    assert (worker.restarts, mirror.restarts) == (0, 0), deployment.last_words()
    letters = [e for e in deployment.events(DEAD_LETTERS) if isinstance(e, DeadLetter)]
    reasons = {letter.reason for letter in letters}
    assert reasons >= {"control_missing", "invalid_candle", "invalid_watermark", "invalid_value"}
    for command in (
        ("status", "--json"),
        ("why", "EUR_USD", "--json"),
        ("kill", "status", "--json"),
        ("report", "--json", "-"),
        ("replay", "--from", "2000-01-01", "--json"),
    ):
        done = deployment.run(*command)
        assert "Traceback" not in done.stderr, (command, done.stderr)
        assert done.returncode in (0, 1), (command, done.returncode, done.stderr)
    for topic in TOPICS:
        done = deployment.run("tail", topic)
        assert done.returncode == 0, done.stderr
        lines = [json.loads(line) for line in done.stdout.split("\n") if line]
        assert any("invalid" in line for line in lines), topic
    verified = deployment.run("verify", "--json")
    assert verified.returncode == 1, verified.stderr
    topics = json.loads(verified.stdout)["topics"]
    assert topics["sep.signals"]["difference"], topics
