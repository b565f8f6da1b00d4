"""The programs of ``examples/``, run as they are."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streams.process.child import free_port
from streams.records.events import Candle, Watermark
from streams.records.topics import CANDLES, FILLS, ORDERS
from streams.records.trading_events import BrokerReport, OrderIntent
from streams.stack.kafka import KafkaBroker
from streams.stack.registry_server import RegistryServer
from tests.support.candle_files import market, write_csv
from tests.support.deployment import Deployment, PatientChild
from tests.support.example_venue import VenueService
from tests.support.trading import SETTINGS, await_that, script_of, switch_off
from tests.support.waiting import PATIENCE_S

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


def run(
    name: str, *arguments: str, given: str = "", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        input=given,
        env=env or dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., PatientChild]]:
    """Start an example that goes on; it is ended after the test."""
    made: list[PatientChild] = []

    def start(name: str, *arguments: str, env: dict[str, str]) -> PatientChild:
        command = [sys.executable, str(EXAMPLES / name), *arguments]
        made.append(PatientChild(name, command, tmp_path / f"{name}.log", env=env))
        made[-1].start()
        return made[-1]

    yield start
    for child in made:
        child.stop()


@pytest.fixture
def deployment(
    kafka: KafkaBroker, topic_prefix: str, valkey_url: str, tmp_path: Path
) -> Iterator[Deployment]:
    made = Deployment(
        tmp_path,
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        TOPIC_PREFIX=topic_prefix,
        VALKEY_URL=valkey_url,
        **SETTINGS,
    )
    yield made
    made.stop()


def test_a_screen_is_enough_for_each() -> None:
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 150, path.name


def test_a_file_is_backtested(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "candles.csv", market(["EUR_USD", "GBP_USD"], 3_000))
    said = run("backtest_file.py", path).stdout
    first = said.splitlines()[0]
    assert first.endswith("signals") and int(first.split()[0].replace(",", "")) > 5_000
    for name in ("EUR_USD", "GBP_USD"):
        (line,) = [line for line in said.splitlines() if line.startswith(f"{name}: ")]
        assert int(line.split()[1]) > 0, said


@pytest.mark.kafka
def test_weights_are_read_by_a_client_of_others(
    deployment: Deployment, started: Callable[..., PatientChild]
) -> None:
    registry = RegistryServer(free_port(), deployment.runtime.topic_prefix)
    registry.start()
    try:
        script = script_of(deployment)
        script.bar({"EUR_USD": 1, "GBP_USD": -1})
        env = deployment.environment | {"SCHEMA_REGISTRY_URL": registry.url}
        reader = started("read_weights.py", env=env)
        wanted = "published {'EUR_USD': 0.5, 'GBP_USD': 0.5}"
        await_that(lambda: wanted in reader.last_output(5), lambda: reader.last_output(20))
        script.bar({"GBP_USD": 0})
        wanted_next = "published {'EUR_USD': 1.0}"
        await_that(lambda: wanted_next in reader.last_output(5), lambda: reader.last_output(20))
    finally:
        registry.stop()


def ticks(minutes: int) -> str:
    """Return ticks of some minutes: EUR_USD three times in each, GBP_USD in the even ones."""
    lines = []
    for minute in range(minutes):
        at = f"2024-03-04T{10 + minute // 60:02d}:{minute % 60:02d}"
        for second in (1, 20, 59):
            bid = 1.08 + minute / 10_000 + second / 100_000
            lines.append(f"{at}:{second:02d}Z EUR_USD {bid:.5f} {bid + 0.0001:.5f}")
        if minute % 2 == 0:
            lines.append(f"{at}:59Z GBP_USD 1.27000 1.27020")
    return "\n".join(lines) + "\n"


@pytest.mark.kafka
def test_ticks_become_candles_once(deployment: Deployment) -> None:
    names, env = ("EUR_USD", "GBP_USD"), deployment.environment
    run("add_feed.py", *names, given=ticks(5), env=env)
    run("add_feed.py", *names, given=ticks(9), env=env)  # the same again, and more
    found = deployment.events(CANDLES)
    candles = [one for one in found if isinstance(one, Candle)]
    euro = [one for one in candles if one.instrument == "EUR_USD"]
    # the last minute is not known to be complete
    assert [one.bar_ms for one in euro] == [euro[0].bar_ms + n * 60_000 for n in range(8)]
    assert {one.volume for one in euro} == {3}
    assert euro[0].bid is not None and euro[0].bid[:] == (1.08001, 1.08059, 1.08001, 1.08059)
    assert len([one for one in candles if one.instrument == "GBP_USD"]) == 4
    newest = max(one.as_of_ms for one in candles)
    for name in names:
        covered = [one for one in found if isinstance(one, Watermark) and name in one.instruments]
        assert max(one.as_of_ms for one in covered) == newest


@pytest.mark.kafka
def test_the_executor_trades_at_the_venue(
    deployment: Deployment, started: Callable[..., PatientChild]
) -> None:
    venue = VenueService(free_port()).start()
    try:
        switch_off(deployment)
        script = script_of(deployment)
        script.bar({})
        executor = started("add_venue.py", venue.url, env=deployment.environment)
        time.sleep(0.5)
        until = time.monotonic() + PATIENCE_S
        while not venue.trades:  # an entry has one chance: the executor may not be there yet
            assert executor.running and time.monotonic() < until, executor.last_output(20)
            script.bar({"EUR_USD": 0})
            script.bar({"EUR_USD": 1})
            deployment.keep_running(2.0, lambda: bool(venue.trades))
        (trade,) = venue.trades
        assert trade["instrument"] == "EUR_USD" and float(trade["units"]) > 0
        assert trade["stop_loss"] < 1.1 < trade["take_profit"]
        script.bar({"EUR_USD": 0})
        await_that(lambda: not venue.trades, lambda: executor.last_output(20))
        await_that(lambda: len(reports(deployment)) >= 2, lambda: executor.last_output(20))
        intents = {one.order_id: one for one in deployment.events(ORDERS)
                   if isinstance(one, OrderIntent) and one.submitted}  # fmt: skip
        assert set(venue.submitted) <= intents.keys()
        assert len(set(venue.submitted)) == len(venue.submitted)
        assert all(one.status == "filled" for one in reports(deployment))
    finally:
        venue.stop()


def reports(deployment: Deployment) -> list[BrokerReport]:
    return [one for one in deployment.events(FILLS) if isinstance(one, BrokerReport)]
