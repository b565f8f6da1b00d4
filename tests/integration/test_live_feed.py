"""The live synthetic feed as a process: nothing carries a time that has not come."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from streams.control import ControlLog
from streams.control_log import read_control
from streams.feed.live import run_feed
from streams.feed.synthetic import synthetic_market
from streams.settings import Config
from streams.stack.kafka import KafkaBroker
from streams.topics import CANDLES
from tests.deployment import Deployment

pytestmark = pytest.mark.kafka

PAIRS = ("EUR_USD", "NZD_USD")
MINUTE_MS = 60_000
FRIDAY_MS = 1_709_326_800_000
"""2024-03-01 21:00 UTC: the market closes 59 minutes later, for the weekend."""


@pytest.fixture
def deployment(kafka: KafkaBroker, topic_prefix: str, tmp_path: Path) -> Deployment:
    return Deployment(
        tmp_path,
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        TOPIC_PREFIX=topic_prefix,
        TOPIC_PARTITIONS="2",
        HOTBAND_PAIRS=",".join(PAIRS),
    )


def control(deployment: Deployment) -> ControlLog:
    return read_control(deployment.runtime, deployment.codec)


def test_a_feed_whose_first_bar_is_to_come_waits_and_writes_nothing(
    deployment: Deployment,
) -> None:
    start_ms = int(time.time() * 1000) // MINUTE_MS * MINUTE_MS + 3 * 3_600_000
    feed = subprocess.Popen(
        [sys.executable, "-m", "streams", "feed", "synthetic", "--live", "--start", f"@{start_ms}"],
        env=deployment.environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 120
    while not control(deployment).records:
        assert feed.poll() is None, feed.communicate()
        assert time.monotonic() < end
        time.sleep(0.2)
    # the opening watermark came at once when it did not wait
    time.sleep(2)
    assert feed.poll() is None, feed.communicate()
    assert [record.kind for _, record in control(deployment).records] == ["config"]
    assert deployment.events(CANDLES) == []
    feed.send_signal(signal.SIGTERM)
    _, said = feed.communicate(timeout=60)
    assert feed.returncode == 0, said
    assert said == ""


def test_a_feed_started_again_at_a_weekend_writes_nothing_before_the_opening(
    deployment: Deployment,
) -> None:
    config = Config.from_env(deployment.environment)
    before_the_close = 59
    codec, runtime = deployment.codec, deployment.runtime
    market = synthetic_market(1, PAIRS, FRIDAY_MS, before_the_close)
    run_feed(runtime, codec, config, PAIRS, "M1", market, "test", 0)
    ends = deployment.status().ends
    waits: list[int] = []

    def pace(until_ms: int) -> None:
        if not waits:
            # what is in the log while it waits for the opening
            assert deployment.status().ends == ends
        waits.append(until_ms)

    market = synthetic_market(1, PAIRS, FRIDAY_MS, before_the_close + 2)
    assert run_feed(runtime, codec, config, PAIRS, "M1", market, "test", 0, pace) > 0
    opening_ms = 1_709_503_500_000  # Sunday 2024-03-03 22:05 UTC
    assert waits == [opening_ms, opening_ms + MINUTE_MS, opening_ms + 2 * MINUTE_MS]
