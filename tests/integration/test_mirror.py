"""The mirror on a real Valkey that goes away and comes back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from streams.events import Candle
from streams.stack.kafka import KafkaBroker
from streams.stack.valkey import ValkeyServer
from streams.topics import CANDLES
from tests.candle_files import market, write_csv
from tests.deployment import Deployment

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
