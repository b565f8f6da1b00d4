"""The feed that follows OANDA, as a process, against the test broker: every candle once, as it is.

Bars of five seconds, so that a market of a few bars passes in seconds.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from streams.config.settings import Config
from streams.feeds.live import run_feed
from streams.feeds.plan import FeedPlan
from streams.feeds.synthetic import BarArrivals
from streams.feeds.writer import FactWriter, bars_of, write_feed
from streams.kafka.control_topic import read_control
from streams.kafka.reader import LogReader
from streams.pipeline.signals import signals_stage
from streams.process.child import free_port
from streams.records.control import ControlLog
from streams.records.events import Candle, DeadLetter, Manifold, Ohlc, Watermark, Weights
from streams.records.topics import CANDLES, MANIFOLDS, WEIGHTS
from streams.stack.kafka import KafkaBroker
from tests.support.deployment import Deployment
from tests.support.oanda_venue import MONDAY_MS, candles_of, require_candles, venue
from tests.support.v20 import V20Process
from tests.support.waiting import PATIENCE_S

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
        self.log.touch()

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
        said, _ = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, said

    def events(self) -> list[Any]:
        return self.deployment.events(CANDLES)

    def candles(self) -> list[Candle]:
        return [event for event in self.events() if isinstance(event, Candle)]

    def metrics(self) -> dict[str, float]:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.port}/metrics", timeout=PATIENCE_S
        ) as page:
            lines = page.read().decode().splitlines()
        pairs = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
        return {name: float(value) for name, value in pairs}

    def wait(self, until: Callable[[], bool], seconds: float = PATIENCE_S) -> None:
        end = time.monotonic() + seconds
        while not until():
            assert self.process is None or self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.2)

    def wait_for_metric(self, name: str, least: float, seconds: float = PATIENCE_S) -> None:
        def reached() -> bool:
            try:
                return self.metrics().get(name, -1.0) >= least
            except OSError:
                return False

        self.wait(reached, seconds)

    def require_exact(self, least: int = 1, *, vouched: bool = True) -> None:
        """Assert that the log holds the broker's candles, each once, in order, and no others."""
        found = self.candles()
        assert len(found) >= least
        require_candles(self.broker, found, PAIRS, "S5")
        if vouched:
            self.require_vouched()
        assert self.broker.violations() == []
        assert self.broker.token not in self.log.read_text()

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

    def control(self) -> ControlLog:
        return read_control(self.deployment.runtime, self.deployment.codec)

    def settled(self) -> float:
        """Return up to when all is in the log, in seconds."""
        seen = self.metrics()
        return min(seen[f'manifold_feed_settled_seconds{{instrument="{n}"}}'] for n in PAIRS)

    def dead_letters(self) -> list[str]:
        """Return the reasons for which the signals stage refuses records of the log."""
        codec, found = self.deployment.codec, []
        control = self.control()
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
        FEED_ABSENT_AFTER_SEC="1",
        **broker.environment(),
        **settings,
    )


def test_history_goes_in_once_and_what_oanda_changes_later_is_seen(feed: Feed) -> None:
    newest = [bar for name, bar in candles_of(feed.broker, ["USD_JPY"], "S5", MONDAY_MS - 600_000)]
    missing = feed.broker.fault(
        "missing_candle", instrument="USD_JPY", time=str(newest[-1] // 1000)
    )

    first = feed.once()
    assert first["candles"] == len(feed.candles()) > 100
    assert min(c.bar_ms for c in feed.candles()) >= MONDAY_MS - BARS * S5
    assert all(pair["settled_ms"] >= MONDAY_MS for pair in first["pairs"].values())
    kinds = ["config", "universe"]
    assert [record.kind for _, record in feed.control().records] == kinds
    assert feed.control().state(feed.control().end).universe.members(MONDAY_MS) == PAIRS

    # hours later: a candle of a bar that was vouched for without one, and what is missing
    feed.broker.control("DELETE", f"/faults/{missing}")
    feed.broker.advance(2 * 3600)
    gap = feed.once()
    assert (gap["late"], gap["revised"]) == (1, 0)
    assert gap["candles"] > 500
    assert gap["requests"] <= 1 + 5 * len(PAIRS)
    feed.require_exact(least=600, vouched=False)
    assert [record.kind for _, record in feed.control().records] == kinds

    # revised: in the log as it is now, once, and refused by the stage
    before = {(c.instrument, c.bar_ms): c for c in feed.candles()}
    feed.broker.fault("revised_candle", probability=1.0, count=4)
    changed = feed.once()["revised"]
    assert 1 <= changed <= 4, "one of the four may not have been in the log"
    more = [c for c in feed.candles() if before.get((c.instrument, c.bar_ms), c) != c]
    theirs = candles_of(feed.broker, PAIRS, "S5", min(c.bar_ms for c in more))
    assert [theirs[c.instrument, c.bar_ms] for c in more] == more
    reasons = feed.dead_letters()
    assert len(reasons) == len(more) == changed
    assert {"conflict"} <= set(reasons) <= {"conflict", "out_of_order"}
    assert feed.once()["revised"] == 0, "a new process knows what it wrote"
    assert len(feed.dead_letters()) == changed


def test_the_candles_of_an_older_engine_are_not_taken_for_revised_ones(feed: Feed) -> None:
    config = Config.from_env(feed.deployment.environment)
    there = list(candles_of(feed.broker, PAIRS, "S5", MONDAY_MS - BARS * S5).values())
    # OANDA's own mid beside bid and ask was what an older engine wrote
    old = [
        c._replace(mid=Ohlc(*(price * (1 + 1e-9) for price in c.mid)), mid_derived=False)
        for c in sorted(there, key=lambda c: c.as_of_ms)
    ]
    now_ms = time.time_ns() // 1_000_000
    writer = FactWriter(feed.deployment.runtime, feed.deployment.codec, config, now_ms)
    write_feed(writer, FeedPlan(PAIRS, "S5", writer.partitions), bars_of(old), old[0].bar_ms)
    assert sorted(feed.candles()) == sorted(old)

    feed.broker.advance(60)
    found = feed.once()
    assert (found["revised"], found["late"]) == (0, 0)
    assert found["candles"] > 10
    newer = feed.candles()
    assert len(newer) == len(old) + found["candles"]
    assert feed.dead_letters() == []
    assert all(c.mid_derived for c in newer if c not in old)


def test_a_crossed_quote_of_oanda_is_said_and_becomes_a_dead_letter(feed: Feed) -> None:
    feed.broker.fault("crossed_candle", instrument="EUR_USD", count=2)
    done = feed.deployment.run("feed", "oanda", "--once", "--json")
    assert done.returncode == 0, done.stderr
    crossed = [c for c in feed.candles() if c.bid and c.ask and c.bid.open > c.ask.open]
    assert [c.instrument for c in crossed] == ["EUR_USD"] * 2
    assert done.stderr.count("crossed_quote: open: the bid ") == 2
    assert feed.dead_letters() == ["crossed_quote"] * 2
    feed.require_vouched()
    assert feed.once()["revised"] == 0


def test_every_candle_is_there_once_through_faults_of_the_broker(feed: Feed) -> None:
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
        feed.broker.fault(fault.pop("kind"), **({"path": "/candles"} | fault))
    for kind in ("half_line", "garbage_line", "silent", "silent"):
        feed.broker.fault(kind, count=1, path="/pricing/stream")
    feed.start("--json", OANDA_HTTP_TIMEOUT_SEC="2", FEED_ABSENT_AFTER_SEC="5")
    feed.wait_for_metric('manifold_oanda_stream_reconnects_total{stream="prices"}', 3)
    settled = feed.settled() + 10
    for name in PAIRS:
        feed.wait_for_metric(f'manifold_feed_settled_seconds{{instrument="{name}"}}', settled)
    seen = feed.metrics()
    assert seen["manifold_oanda_rate_limited_total"] >= 2
    assert seen['manifold_oanda_retries_total{endpoint="candles"}'] >= 5
    assert seen["manifold_oanda_clock_skew_seconds"] < -1e6
    assert seen["manifold_oanda_clock_skew_uncertainty_seconds"] < 0.6
    bid, ask = (seen[f'manifold_feed_{side}{{instrument="EUR_USD"}}'] for side in ("bid", "ask"))
    assert 0 < bid < ask
    assert 0 < seen['manifold_feed_spread_bps{instrument="USD_JPY"}'] < 5
    assert 0 <= seen['manifold_oanda_stream_age_seconds{stream="prices"}'] < 2.5
    assert -1 < seen['manifold_feed_price_age_seconds{instrument="EUR_USD"}'] < 120
    code, said = feed.end()
    assert code == 0, feed.log.read_text()
    report = json.loads(said)
    feed.broker.clear_faults()
    assert (report["revised"], report["late"]) == (0, 0)
    feed.require_exact(least=100)
    assert "Traceback" not in feed.log.read_text()
    # the last watermarks say how far everything is known
    last = {n: e.as_of_ms for e in feed.events() if isinstance(e, Watermark) for n in e.instruments}
    assert last == {name: pair["settled_ms"] for name, pair in report["pairs"].items()}


def test_an_instrument_that_fails_is_not_vouched_for_and_the_others_go_on(feed: Feed) -> None:
    fault = feed.broker.fault("status", code=500, path="USD_JPY/candles")
    done = feed.deployment.run("feed", "oanda", "--once", OANDA_HTTP_RETRIES="0")
    assert done.returncode == 75
    last = done.stderr.splitlines()[-1]
    assert last.startswith(
        "manifold: not all candles could be read (USD_JPY: OANDA answers candles"
    )
    assert "Traceback" not in done.stderr
    assert {c.instrument for c in feed.candles()} == {"EUR_USD", "GBP_USD"}

    feed.start(OANDA_HTTP_RETRIES="0")
    goal = MONDAY_MS / 1000 + 10
    for name in ("EUR_USD", "GBP_USD"):
        feed.wait_for_metric(f'manifold_feed_settled_seconds{{instrument="{name}"}}', goal)
    assert feed.metrics()['manifold_feed_waiting{instrument="USD_JPY"}'] == 1
    marks = [e for e in feed.events() if isinstance(e, Watermark) and "USD_JPY" in e.instruments]
    assert max(e.as_of_ms for e in marks) <= MONDAY_MS - (BARS - 2) * S5, "only the opening one"
    feed.broker.control("DELETE", f"/faults/{fault}")
    feed.wait_for_metric('manifold_feed_settled_seconds{instrument="USD_JPY"}', goal)
    assert feed.end()[0] == 0
    feed.require_exact()


def test_a_quiet_pair_holds_no_epoch_and_its_candle_is_no_late_one(
    kafka: KafkaBroker, topic_prefix: str, tmp_path: Path
) -> None:
    broker = venue(next_tick=True)
    waits = {"EPOCH_MAX_WAIT_SEC": "2", "ALLOC_INTERVAL_SEC": "5"}
    deployment = deployment_at(kafka, topic_prefix, tmp_path, broker, **waits)
    feed = Feed(deployment, broker)
    worker = deployment.start_worker()
    try:
        feed.start()
        feed.wait_for_metric(
            'manifold_feed_settled_seconds{instrument="USD_JPY"}', MONDAY_MS / 1000 + 10
        )
        broker.control(
            "POST", "/prices", {"instrument": "USD_JPY", "bid": "150.100", "ask": "150.110"}
        )
        feed.wait_for_metric('manifold_feed_not_waited_for_total{instrument="USD_JPY"}', 3)
        given_up_ms = max(
            event.as_of_ms
            for event in feed.events()
            if isinstance(event, Watermark) and event.not_waited_for == ("USD_JPY",)
        )

        def without_it() -> list[Weights]:
            """Epochs that counted what the quiet pair had said before."""
            return [
                weights
                for weights in deployment.events(WEIGHTS)
                for gate in weights.gates
                if gate.instrument == "USD_JPY" and gate.decided_ms < weights.epoch_ms
            ]

        assert deployment.keep_running(PATIENCE_S, lambda: len(without_it()) >= 3, 0.5)
        assert "USD_JPY is not waited for" in feed.log.read_text()
        broker.control("POST", "/prices", {"instrument": "USD_JPY", "release": True})
        feed.wait_for_metric(
            'manifold_feed_candle_as_of_seconds{instrument="USD_JPY"}', given_up_ms / 1000 + 10
        )
        assert feed.end()[0] == 0
        deployment.settle()
        assert worker.stop() == 0
        feed.require_exact()
    finally:
        deployment.stop()
        broker.stop()
    # its candles came, those that were not waited for too, and none of them as a late one
    ends = [c.as_of_ms for c in feed.candles() if c.instrument == "USD_JPY"]
    assert max(ends) > given_up_ms
    assert not any(m.late for m in deployment.events(MANIFOLDS) if isinstance(m, Manifold))
    epochs = [weights.epoch_ms for weights in deployment.events(WEIGHTS)]
    assert epochs == sorted(set(epochs))
    deployment.require_verified()


def test_killed_at_random_instants_nothing_is_lost_or_there_twice(feed: Feed) -> None:
    chance = random.Random(11)
    for _ in range(4):
        feed.start()
        time.sleep(chance.uniform(1.0, 3.5))
        feed.kill()
        feed.broker.advance(chance.choice([0, 40, 600]))
    feed.once()
    feed.require_exact(least=100)


def test_the_feed_that_starts_last_ends_the_one_before(feed: Feed) -> None:
    first = feed.start(FEED_METRICS_PORT="0")
    other = Feed(feed.deployment, feed.broker)
    feed.wait(lambda: len(feed.candles()) > 50)
    other.start(AUTH_RETRY_SEC="1")
    assert first.wait(PATIENCE_S) == 2
    said = [line for line in feed.log.read_text().splitlines() if line.startswith("manifold: ")]
    assert "another feed has taken over" in said[-1]
    assert "TOPIC_PREFIX" in said[-1]
    other.wait_for_metric('manifold_feed_settled_seconds{instrument="EUR_USD"}', 1)
    feed.broker.fault("status", code=401, path="/candles")
    assert other.process is not None
    assert other.process.wait(PATIENCE_S) == 2
    assert "OANDA_API_KEY" in other.log.read_text().splitlines()[-1]
    feed.broker.clear_faults()
    feed.require_exact()


def test_what_a_person_must_change_ends_it_with_one_sentence(feed: Feed) -> None:
    cases: list[tuple[dict[str, str], tuple[str, ...]]] = [
        ({"OANDA_API_KEY": "wrong"}, ("OANDA_API_KEY", "OANDA_ACCOUNT_ID", "401")),
        ({"OANDA_ACCOUNT_ID": "101-001-9999999-001"}, ("OANDA_ACCOUNT_ID", "403")),
        ({"OANDA_API_KEY": ""}, ("OANDA_API_KEY is not set",)),
        ({"HOTBAND_PAIRS": "EUR_USD,ABC_XYZ"}, ("HOTBAND_PAIRS", "ABC_XYZ")),
        ({"OANDA_ENVIRONMENT": "live"}, ("LIVE_TRADING_ENABLED",)),
        ({"OANDA_BASE_URL": "https://api-fxtrade.oanda.com"}, ("OANDA_BASE_URL", "live")),
    ]

    def run(settings: dict[str, str]) -> subprocess.CompletedProcess[str]:
        return feed.deployment.run("feed", "oanda", **settings)

    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(run, [settings for settings, _ in cases]))
    for (settings, words), done in zip(cases, results, strict=True):
        assert done.returncode == 2, settings
        (sentence,) = [line for line in done.stderr.splitlines() if line.startswith("manifold: ")]
        assert all(word in sentence for word in words), sentence
        assert "Traceback" not in done.stderr
    assert feed.candles() == []


def test_at_the_weekend_nothing_is_vouched_for_beyond_the_close(
    kafka: KafkaBroker, topic_prefix: str, tmp_path: Path
) -> None:
    broker = venue("2024-03-02T12:00:00Z")
    close_ms = 1_709_330_340_000
    try:
        weekend = Feed(deployment_at(kafka, topic_prefix, tmp_path, broker), broker)
        weekend.start()
        for name in PAIRS:
            metric = f'manifold_feed_settled_seconds{{instrument="{name}"}}'
            weekend.wait_for_metric(metric, close_ms / 1000)
        time.sleep(1.5)
        assert weekend.end()[0] == 0
        assert max(e.as_of_ms for e in weekend.events()) == close_ms
        assert len(broker.requests("/candles")) <= 2 * len(PAIRS), "a closed market is not asked"
    finally:
        broker.stop()


def test_after_another_source_it_goes_on_and_takes_over_the_universe(feed: Feed) -> None:
    deployment, start_ms = feed.deployment, MONDAY_MS - 20 * S5
    ends = range(start_ms + S5, start_ms + 11 * S5, S5)
    flat = Ohlc(1.0, 1.0, 1.0, 1.0)

    def arriving(as_of_ms: int) -> BarArrivals:
        made = [
            Candle(name, "S5", as_of_ms - S5, as_of_ms, flat, flat, flat, False, 3, "file")
            for name in ("EUR_USD", "AUD_USD")
        ]
        return BarArrivals(as_of_ms, tuple(made))

    run_feed(
        deployment.runtime,
        deployment.codec,
        Config.from_env(deployment.environment),
        ["EUR_USD", "AUD_USD"],
        "S5",
        map(arriving, ends),
        "another source",
        1_600_000_000_000,
    )
    report = feed.once()
    assert report["revised"] == report["late"] == 0, "another source's bars are not compared"
    mine = [c for c in feed.candles() if c.instrument == "EUR_USD" and c.source == "oanda"]
    assert min(c.bar_ms for c in mine) >= start_ms + 10 * S5
    assert feed.control().state(feed.control().end).universe.members(MONDAY_MS) == PAIRS
