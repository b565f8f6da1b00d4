"""Records that decode and make no sense, written to a log whose processes run: nothing ends."""

from __future__ import annotations

import json
import re
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from confluent_kafka import Producer
from prometheus_client.parser import text_string_to_metric_families

from streams.kafka.client import producer_config
from streams.mirror import keys
from streams.mirror.keys import KEYS_OF_OTHERS
from streams.records.events import WATERMARK_KEY, Control, DeadLetter, Weights
from streams.records.topics import (
    CANDLES,
    CONTROL,
    DEAD_LETTERS,
    FILLS,
    GATES,
    MANIFOLDS,
    ORDERS,
    SIGNALS,
    SUMMARIES,
    TOPICS,
    TRADES,
    WEIGHTS,
)
from streams.stack.kafka import KafkaBroker
from tests.support.candle_files import START_MS, market, write_csv
from tests.support.deployment import LIVELY, Deployment
from tests.support.sample_events import SAMPLES
from tests.support.service import ServiceProcess
from tests.support.trading import ExecutorProcess
from tests.support.waiting import PATIENCE_S, until

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


FRAMES: dict[str, bytes | None] = {
    "truncated": b"\0\0\0\0\1junk",
    "unknown_schema_id": b"\0\x7f\xff\xff\xff0123456789",
    "bad_magic": b'{"json":1}',
    "null_value": None,
}
"""Reason -> a value that is no record of any topic; another topic's record is ``wrong_record``."""


HEADERS: list[Any] = [
    ("source", b"md.candles-0--5"),
    ("source", b"x"),
    ("config_id", b"\xff"),
    ("engine", b"<b>"),
]


class Senseless:
    """Writes records that make no sense; ``places`` has the coordinates of all of them."""

    def __init__(self, deployment: Deployment) -> None:
        self._runtime, self._codec = deployment.runtime, deployment.codec
        self._producer = Producer(producer_config(deployment.runtime))
        self._names = {self._runtime.topic(topic): topic for topic in TOPICS}
        self.places: set[str] = set()

    def write(self, records: list[tuple[str, bytes, Any]], framed: Iterable[str]) -> None:
        """Write records, and to some topics bytes that are none, under keys of all kinds."""
        now_ms = int(time.time() * 1000)
        for topic, key, event in records:
            self._send(topic, self._codec.encode(topic, event), key, now_ms)
        for topic in framed:
            for value in (*FRAMES.values(), b""):
                self._send(topic, value, KEY, now_ms)
            self._send(topic, FRAMES["truncated"], b"\xff", now_ms)
            self._send(topic, FRAMES["truncated"], None, now_ms)
            self._send(topic, b"x" * 880_000, b"k" * 50_000, now_ms)
        assert self._producer.flush(30) == 0

    def _send(self, topic: str, value: bytes | None, key: bytes | None, now_ms: int) -> None:
        if key is None and TOPICS[topic].cleanup == "compact":
            return  # the broker refuses it
        self._producer.produce(
            self._runtime.topic(topic),
            value,
            key,
            timestamp=now_ms,
            headers=HEADERS,
            on_delivery=self._delivered,
        )

    def _delivered(self, error: Any, message: Any) -> None:
        assert error is None, (message.topic(), error)
        name = self._names[message.topic()]
        self.places.add(f"{name}-{message.partition()}-{message.offset()}")


def skipped(text: str) -> dict[str, set[str]]:
    """Return the counted records of an exposition: topic -> reasons."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "sep_invalid_records_total" and sample.value > 0:
                found.setdefault(sample.labels["topic"], set()).add(sample.labels["reason"])
    return found


class Running:
    """All processes of a deployment; each is started once, by its supervisor."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment, self.bars = deployment, 0
        self.service = ServiceProcess(deployment)
        self.executor = ExecutorProcess(deployment)

    def start(self) -> None:
        """Start worker, mirror, service and executor, and wait until nothing is left to do."""
        self.deployment.start_worker()
        self.deployment.start("mirror", "mirror")
        self.service.start()
        self.executor.start()
        self.executor.until(lambda said: said["last_cycle_ms"])

    def stop(self) -> None:
        """Stop them."""
        self.deployment.stop()

    def advance(self, bars: int) -> None:
        """Load more candles; weights of the last of them arrive everywhere."""
        file = write_csv(self.deployment.directory / f"{bars}.csv", market(PAIRS, bars))
        done = self.deployment.run("load", file)
        assert done.returncode == 0, done.stderr
        self.deployment.settle()
        last = START_MS + bars * 60_000
        epochs = [e.epoch_ms for e in self.deployment.events(WEIGHTS) if isinstance(e, Weights)]
        # the forged ones have no valid time stamp, so what decodes beyond the candles is theirs
        assert last in epochs, (last, epochs[-3:])

    def require_well(self) -> None:
        """Assert that no process has ended and that service and executor answer."""
        for name, process in self.deployment.processes.items():
            assert process.child.running and not process.restarts, (
                name + self.deployment.last_output()
            )
        health = self.service.get("/health")
        trouble = [said for said in health.json["trouble"] if "restart" in said]
        assert (health.status, trouble) == (200, []), health.json
        assert self.service.get("/api/global-status").status == 200
        assert self.executor.status() is not None, self.executor.words()


def test_nothing_ends_and_everything_valid_is_derived(
    deployment: Deployment, new_database: Callable[[], str]
) -> None:
    """One history: the inputs, then the derived topics, then Valkey, then a start of everything."""
    running, senseless = Running(deployment), Senseless(deployment)
    done = deployment.run("load", write_csv(deployment.directory / "a.csv", market(PAIRS, 150)))
    assert done.returncode == 0, done.stderr
    running.start()
    senseless.write(inputs(), (CANDLES, CONTROL))
    running.advance(180)
    deployment.require_verified()
    senseless.write(derived(), TOPICS)
    running.advance(200)
    running.require_well()

    letters = [e for e in deployment.events(DEAD_LETTERS) if isinstance(e, DeadLetter)]
    reasons = {letter.reason for letter in letters}
    assert reasons >= {"control_missing", "invalid_candle", "invalid_watermark", "invalid_value"}
    assert reasons >= FRAMES.keys()
    require_counted(running)
    require_repaired_valkey(running, new_database())
    require_commands(deployment)
    require_strangers_found(deployment, senseless.places)

    # what lies in the log for ever is read again at every start
    running.stop()
    running.start()
    running.advance(220)
    running.require_well()


def require_counted(running: Running) -> None:
    """Assert that service and executor say which topics' records they skip, and why."""
    followed = {topic: set(FRAMES) for topic in (GATES, WEIGHTS, MANIFOLDS, CONTROL, CANDLES)}
    followed[GATES] = followed[GATES] | {"invalid_value"}
    followed[WEIGHTS] = followed[WEIGHTS] | {"invalid_value"}
    followed[CONTROL] = followed[CONTROL] | {"invalid_value"}

    def missing_of_service() -> dict[str, set[str]]:
        found = skipped(running.service.get("/metrics").body.decode())
        return {t: left for t, r in followed.items() if (left := r - found.get(t, set()))}

    until(lambda: not missing_of_service(), lambda: str(missing_of_service()), 0.5)
    address = f"http://127.0.0.1:{running.executor.port}/metrics"
    with urllib.request.urlopen(address, timeout=PATIENCE_S) as answer:
        found = skipped(answer.read().decode())
    for topic in (GATES, WEIGHTS):
        assert found[topic] >= FRAMES.keys() | {"invalid_value"}, found


def require_repaired_valkey(running: Running, other_url: str) -> None:
    """Assert that values of others in Valkey hold nobody up, and are written anew."""
    deployment = running.deployment
    client: Any
    with redis.Redis.from_url(deployment.environment["VALKEY_URL"]) as client:
        for key in client.scan_iter("opt:best_config*"):
            json.loads(client.get(key), parse_constant=pytest.fail)
        kept = {kind.pattern.encode() for kind in KEYS_OF_OTHERS}
        position = client.hkeys(keys.POSITIONS)[0]
        for key in [each for each in client.scan_iter(count=5_000) if each not in kept]:
            kind = client.type(key)
            client.delete(key)
            if kind == b"string":
                client.rpush(key, "junk")
            else:
                client.set(key, "junk")
        assert running.service.get("/health").status == 200
        client.delete(keys.GUARD, keys.POSITIONS)
        client.hset(keys.GUARD, keys.eligible_key(PAIRS[0]), "junk")
        client.delete(keys.history_key(PAIRS[0]))
        client.zadd(keys.history_key(PAIRS[0]), {"junk": float("inf")})
        assert running.service.get("/api/global-status").status == 200
        client.flushdb()
        client.hset(keys.POSITIONS, position, "junk")
        until(lambda: client.hget(keys.POSITIONS, position) != b"junk", deployment.last_output)
    deployment.settle()
    running.require_well()
    deployment.require_mirror_equals_rebuild(other_url)


def require_commands(deployment: Deployment) -> None:
    """Assert that every command that reads the log goes on to its end."""
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


def require_strangers_found(deployment: Deployment, places: set[str]) -> None:
    """Assert that ``verify`` counts records of others as differences, and nothing else."""
    verified = deployment.run("verify", "--json")
    assert verified.returncode == 1, verified.stderr
    found = {
        topic: one["difference"] for topic, one in json.loads(verified.stdout)["topics"].items()
    }
    for topic in (SIGNALS, MANIFOLDS, TRADES, SUMMARIES, GATES, WEIGHTS):
        place = re.search(rf"{topic}-\d+-\d+", found[topic] or "")
        assert place is not None and place[0] in places, (topic, found[topic])
