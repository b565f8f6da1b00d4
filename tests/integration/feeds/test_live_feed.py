"""The live synthetic feed and its calendar: no time that has not come, no real prices beside it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from streams.config.settings import Config
from streams.feeds.live import run_feed
from streams.feeds.synthetic import synthetic_market
from streams.kafka.control_topic import read_control, seed_config
from streams.records.control import ControlLog
from streams.records.topics import CANDLES
from streams.stack.kafka import KafkaBroker
from streams.stack.up import Ports, Stack, StackPlan, stack_settings
from tests.support.deployment import Deployment
from tests.support.v20 import V20Server

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
    run_feed(runtime, codec, config, PAIRS, "M1", market, "test", 1_600_000_000_000)
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


@pytest.mark.parametrize("made_with", ["fx", "continuous"])
def test_a_stack_goes_on_with_the_calendar_of_its_log_and_says_so(
    kafka: KafkaBroker, deployment: Deployment, tmp_path: Path, made_with: str
) -> None:
    other = {"fx": "continuous", "continuous": "fx"}[made_with]
    environment = deployment.environment | {"MARKET_CALENDAR": made_with}
    made = Config.from_env(environment)
    seed_config(deployment.runtime, deployment.codec, made, control(deployment), 1_600_000_000_000)
    said: list[str] = []
    plan = StackPlan("kafka", tmp_path / "stack", Ports(broker=kafka.port), 1, FRIDAY_MS, None)
    same = Stack(plan, environment)
    same._follow_calendar(said.append)
    assert said == []
    stack = Stack(plan, environment | {"MARKET_CALENDAR": other})
    stack._follow_calendar(said.append)
    assert len(said) == 1
    assert f"MARKET_CALENDAR={made_with}" in said[0] and "--data-dir" in said[0]
    # what its processes are given agrees with the log
    assert Config.from_env(stack.environment) == made
    assert f"MARKET_CALENDAR={made_with}" in stack._env_text()


def test_a_stack_trades_at_weekends_unless_told_otherwise(deployment: Deployment) -> None:
    plain = deployment.environment
    assert Config.from_env(plain).market_calendar == "fx"
    assert Config.from_env(stack_settings(plain)).market_calendar == "continuous"
    told = stack_settings(plain | {"MARKET_CALENDAR": "fx"})
    assert Config.from_env(told).market_calendar == "fx"


@pytest.mark.parametrize(
    ("active", "here", "said"),
    [
        (None, "continuous", "is set here"),
        ("continuous", "continuous", "is active in ops.control"),
        ("continuous", "fx", "is active in ops.control"),
    ],
)
def test_no_price_of_oanda_enters_a_synthetic_market(
    deployment: Deployment, active: str | None, here: str, said: str
) -> None:
    if active is not None:
        made = Config.from_env(deployment.environment | {"MARKET_CALENDAR": active})
        seed_config(
            deployment.runtime, deployment.codec, made, control(deployment), 1_600_000_000_000
        )
    before = control(deployment).end
    with V20Server(hours="always") as broker:
        for command in (
            ("feed", "oanda", "--once"),
            ("warmup", "--steps", "backfill", "--days", "1"),
        ):
            settings = broker.environment() | {"MARKET_CALENDAR": here}
            done = deployment.run(*command, **settings)
            assert done.returncode == 2, done.stdout + done.stderr
            (line,) = [one for one in done.stderr.splitlines() if one.startswith("manifold: ")]
            assert "MARKET_CALENDAR=continuous" in line and said in line
    assert deployment.events(CANDLES) == []
    assert control(deployment).end == before


def test_an_environment_of_a_synthetic_market_follows_a_log_of_real_prices(
    deployment: Deployment,
) -> None:
    made = Config.from_env(deployment.environment | {"MARKET_CALENDAR": "fx"})
    seed_config(deployment.runtime, deployment.codec, made, control(deployment), 1_600_000_000_000)
    with V20Server(hours="always") as broker:
        settings = broker.environment() | {"MARKET_CALENDAR": "continuous"}
        done = deployment.run("feed", "oanda", "--once", "--json", **settings)
    assert done.returncode == 0, done.stderr
    assert "MARKET_CALENDAR is continuous here, fx is active" in done.stderr
    assert deployment.events(CANDLES)
