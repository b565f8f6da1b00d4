"""The feed that follows OANDA, as a process, against the test broker: every candle once, as it is.

Bars of five seconds, so that a market of a few bars passes in seconds.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from streams.control_log import read_control
from streams.events import Candle, DeadLetter, Watermark
from streams.feed.live import run_feed
from streams.feed.synthetic import BarArrivals
from streams.replay.log_reader import LogReader
from streams.settings import Config
from streams.stack.child import free_port
from streams.stack.kafka import KafkaBroker
from streams.stages.signals import signals_stage
from streams.topics import CANDLES
from tests.deployment import Deployment
from tests.oanda_venue import MONDAY_MS, candles_of, now_ms, venue
from tests.v20 import V20Process

pytestmark = pytest.mark.kafka

PAIRS = ("EUR_USD", "GBP_USD", "USD_JPY")
BARS, S5 = 150, 5_000


class Feed:
    """The feed's process and where it writes."""

    def __init__(self, deployment: Deployment, broker: V20Process) -> None:
        self.deployment, self.broker = deployment, broker
        self.process: subprocess.Popen[str] | None = None
        self.port = free_port()
        self.log = deployment.directory / "feed.log"

    def start(self, *arguments: str, **settings: str) -> subprocess.Popen[str]:
        environment = self.deployment.environment | {"FEED_METRICS_PORT": str(self.port)} | settings
        with self.log.open("a") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "streams", "feed", "oanda", *arguments],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
            )
        return self.process

    def once(self, **settings: str) -> dict[str, Any]:
        done = self.deployment.run("feed", "oanda", "--once", "--json", **settings)
        assert done.returncode == 0, done.stderr
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.communicate()

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        assert self.process is not None
        self.process.send_signal(number)
        said, _ = self.process.communicate(timeout=20)
        return self.process.returncode, said

    def events(self) -> list[Any]:
        return self.deployment.events(CANDLES)

    def candles(self) -> list[Candle]:
        return [event for event in self.events() if isinstance(event, Candle)]

    def metrics(self) -> dict[str, float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as page:
            lines = page.read().decode().splitlines()
        pairs = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
        return {name: float(value) for name, value in pairs}

    def wait(self, until: Callable[[], bool], seconds: float = 40.0) -> None:
        end = time.monotonic() + seconds
        while not until():
            assert self.process is None or self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.2)

    def wait_for_metric(self, name: str, least: float, seconds: float = 40.0) -> None:
        def reached() -> bool:
            try:
                return self.metrics().get(name, -1.0) >= least
            except OSError:
                return False

        self.wait(reached, seconds)

    def require_exact(self, least: int = 1) -> None:
        """Assert that the log holds the broker's candles, each once, in order, and no others."""
        found = self.candles()
        assert len(found) >= least
        assert len({(c.instrument, c.bar_ms) for c in found}) == len(found), (
            "a candle is there twice"
        )
        theirs = candles_of(self.broker, PAIRS, "S5", min(c.bar_ms for c in found))
        for name in PAIRS:
            mine = [c for c in found if c.instrument == name]
            assert [c.bar_ms for c in mine] == sorted(c.bar_ms for c in mine)
            assert mine == [c for c in theirs.values() if (c.instrument, c.bar_ms) in theirs
                            and c.instrument == name and c.bar_ms <= mine[-1].bar_ms]  # fmt: skip
        self.require_vouched()
        assert self.broker.violations() == []

    def require_vouched(self) -> None:
        """Assert that no watermark came before a candle that it vouches for."""
        with LogReader(self.deployment.runtime) as reader:
            for partition in reader.partitions(CANDLES):
                vouched: dict[str, int] = {}
                for batch in reader.read(CANDLES, partition):
                    for item in batch:
                        event = self.deployment.codec.decode(CANDLES, item.record.value)
                        assert item.record.timestamp_ms == event.as_of_ms  # type: ignore[union-attr]
                        if isinstance(event, Watermark):
                            for name in event.instruments:
                                vouched[name] = max(vouched.get(name, -1), event.as_of_ms)
                        else:
                            assert isinstance(event, Candle)
                            assert event.as_of_ms > vouched.get(event.instrument, -1)

    def dead_letters(self) -> list[str]:
        """Return the reasons for which the signals stage refuses records of the log."""
        codec, found = self.deployment.codec, []
        control = read_control(self.deployment.runtime, codec)
        with LogReader(self.deployment.runtime) as reader:
            for partition in reader.partitions(CANDLES):
                records = [i.record for batch in reader.read(CANDLES, partition) for i in batch]
                processor = signals_stage(codec, control).open(partition, {})
                outputs = processor.process(records).outputs
                found += [o.event.reason for o in outputs if isinstance(o.event, DeadLetter)]
        return found


@pytest.fixture
def broker() -> Iterator[V20Process]:
    made = venue()
    yield made
    made.stop()


@pytest.fixture
def feed(
    kafka: KafkaBroker, topic_prefix: str, tmp_path: Path, broker: V20Process
) -> Iterator[Feed]:
    made = Feed(deployment_at(kafka, topic_prefix, tmp_path, broker), broker)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.kill()


def deployment_at(
    kafka: KafkaBroker, topic_prefix: str, tmp_path: Path, broker: V20Process, **settings: str
) -> Deployment:
    return Deployment(
        tmp_path,
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        TOPIC_PREFIX=topic_prefix,
        TOPIC_PARTITIONS="3",
        HOTBAND_PAIRS=",".join(PAIRS),
        CANDLE_GRAN="S5",
        CANDLE_COUNT=str(BARS),
        OANDA_HTTP_BACKOFF="1.0",
        OANDA_STREAM_SILENCE_SEC="2",
        **broker.environment(),
        **settings,
    )


def test_once_writes_the_last_bars_merged_by_time_and_again_nothing(feed: Feed) -> None:
    first = feed.once()
    feed.require_exact(least=100)
    assert first["candles"] == len(feed.candles())
    assert min(c.bar_ms for c in feed.candles()) >= MONDAY_MS - BARS * S5
    for pair in first["pairs"].values():
        assert pair["settled_ms"] >= MONDAY_MS
        assert pair["trouble"] is None
    control = read_control(feed.deployment.runtime, feed.deployment.codec)
    assert [record.kind for _, record in control.records] == ["config", "universe"]
    assert control.state(control.end).universe.members(MONDAY_MS) == PAIRS
    before = len(feed.candles())
    again = feed.once()
    later = [
        c for c in feed.candles()[before:] if c.as_of_ms <= first["pairs"]["EUR_USD"]["settled_ms"]
    ]
    assert not later, "what was there was written again"
    feed.require_exact()
    control = read_control(feed.deployment.runtime, feed.deployment.codec)
    assert [record.kind for _, record in control.records] == ["config", "universe"]
    assert again["revised"] == again["late"] == 0


def test_a_gap_is_backfilled_in_pages_of_what_the_broker_has(feed: Feed) -> None:
    feed.once()
    feed.broker.advance(8 * 3600)
    gap = feed.once()
    assert gap["candles"] > 1_000
    assert gap["requests"] <= 1 + 4 * len(PAIRS)
    feed.require_exact(least=1_000)


def test_it_follows_the_market_and_is_told_to_stop(feed: Feed) -> None:
    feed.once()
    feed.start("--json")
    feed.wait_for_metric('manifold_feed_candles_total{instrument="EUR_USD"}', 2)
    shown = feed.metrics()
    assert shown["manifold_oanda_clock_skew_seconds"] < -1e6
    assert shown["manifold_oanda_clock_skew_uncertainty_seconds"] < 0.6
    assert (
        shown['manifold_feed_ask{instrument="EUR_USD"}']
        > shown['manifold_feed_bid{instrument="EUR_USD"}']
    )
    assert shown['manifold_feed_spread_bps{instrument="USD_JPY"}'] > 0
    assert 0 <= shown['manifold_oanda_stream_age_seconds{stream="prices"}'] < 2
    assert (
        shown["manifold_oanda_retries_total"] if "manifold_oanda_retries_total" in shown else True
    )
    code, said = feed.end()
    assert code == 0, feed.log.read_text()
    assert json.loads(said)["candles"] >= 2
    feed.require_exact()
    # the last watermark says how far all is known
    vouched = {n: e.as_of_ms for e in feed.events() if isinstance(e, Watermark)
               for n in e.instruments}  # fmt: skip
    assert set(vouched) == set(PAIRS)
    connections = {r["connection"] for r in feed.broker.requests("/candles")}
    assert len(connections) <= 2 * 6


def test_every_candle_is_there_once_through_faults_of_the_broker(feed: Feed) -> None:
    path = "/candles"
    for fault in (
        {"kind": "status", "code": 429, "retry_after": 1, "count": 2},
        {"kind": "status", "code": 500, "count": 3},
        {"kind": "status", "code": 503, "count": 2, "skip": 8},
        {"kind": "cut_before", "count": 2, "skip": 2, "reset": True},
        {"kind": "cut_middle", "count": 2, "skip": 5},
        {"kind": "wrong_json", "count": 2, "skip": 9},
        {"kind": "wrong_type", "count": 1, "skip": 12},
        {"kind": "hang", "count": 1, "skip": 15},
        {"kind": "duplicate_candle", "probability": 0.2},
        {"kind": "late_candle", "probability": 0.3, "delay_sec": 2},
    ):
        feed.broker.fault(fault.pop("kind"), **(fault | {"path": path}))
    for kind in ("half_line", "garbage_line", "end_stream", "silent"):
        feed.broker.fault(kind, count=1, path="/pricing/stream")
    feed.start("--json", OANDA_HTTP_TIMEOUT_SEC="2")
    feed.wait_for_metric('manifold_oanda_stream_reconnects_total{stream="prices"}', 4, 60)
    seen = feed.metrics()
    assert seen["manifold_oanda_rate_limited_total"] >= 2
    assert seen['manifold_oanda_retries_total{endpoint="candles"}'] >= 5
    settled = min(seen[f'manifold_feed_settled_seconds{{instrument="{name}"}}'] for name in PAIRS)
    for name in PAIRS:
        feed.wait_for_metric(f'manifold_feed_settled_seconds{{instrument="{name}"}}', settled + 5)
    code, said = feed.end()
    assert code == 0, feed.log.read_text()
    assert json.loads(said)["revised"] == 0
    feed.require_exact(least=100)
    assert "Traceback" not in feed.log.read_text()


def test_a_revised_candle_goes_in_as_it_is_now_once_and_is_dead_lettered(feed: Feed) -> None:
    feed.once()
    before = {(c.instrument, c.bar_ms): c for c in feed.candles()}
    feed.broker.fault("revised_candle", probability=1.0, count=4)
    changed = feed.once()
    assert changed["revised"] == 4
    after = feed.candles()
    more = [c for c in after if before.get((c.instrument, c.bar_ms), c) != c]
    assert len(more) == 4
    theirs = candles_of(feed.broker, PAIRS, "S5", MONDAY_MS - BARS * S5)
    for candle in more:
        assert candle == theirs[candle.instrument, candle.bar_ms]
    reasons = feed.dead_letters()
    assert len(reasons) == 4
    assert set(reasons) <= {"conflict", "out_of_order"}
    assert "conflict" in reasons
    assert feed.once()["revised"] == 0, "a new process does not write it again"
    assert len(feed.dead_letters()) == 4


def test_a_candle_that_comes_after_its_bar_was_given_up_is_written_and_said(feed: Feed) -> None:
    feed.once()
    settled = max(e.as_of_ms for e in feed.events())
    feed.broker.fault("late_candle", instrument="USD_JPY", delay_sec=9, count=1)
    done = feed.once(FEED_ABSENT_AFTER_SEC="1")
    while done["late"] == 0 and now_ms(feed.broker) < settled + 60_000:
        done = feed.once(FEED_ABSENT_AFTER_SEC="1")
    assert done["late"] == 1
    found = feed.candles()
    assert len({(c.instrument, c.bar_ms) for c in found}) == len(found)
    assert set(feed.dead_letters()) <= {"out_of_order"}


def test_an_instrument_that_fails_is_not_vouched_for_and_the_others_go_on(feed: Feed) -> None:
    feed.once()
    settled = {n: e.as_of_ms for e in feed.events() if isinstance(e, Watermark)
               for n in e.instruments}  # fmt: skip
    fault = feed.broker.fault("status", code=500, path="USD_JPY/candles")
    feed.start(OANDA_HTTP_RETRIES="0", FEED_ABSENT_AFTER_SEC="1")
    goal = settled["EUR_USD"] / 1000 + 15
    for name in ("EUR_USD", "GBP_USD"):
        feed.wait_for_metric(f'manifold_feed_settled_seconds{{instrument="{name}"}}', goal)
    assert feed.metrics()['manifold_feed_waiting{instrument="USD_JPY"}'] == 1
    vouched = max(
        e.as_of_ms for e in feed.events() if isinstance(e, Watermark) and "USD_JPY" in e.instruments
    )
    assert vouched == settled["USD_JPY"]
    feed.broker.control("DELETE", f"/faults/{fault}")
    feed.wait_for_metric('manifold_feed_settled_seconds{instrument="USD_JPY"}', goal)
    assert feed.end()[0] == 0
    feed.require_exact()


def test_once_says_which_instrument_could_not_be_had(feed: Feed) -> None:
    feed.broker.fault("status", code=500, path="USD_JPY/candles")
    done = feed.deployment.run("feed", "oanda", "--once", OANDA_HTTP_RETRIES="0")
    assert done.returncode == 75
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("manifold: not all candles could be had (USD_JPY: OANDA answers candles")
    assert {c.instrument for c in feed.candles()} == {"EUR_USD", "GBP_USD"}
    feed.broker.clear_faults()


def test_killed_at_random_instants_nothing_is_lost_or_there_twice(feed: Feed) -> None:
    chance = random.Random(11)
    for _ in range(4):
        feed.start()
        time.sleep(chance.uniform(1.2, 4.5))
        feed.kill()
        feed.broker.advance(chance.choice([0, 40, 600]))
    feed.once()
    feed.require_exact(least=100)


def test_the_feed_that_starts_last_ends_the_one_before(feed: Feed) -> None:
    first = feed.start(FEED_METRICS_PORT="0")
    other = Feed(feed.deployment, feed.broker)
    feed.wait(lambda: len(feed.candles()) > 50)
    other.start()
    assert first.wait(30) == 2
    said = [line for line in feed.log.read_text().splitlines() if line.startswith("manifold: ")]
    assert "another feed has taken over" in said[-1]
    assert "TOPIC_PREFIX" in said[-1]
    other.wait_for_metric('manifold_feed_candles_total{instrument="EUR_USD"}', 1)
    assert other.end()[0] == 0
    feed.require_exact()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"OANDA_API_KEY": "wrong"}, ("OANDA_API_KEY", "OANDA_ACCOUNT_ID", "401")),
        ({"OANDA_ACCOUNT_ID": "101-001-9999999-001"}, ("OANDA_ACCOUNT_ID", "403")),
        ({"OANDA_API_KEY": ""}, ("OANDA_API_KEY is not set",)),
        ({"HOTBAND_PAIRS": "EUR_USD,ABC_XYZ"}, ("HOTBAND_PAIRS", "ABC_XYZ")),
        ({"OANDA_ENVIRONMENT": "live"}, ("LIVE_TRADING_ENABLED",)),
        ({"OANDA_BASE_URL": "https://api-fxtrade.oanda.com"}, ("OANDA_BASE_URL", "live")),
    ],
)
def test_what_a_person_must_change_ends_it_with_one_sentence(
    feed: Feed, settings: dict[str, str], words: tuple[str, ...]
) -> None:
    done = feed.deployment.run("feed", "oanda", **settings)
    assert done.returncode == 2
    sentences = [line for line in done.stderr.splitlines() if line.startswith("manifold: ")]
    assert len(sentences) == 1
    for word in words:
        assert word in sentences[0]
    assert "Traceback" not in done.stderr
    assert feed.candles() == []


def test_a_refused_token_ends_a_feed_that_runs(feed: Feed) -> None:
    feed.start()
    feed.wait(lambda: len(feed.candles()) > 50)
    feed.broker.fault("status", code=401, path="/candles")
    assert feed.process is not None
    assert feed.process.wait(30) == 2
    assert "OANDA_API_KEY" in feed.log.read_text().splitlines()[-1]


def test_at_the_weekend_nothing_is_vouched_for_beyond_the_close(
    kafka: KafkaBroker, topic_prefix: str, tmp_path: Path
) -> None:
    broker = venue("2024-03-02T12:00:00Z")
    close_ms = 1_709_330_340_000
    try:
        weekend = Feed(deployment_at(kafka, topic_prefix, tmp_path, broker), broker)
        weekend.once()
        assert max(e.as_of_ms for e in weekend.events()) == close_ms
        before = len(weekend.events())
        asked = len(broker.requests("/candles"))
        weekend.start()
        weekend.wait(lambda: len(broker.requests("/candles")) > asked)
        time.sleep(2)
        assert weekend.end()[0] == 0
        assert len(broker.requests("/candles")) <= asked + 2 * len(PAIRS)
        assert all(e.as_of_ms <= close_ms for e in weekend.events()[before:])
    finally:
        broker.stop()


def test_after_another_source_it_goes_on_and_takes_over_the_universe(feed: Feed) -> None:
    deployment = feed.deployment
    start_ms = MONDAY_MS - 20 * S5
    made = [
        Candle(name, "S5", at, at + S5, *[o for o in ((1.0,) * 4,) * 3], False, 3, "file")  # type: ignore[arg-type]
        for at in range(start_ms, start_ms + 10 * S5, S5)
        for name in ("EUR_USD", "AUD_USD")
    ]
    arrivals = (
        BarArrivals(at + S5, tuple(c for c in made if c.bar_ms == at))
        for at in range(start_ms, start_ms + 10 * S5, S5)
    )
    config = Config.from_env(deployment.environment)
    run_feed(
        deployment.runtime, deployment.codec, config, ["EUR_USD", "AUD_USD"], "S5", arrivals, "t", 0
    )
    report = feed.once()
    assert report["revised"] == report["late"] == 0
    mine = [c for c in feed.candles() if c.instrument == "EUR_USD" and c.source == "oanda"]
    assert min(c.bar_ms for c in mine) >= start_ms + 10 * S5
    control = read_control(deployment.runtime, deployment.codec)
    assert control.state(control.end).universe.members(MONDAY_MS) == PAIRS
    assert any(
        isinstance(e, Watermark) and e.instruments == ("AUD_USD",) for e in feed.events()[-400:]
    ) or any(isinstance(e, Watermark) and "AUD_USD" in e.instruments for e in feed.events())
    assert os.environ.get("OANDA_API_KEY") is None
