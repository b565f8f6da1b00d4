"""How old what stands in Valkey may be, who is away when it is too old, and what lag says."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import redis
from confluent_kafka import Consumer, Producer, TopicPartition

from streams.candles.calendar import calendar_of
from streams.config.settings import Config
from streams.feeds.synthetic import MarketRates, synthetic_market
from streams.kafka.client import confluent_config, producer_config
from streams.kafka.lag import LagProbe
from streams.kafka.reader import LogReader
from streams.records.events import GateDecision, Manifold
from streams.records.topics import GATES, MANIFOLDS, MIRRORED, STAGE_SOURCES, WEIGHTS
from streams.stack.kafka import KafkaBroker
from tests.support.deployment import LIVELY, Deployment
from tests.support.sample_events import SAMPLES
from tests.support.service import ServiceProcess
from tests.support.trading import BarByBar

pytestmark = pytest.mark.kafka

PAIRS = ("EUR_USD", "USD_JPY")
PAIR = "EUR_USD"
MINUTE_MS, HOUR_MS = 60_000, 3_600_000
QUIET_MS = 91_000
"""Longer than a bar and the 30 s that a price may be old."""
WITHOUT_CHANCE = MarketRates(quiet=0, late=0, duplicate=0)


def now_ms() -> int:
    return int(time.time() * 1000)


class Place:
    """A log in echo mode whose last bar ended a minute and a half ago, or somewhat more."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.valkey = redis.Redis.from_url(
            deployment.environment["VALKEY_URL"], decode_responses=True
        )
        start_ms = self._due_ms() - 140 * MINUTE_MS
        always = calendar_of(Config.from_env(deployment.environment))
        bars = synthetic_market(3, PAIRS, start_ms, None, rates=WITHOUT_CHANCE, calendar=always)
        self._market = BarByBar(deployment, bars, start_ms)
        self.as_of_ms = start_ms
        deployment.start_worker()
        deployment.start("mirror", "mirror")
        self.service = ServiceProcess(deployment)
        self.service.start()

    def go_on(self) -> None:
        """Write the bars that are due, and wait until they are in Valkey."""
        while self.as_of_ms < self._due_ms():
            self.as_of_ms = self._market.next().as_of_ms
        self.service.wait_until(lambda: self._blob().get("ts") == self.as_of_ms)

    def signal(self, name: str) -> dict[str, Any]:
        """Return a failure signal as the service shows it."""
        signals = self.service.get("/api/global-status").json["signals"]
        return next((one for one in signals if one["name"] == name), {"state": "none"})

    def check(self, name: str) -> dict[str, Any]:
        """Return a line of the checklist."""
        checks = self.service.get("/api/preflight").json["checks"]
        return next(one for one in checks if one["name"] == name)

    def hydrator(self) -> dict[str, Any]:
        """Return the hydrator's status."""
        found: dict[str, Any] = self.service.get("/status", "HYDRATOR_STATUS_PORT").json
        return found

    def _blob(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.valkey.get("opt:rolling:gates_blob") or "{}")
        return found

    @staticmethod
    def _due_ms() -> int:
        return (now_ms() - QUIET_MS) // MINUTE_MS * MINUTE_MS


@pytest.fixture(scope="module")
def stack(
    kafka: KafkaBroker, new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    deployment = Deployment(
        tmp_path_factory.mktemp("freshness"),
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        TOPIC_PREFIX="freshness.",
        TOPIC_PARTITIONS="2",
        VALKEY_URL=new_database(),
        HOTBAND_PAIRS=",".join(PAIRS),
        MARKET_CALENDAR="continuous",
        SESSION_TRADING_ENABLED="0",
        **LIVELY | {"GATE_MODE": "echo", "ECHO_MIN_REPETITIONS": "1"},
    )
    try:
        place = Place(deployment)
        yield place
        place.valkey.close()
    finally:
        deployment.stop()


@pytest.fixture
def place(stack: Place) -> Place:
    stack.go_on()
    return stack


def test_a_quiet_minute_fails_no_check_and_no_key_expires_in_it(place: Place) -> None:
    assert now_ms() - place.as_of_ms > 90_000
    for name in ("manifold_age", "signal_age"):
        place.service.wait_until(lambda name=name: place.check(name)["state"] == "ok")  # type: ignore[misc]
    assert place.hydrator()["stale"] == []
    assert place.hydrator()["max_age_sec"] == 300
    left_ms = place.as_of_ms + 300_000 - now_ms()
    assert 0 < place.valkey.pttl(f"ws:last:manifold:{PAIR}") <= left_ms + 1_000


def test_the_blob_of_the_echo_mode_has_repetition_and_hazard_and_no_buffers(place: Place) -> None:
    blob = json.loads(place.valkey.get("opt:rolling:gates_blob") or "")
    at_ms = blob["ts"]
    decided = {
        e.instrument: e
        for e in place.deployment.events(GATES)
        if isinstance(e, GateDecision) and e.as_of_ms == at_ms
    }
    seen = {
        e.instrument: e
        for e in place.deployment.events(MANIFOLDS)
        if isinstance(e, Manifold) and e.as_of_ms == at_ms
    }
    assert set(seen) == set(decided) == set(PAIRS)
    assert blob == {
        "ts": at_ms,
        "gates": {name: int(decided[name].eligible) for name in PAIRS},
        "cooldowns": dict.fromkeys(PAIRS, 0),
        "bufs": dict.fromkeys(PAIRS, 0),
        "repetition": {
            name: {"count_1h": one.count_1h, "first_seen_ms": one.first_seen_ms}
            for name, one in seen.items()
        },
        "hazard": {name: one.lambda_hazard for name, one in seen.items()},
    }
    place.deployment.require_verified()


def test_a_key_that_is_gone_is_missing_although_the_history_is_fresh(place: Place) -> None:
    place.service.wait_until(lambda: place.signal("manifold_stale")["state"] == "ok")
    text = place.valkey.get(f"ws:last:manifold:{PAIR}")
    left_ms = place.valkey.pttl(f"ws:last:manifold:{PAIR}")
    place.valkey.delete(f"ws:last:manifold:{PAIR}")
    try:
        assert place.hydrator()["stale"] == [PAIR]
        place.service.wait_until(lambda: place.signal("manifold_stale")["state"] == "fail")
        assert f"{PAIR} is not in Valkey" in place.signal("manifold_stale")["detail"]
        assert place.check("manifold_age")["state"] == "fail"
    finally:
        place.valkey.set(f"ws:last:manifold:{PAIR}", text, px=max(1, left_ms))


def test_with_the_mirror_stopped_the_signals_name_it_and_the_hydrator_tells_of_valkey(
    place: Place,
) -> None:
    deployment, key = place.deployment, f"ws:last:manifold:{PAIR}"
    deployment.processes.pop("mirror").stop()
    try:
        newest = json.loads(place.valkey.get(key) or "")
        older = newest | {"ts_ms": place.as_of_ms - HOUR_MS}
        place.valkey.delete(f"ws:manifold:hist:{PAIR}")
        place.valkey.set(key, json.dumps(older))
        blob = json.loads(place.valkey.get("opt:rolling:gates_blob") or "")
        place.valkey.set(
            "opt:rolling:gates_blob", json.dumps(blob | {"ts": place.as_of_ms - HOUR_MS})
        )
        found = place.hydrator()
        # the log knows better, and is not asked
        log = place.service.get(f"/api/manifold/latest?instrument={PAIR}").json
        assert log["as_of_ms"] == place.as_of_ms
        assert found["stale"] == [PAIR]
        assert found["instruments"][PAIR]["as_of_ms"] == place.as_of_ms - HOUR_MS
        place.service.wait_until(lambda: place.signal("gates_blob_stale")["state"] == "fail")
        said = place.signal("gates_blob_stale")
        assert "the mirror is down" in said["detail"] and "manifold mirror" in said["action"]
    finally:
        assert deployment.run("mirror", "--rebuild").returncode == 0
        deployment.start("mirror", "mirror")


def test_lag_is_right_in_the_middle_of_a_transaction(place: Place) -> None:
    deployment = place.deployment
    deployment.settle()
    runtime = deployment.runtime
    topic, group = runtime.topic(GATES), runtime.application
    with LogReader(runtime) as reader:
        low, high = reader.bounds(GATES, 0)
        assert high - low > 200
        settings = {
            "transactional.id": f"{runtime.topic_prefix}between",
            "transaction.timeout.ms": 300_000,
        }
        producer = Producer(producer_config(runtime) | settings)
        consumer = Consumer(confluent_config(runtime) | {"group.id": group})
        producer.init_transactions(30)
        producer.begin_transaction()
        try:
            offset = [TopicPartition(topic, 0, high)]
            producer.send_offsets_to_transaction(offset, consumer.consumer_group_metadata(), 30)
            bounds = {
                t: reader.all_bounds(t, reader.partitions(t))
                for t in {*STAGE_SOURCES.values(), *MIRRORED}
            }
            lag, _ = LagProbe(runtime).look(reader, bounds)
            assert lag["weights"] <= 2 * len(PAIRS)
            assert deployment.status().lag["weights"] <= 2 * len(PAIRS)
            verified = deployment.run("verify", "--json")
            assert verified.returncode == 0, verified.stderr
            # what is not known to be processed would be left out
            assert json.loads(verified.stdout)["topics"][WEIGHTS]["compared"] >= 100
        finally:
            producer.abort_transaction(30)
            consumer.close()


# -- bars of an hour -------------------------------------------------------------------------------


def test_the_last_manifold_of_an_hour_lives_until_the_next_one_must_be_there(
    kafka: KafkaBroker, valkey_url: str, topic_prefix: str, tmp_path: Any
) -> None:
    deployment = Deployment(
        tmp_path,
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        TOPIC_PREFIX=topic_prefix,
        TOPIC_PARTITIONS="2",
        VALKEY_URL=valkey_url,
        HOTBAND_PAIRS=PAIR,
        CANDLE_GRAN="H1",
        MARKET_CALENDAR="continuous",
    )
    try:
        mirror = deployment.start("mirror", "mirror")
        service = ServiceProcess(deployment)
        service.start()
        sample, as_of_ms = SAMPLES["Manifold"], now_ms() - 40 * MINUTE_MS
        assert isinstance(sample, Manifold)
        record = sample._replace(
            instrument=PAIR, granularity="H1", bar_ms=as_of_ms - HOUR_MS, as_of_ms=as_of_ms
        )
        producer = Producer(producer_config(deployment.runtime))
        value = deployment.codec.encode(MANIFOLDS, record)
        producer.produce(
            deployment.runtime.topic(MANIFOLDS), value, PAIR.encode(), timestamp=as_of_ms
        )
        assert producer.flush(30) == 0
        key = f"ws:last:manifold:{PAIR}"
        with closing(redis.Redis.from_url(valkey_url)) as client:
            service.wait_until(lambda: client.exists(key))
            expires_ms = client.pexpiretime(key)
            assert expires_ms == as_of_ms + HOUR_MS + 500 + 60_000
            service.wait_until(
                lambda: service.get("/status", "HYDRATOR_STATUS_PORT").json["count"] == 1
            )
            found = service.get("/status", "HYDRATOR_STATUS_PORT").json
            assert (found["stale"], found["max_age_sec"]) == ([], 3_660.5)

            def state() -> Any:
                signals = service.get("/api/global-status").json["signals"]
                return next((s["state"] for s in signals if s["name"] == "manifold_stale"), None)

            service.wait_until(lambda: state() == "ok")
            client.delete(key)
            service.wait_until(lambda: state() == "fail")
        said = mirror.child.log.read_text()
        assert "SESSION_PATTERN_MIN_OCCURRENCES requires 2: nothing will be eligible" in said
        assert "is shorter than the TTL of ws:last:manifold" in said
    finally:
        deployment.stop()
