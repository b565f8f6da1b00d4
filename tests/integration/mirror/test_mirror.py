"""The mirror on a real Valkey that goes away and comes back."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from streams.records.events import Candle
from streams.records.topics import CANDLES
from streams.stack.kafka import KafkaBroker
from streams.stack.valkey import ValkeyServer
from tests.support.candle_files import market, write_csv
from tests.support.deployment import Deployment, dump
from tests.support.waiting import PATIENCE_S

pytestmark = pytest.mark.kafka

PAIRS = ("EUR_USD", "USD_JPY")


def test_valkey_killed_in_mid_stream_is_caught_up_and_equals_a_rebuild(
    kafka: KafkaBroker,
    new_valkey: Callable[[], ValkeyServer],
    topic_prefix: str,
    tmp_path: Path,
) -> None:
    server = new_valkey()
    deployment = Deployment(
        tmp_path,
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        TOPIC_PREFIX=topic_prefix,
        TOPIC_PARTITIONS="2",
        VALKEY_URL=server.url,
    )
    every = market(PAIRS, 300)
    try:
        deployment.start_worker()
        mirror = deployment.start("mirror", "mirror")
        for part, end in enumerate((200, 400, len(every))):
            if part == 1:
                server.kill()
            path = write_csv(tmp_path / f"{part}.csv", every[:end])
            assert deployment.run("load", path).returncode == 0
            if part == 1:
                server.start()
        deployment.settle()
        assert mirror.restarts == 0
        deployment.require_mirror_equals_rebuild(server.url.removesuffix("/0") + "/1")
        client = redis.Redis.from_url(server.url)
        events = [e for e in deployment.events(CANDLES) if isinstance(e, Candle)]
        for pair in PAIRS:
            wanted = [e.bar_ms for e in events if e.instrument == pair]
            members = client.zrange(f"md:candles:{pair}:M1", 0, -1, withscores=True)
            assert [int(score) for _, score in members] == wanted
            assert [json.loads(text)["t"] for text, _ in members] == wanted
        client.close()
    finally:
        deployment.stop()


@pytest.fixture(scope="module")
def mirrored(
    kafka: KafkaBroker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Deployment, ValkeyServer]]:
    """A deployment whose records are all in Valkey, and whose mirror has nothing to do."""
    directory = tmp_path_factory.mktemp("mirrored")
    server = ValkeyServer(directory / "valkey")
    server.start()
    deployment = Deployment(
        directory,
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        TOPIC_PREFIX="mirrored.",
        TOPIC_PARTITIONS="2",
        VALKEY_URL=server.url,
    )
    path = write_csv(directory / "candles.csv", market(PAIRS, 200))
    try:
        deployment.start_worker()
        assert deployment.run("load", path).returncode == 0
        deployment.settle()
        deployment.start("mirror", "mirror")
        deployment.settle()
        yield deployment, server
    finally:
        deployment.stop()
        server.stop()


def test_what_a_valkey_loses_when_it_is_killed_is_written_again_with_no_new_record(
    mirrored: tuple[Deployment, ValkeyServer],
) -> None:
    deployment, server = mirrored
    held = dump(server.url)
    server.kill()
    (log,) = server.directory.glob("appendonlydir/*.incr.aof")
    os.truncate(log, log.stat().st_size // 2)
    server.start()
    with redis.Redis.from_url(server.url) as client, client.pubsub() as subscribed:
        subscribed.subscribe("ws:manifold")
        assert subscribed.get_message(timeout=PATIENCE_S) is not None
        deployment.settle()
        assert subscribed.get_message(timeout=0.5) is None, "told again what was told before"
    assert "continuing from there" in deployment.processes["mirror"].child.last_output(50)
    assert dump(server.url) == held
    deployment.require_mirror_equals_rebuild(server.url.removesuffix("/0") + "/1")


def test_a_wiped_valkey_is_filled_by_the_mirror_that_runs(
    mirrored: tuple[Deployment, ValkeyServer],
) -> None:
    deployment, server = mirrored
    held = dump(server.url)
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
    deployment.settle()
    assert dump(server.url) == held


def test_a_rebuild_beside_a_mirror_that_runs_and_one_that_was_killed_leave_the_same(
    mirrored: tuple[Deployment, ValkeyServer],
) -> None:
    deployment, server = mirrored
    held = dump(server.url)
    assert deployment.run("mirror", "--rebuild").returncode == 0
    deployment.settle()
    assert dump(server.url) == held
    for wait_s in (0.9, 1.2, 1.5):
        killed = deployment.start("rebuild", "mirror", "--rebuild", once=True)
        time.sleep(wait_s)
        killed.child.kill()
        del deployment.processes["rebuild"]
        deployment.settle()
        assert dump(server.url) == held


def test_another_cluster_is_another_log(
    kafka: KafkaBroker,
    new_kafka: Callable[[], KafkaBroker],
    valkey_url: str,
    topic_prefix: str,
    tmp_path: Path,
) -> None:
    for pair, broker in (("EUR_USD", kafka), ("GBP_USD", new_kafka())):
        place = tmp_path / pair
        place.mkdir()
        deployment = Deployment(
            place,
            KAFKA_BOOTSTRAP_SERVERS=broker.bootstrap,
            TOPIC_PREFIX=topic_prefix,
            TOPIC_PARTITIONS="1",
            VALKEY_URL=valkey_url,
            HOTBAND_PAIRS=pair,
        )
        path = write_csv(place / "candles.csv", market((pair,), 300))
        try:
            assert deployment.run("load", path).returncode == 0
            mirror = deployment.start("mirror", "mirror")
            require_candles(deployment, pair, len(market((pair,), 300)))
            assert mirror.restarts == 0
        finally:
            deployment.stop()


def require_candles(deployment: Deployment, pair: str, wanted: int) -> None:
    with redis.Redis.from_url(deployment.environment["VALKEY_URL"]) as client:
        there = deployment.keep_running(
            30.0, lambda: client.zcard(f"md:candles:{pair}:M1") == wanted
        )
        assert there, deployment.last_output()
