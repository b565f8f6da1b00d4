"""`manifold warmup` on a real broker and Valkey: what stands still, what is missing, kill -9."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import redis

from streams.config.kill_switch import KillSwitchSettings
from streams.config.settings import Config
from streams.monitoring.alerts import failure_signals
from streams.monitoring.collect import Gathered, Gatherer
from streams.monitoring.sources import open_gatherer
from streams.monitoring.warmup.warmup import Warmup
from streams.records.events import Candle
from streams.records.topics import CANDLES
from streams.stack.kafka import KafkaBroker
from streams.trading.kill_switch.reader import KillSwitchReader
from tests.support.candle_files import market, write_csv
from tests.support.deployment import Deployment
from tests.support.v20 import V20Server
from tests.support.waiting import PATIENCE_S, until

pytestmark = pytest.mark.kafka

PAIRS = ("EUR_USD", "USD_JPY")
BARS = 180
"""More than the first window, less than a full window of repetitions."""


def deployment_of(
    kafka: KafkaBroker, prefix: str, valkey_url: str, directory: Path, **more: str
) -> Deployment:
    return Deployment(
        directory,
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        TOPIC_PREFIX=prefix,
        TOPIC_PARTITIONS="2",
        VALKEY_URL=valkey_url,
        HOTBAND_PAIRS=",".join(PAIRS),
        **more,
    )


def start_all(deployment: Deployment) -> None:
    deployment.start_worker()
    deployment.start("mirror", "mirror")


def candles(deployment: Deployment) -> list[tuple[str, int]]:
    return [(e.instrument, e.bar_ms) for e in deployment.events(CANDLES) if isinstance(e, Candle)]


@pytest.fixture(scope="module")
def warm(
    kafka: KafkaBroker, new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Deployment, dict[str, Any], str]]:
    """A deployment warmed up from a file in spite of two kills; what was said; the file."""
    directory = tmp_path_factory.mktemp("warm")
    deployment = deployment_of(kafka, "warm.", new_database(), directory)
    path = write_csv(directory / "candles.csv", market(PAIRS, BARS))
    command = [sys.executable, "-m", "streams", "warmup", "--from-files", path]
    try:
        start_all(deployment)
        for reached, end_by in ((1, signal.SIGKILL), (BARS, signal.SIGINT)):
            process = subprocess.Popen(
                command, env=deployment.environment, stderr=subprocess.DEVNULL
            )
            until(
                lambda process=process, reached=reached: (
                    deployment.status().ends[CANDLES] >= reached or process.poll() is not None
                )
            )
            process.send_signal(end_by)
            process.wait(PATIENCE_S)
        done = deployment.run("warmup", "--from-files", path, "--json", "--patience", "60")
        assert done.returncode == 0, done.stdout + done.stderr
        yield deployment, json.loads(done.stdout), path
    finally:
        deployment.stop()


def test_killed_at_any_time_it_went_on_and_nothing_is_there_twice(
    warm: tuple[Deployment, dict[str, Any], str],
) -> None:
    deployment, _, _ = warm
    found = candles(deployment)
    assert len(found) == len(set(found)) == len(market(PAIRS, BARS))
    deployment.require_exact()


def test_a_warm_deployment_says_exactly_what_its_history_lacks(
    warm: tuple[Deployment, dict[str, Any], str],
) -> None:
    deployment, said, _ = warm
    assert [step["step"] for step in said["steps"]] == ["backfill", "prime", "hydrate"]
    found = candles(deployment)
    for pair in PAIRS:
        bars = [bar for name, bar in found if name == pair]
        told = said["instruments"][pair]
        assert told["candles"] == len(bars)
        assert told["manifold_ms"] == told["candle_ms"] == max(bars) + 60_000
        assert told["decided_ms"] == told["candle_ms"]
        assert told["missing"]["bars_to_first_window"] == 0
        assert told["missing"]["bars_to_repetitions"] == max(0, 129 + 60 - len(bars))
        days = (max(bars) + 60_000 - min(bars)) / 86_400_000
        assert told["missing"]["days_to_floors"] == pytest.approx(30 - days)


def test_warm_again_writes_nothing(warm: tuple[Deployment, dict[str, Any], str]) -> None:
    deployment, _, path = warm
    before = deployment.status().ends
    again = deployment.run("warmup", "--from-files", path, "--patience", "20")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "0 candles from 1 files" in again.stdout
    assert deployment.status().ends == before


async def step(deployment: Deployment, name: str, **settings: str) -> Mapping[str, str]:
    """Take one step in this process; return its problems."""
    this = Warmup(
        deployment.environment | settings,
        deployment.codec,
        files=(),
        days=None,
        patience_sec=1.0,
        progress=lambda what, done, total: None,
    )
    return (await this.run([name]))[0].problems


async def test_a_mirror_that_lost_a_pair_is_named(
    warm: tuple[Deployment, dict[str, Any], str],
) -> None:
    deployment, _, _ = warm
    with redis.Redis.from_url(deployment.environment["VALKEY_URL"]) as client:
        key = "sep:signal_index:EUR_USD"
        kept = client.dump(key)
        client.delete(key)
        problems = await step(deployment, "hydrate")
        client.restore(key, 0, kept)
    assert problems == {"EUR_USD": "sep:signal_index is missing"}
    assert await step(deployment, "hydrate") == {}


def test_a_pair_without_candles_is_no_success(
    warm: tuple[Deployment, dict[str, Any], str],
) -> None:
    deployment, _, _ = warm
    done = deployment.run("warmup", "--steps", "prime", HOTBAND_PAIRS="EUR_USD,AUD_USD")
    assert done.returncode == 1
    assert "NO AUD_USD: no candle in the log" in done.stdout


async def gathered(gatherer: Gatherer) -> Gathered:
    try:
        await gatherer.gather()
        return await gatherer.gather()
    finally:
        await gatherer.close()


async def test_the_live_facts_are_those_of_the_deployment(
    warm: tuple[Deployment, dict[str, Any], str],
) -> None:
    deployment, said, _ = warm
    env, runtime = deployment.environment, deployment.runtime
    reader = KillSwitchReader(runtime, deployment.codec, KillSwitchSettings.from_env(env))
    found = await gathered(
        open_gatherer(env, runtime, Config.from_env(env), deployment.codec, reader)
    )
    reader.close()
    facts = found.facts
    assert facts.away.keys() == {"executor"}
    assert facts.unused == {"feed", "workers"}
    assert facts.log is not None and facts.valkey is not None and facts.kill_switch is not None
    for pair in PAIRS:
        as_of_ms = said["instruments"][pair]["candle_ms"]
        assert facts.log.candles[pair] == as_of_ms
        assert facts.valkey.manifolds[pair].as_of_ms == as_of_ms
        assert facts.valkey.signals[pair] == facts.valkey.decided[pair] == as_of_ms
    assert facts.log.lag == {"signals": 0, "gates": 0, "weights": 0, "mirror": 0}
    assert facts.log.epochs[-1].epoch_ms == facts.valkey.blob_ms == facts.valkey.status_ms
    assert facts.kill_switch.engaged
    assert facts.kill_switch.logged is None
    states = {one.name: one.state for one in failure_signals(facts, found.now_ms, found.config)}
    assert states["executor_stale"] == "unknown"
    assert states["stage_lag"] == "ok"
    assert states["candle_stale"] in ("fail", "quiet")  # the file's candles are of 2014


async def test_a_source_that_is_away_takes_nothing_with_it(
    warm: tuple[Deployment, dict[str, Any], str],
) -> None:
    deployment, _, _ = warm
    env = deployment.environment | {"VALKEY_URL": "redis://:geheim@127.0.0.1:1/0"}
    runtime = type(deployment.runtime).from_env(env)
    reader = KillSwitchReader(runtime, deployment.codec, KillSwitchSettings.from_env(env))
    found = await gathered(
        open_gatherer(env, runtime, Config.from_env(env), deployment.codec, reader)
    )
    reader.close()
    assert found.facts.log is not None
    assert found.facts.valkey is None
    assert "geheim" not in repr(found)
    states = {
        one.name: one.state for one in failure_signals(found.facts, found.now_ms, found.config)
    }
    assert states["manifold_stale"] == "unknown"
    assert found.facts.kill_switch is not None and found.facts.kill_switch.engaged


def test_nothing_that_runs_is_said_and_ends_it(
    kafka: KafkaBroker, topic_prefix: str, valkey_url: str, tmp_path: Path
) -> None:
    deployment = deployment_of(kafka, topic_prefix, valkey_url, tmp_path)
    empty = deployment.run("warmup", "--patience", "1")
    assert empty.returncode == 2
    assert "no source to fill it from" in empty.stderr
    path = write_csv(tmp_path / "few.csv", market(PAIRS, 20))
    waiting = subprocess.Popen(
        [sys.executable, "-m", "streams", "warmup", "--from-files", path],
        env=deployment.environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    until(lambda: deployment.status().ends[CANDLES] >= 20)
    waiting.send_signal(signal.SIGINT)
    _, said = waiting.communicate(timeout=PATIENCE_S)
    assert waiting.returncode == 130
    assert "the same command continues from here" in said
    assert "Traceback" not in said
    done = deployment.run("warmup", "--from-files", path, "--patience", "1")
    assert done.returncode == 75, done.stderr
    assert "no worker runs; start one: manifold worker" in done.stderr
    assert "signals (" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "now",
    ["2024-03-05T12:00:00Z", "2024-03-09T23:00:00Z", "2024-03-10T20:00:00Z"],
    ids=["Tuesday", "Saturday", "Sunday before the opening"],
)
def test_oanda_fills_an_empty_log_once(
    kafka: KafkaBroker, topic_prefix: str, valkey_url: str, tmp_path: Path, now: str
) -> None:
    with V20Server(start=now) as broker:
        deployment = deployment_of(
            kafka, topic_prefix, valkey_url, tmp_path, **broker.environment()
        )
        done = deployment.run("warmup", "--steps", "backfill", "--days", "1", "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        said = json.loads(done.stdout)
        assert "candles from OANDA" in said["steps"][0]["detail"]
        first = candles(deployment)
        assert {name for name, _ in first} == set(PAIRS)
        assert len(first) == len(set(first)) > 1_000
        assert broker.token not in done.stdout + done.stderr
