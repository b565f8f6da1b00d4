"""One process of a deployment has a wrong clock: it says so, and nothing is lost or said twice."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from streams.monitoring.status import collect
from streams.records.events import Candle, Control
from streams.records.topics import CANDLES, CONTROL, FILLS, ORDERS
from streams.records.trading_events import BrokerReport, OrderIntent
from streams.stack.kafka import KafkaBroker
from streams.stack.valkey import ValkeyServer
from tests.dates.wallclock import MovableClock, moved_by
from tests.integration.feeds.test_oanda_feed import PAIRS, Feed, deployment_at
from tests.support.deployment import Deployment
from tests.support.kill_switch_place import Place, engaged_by
from tests.support.oanda_venue import venue
from tests.support.service import ServiceProcess
from tests.support.trading import ExecutorProcess, switch_off
from tests.support.waiting import until

pytestmark = pytest.mark.kafka

HOURS_S = 7_200
WRONG = pytest.mark.parametrize(
    ("offset_s", "way"), [(HOURS_S, "2.0 h ahead of"), (-HOURS_S, "2.0 h behind")],
    ids=["ahead", "behind"],
)  # fmt: skip
CSV = "time,open,high,low,close,volume\n1709553600,1.1,1.2,1.0,1.1,5\n"
REFUSE: dict[str, tuple[str, ...]] = {
    "feed": ("feed", "synthetic", "--live"),
    "oanda": ("feed", "oanda", "--once"),
    "load": ("load", "candles.csv", "--instrument", "EUR_USD", "--granularity", "M1"),
    "warmup": ("warmup",),
    "trade": ("trade", "--status-port", "0"),
    "off": ("kill", "off", "--reason", "test"),
    "config": ("config", "set", "ALLOC_TOP_K=4", "--reason", "test"),
    "params": ("params", "set", "EUR_USD", "AUTO_MIN_COHERENCE=0.5", "--reason", "test"),
}
SAY: dict[str, tuple[str, ...]] = {
    "status": ("status",),
    "why": ("why", "EUR_USD"),
    "verify": ("verify",),
    "kill": ("kill", "status"),
    "mirror": ("mirror", "--rebuild"),
}
STAY: dict[str, tuple[str, ...]] = {
    "worker": ("worker",),
    "mirror": ("mirror",),
    "keep": ("kill", "keep"),
}
ENDS_WITH = "synchronise the clocks (NTP; timedatectl shows this machine's)"


@pytest.fixture(scope="module")
def lived(
    kafka: KafkaBroker,
    new_database: Callable[[], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Deployment:
    """A log with candles of the past, derived and mirrored."""
    deployment = Deployment(
        tmp_path_factory.mktemp("lived"),
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        TOPIC_PREFIX="clocks.",
        TOPIC_PARTITIONS="2",
        HOTBAND_PAIRS="EUR_USD,USD_JPY",
        VALKEY_URL=new_database(),
        OANDA_API_KEY="a-token",
        OANDA_ACCOUNT_ID="101-001-1234567-001",
    )
    (deployment.directory / "candles.csv").write_text(CSV)
    done = deployment.run("feed", "synthetic", "--start", "2024-03-04", "--bars", "150")
    assert done.returncode == 0, done.stderr
    worker = deployment.start_worker()
    assert deployment.keep_running(300, deployment.caught_up), worker.child.last_output()
    deployment.processes.pop("worker-1").stop()
    return deployment


def command(
    deployment: Deployment, arguments: tuple[str, ...], offset_s: int
) -> subprocess.CompletedProcess[str]:
    place = str(deployment.directory / "candles.csv")
    given = [place if word == "candles.csv" else word for word in arguments]
    return deployment.run(*given, **moved_by(offset_s))


def ends(deployment: Deployment) -> dict[str, int]:
    return dict(collect(deployment.runtime, deployment.codec).ends)


@WRONG
@pytest.mark.parametrize("name", REFUSE)
def test_what_writes_by_the_clock_refuses(
    lived: Deployment, name: str, offset_s: int, way: str
) -> None:
    before = ends(lived)
    done = command(lived, REFUSE[name], offset_s)
    assert done.returncode == 75, (done.stdout, done.stderr)
    *_, last = done.stderr.splitlines()
    assert last.startswith("manifold: refusing to write with a wrong clock: this machine's clock ")
    assert f"{way} Kafka and Valkey; " in last and last.endswith(ENDS_WITH)
    assert "Traceback" not in done.stderr
    assert ends(lived) == before


@WRONG
@pytest.mark.parametrize("name", SAY)
def test_what_only_shows_says_it_and_goes_on(
    lived: Deployment, name: str, offset_s: int, way: str
) -> None:
    right, wrong = command(lived, SAY[name], 0), command(lived, SAY[name], offset_s)
    assert right.returncode == wrong.returncode, (wrong.stdout, wrong.stderr)
    assert "clock" not in right.stderr
    assert "manifold: warning: this machine's clock says 20" in wrong.stderr
    assert f"{way} Kafka and Valkey; " in wrong.stderr and ENDS_WITH in wrong.stderr
    assert "Traceback" not in wrong.stderr


@WRONG
@pytest.mark.parametrize("name", STAY)
def test_what_stays_says_it_where_it_starts(
    lived: Deployment, name: str, offset_s: int, way: str
) -> None:
    label = f"{name}{offset_s}"
    process = lived.start(label, *STAY[name], **moved_by(offset_s))
    try:
        until(lambda: f"{way} Kafka and Valkey; " in process.child.log.read_text())
        assert process.child.running
    finally:
        process.stop()
        del lived.processes[label]


@WRONG
def test_the_doctor_names_both_clocks(lived: Deployment, offset_s: int, way: str) -> None:
    done = lived.run("doctor", "--json", **moved_by(offset_s))
    found = {one["name"]: one for one in json.loads(done.stdout)["findings"]}
    assert found["clock"]["state"] == "fail" and done.returncode == 1
    assert f"this machine's clock is {way} the broker's; {ENDS_WITH}" in found["clock"]["detail"]


def test_the_service_says_it_when_its_clock_is_set_while_it_runs(
    lived: Deployment, tmp_path: Path
) -> None:
    clock = MovableClock(tmp_path / "offset")
    service = ServiceProcess(lived, **clock.environment)

    def clock_skew() -> dict[str, Any]:
        answer = service.get("/api/preflight")
        signals = answer.json.get("signals", []) if answer.status == 200 else []
        found: dict[str, Any] = next((s for s in signals if s["name"] == "clock_skew"), {})
        return found

    try:
        service.start()
        until(lambda: clock_skew().get("state") == "ok")
        for offset_s, way in ((HOURS_S, "2.0 h ahead of"), (-HOURS_S, "2.0 h behind")):
            clock.move_to(offset_s)
            wanted = f"this machine's clock is {way} Kafka and Valkey"
            until(lambda: wanted in clock_skew().get("detail", ""), service.words)  # noqa: B023
            assert clock_skew()["state"] == "fail"
        clock.move_to(0)
        until(lambda: clock_skew().get("state") == "ok")
    finally:
        lived.processes.pop("serve").stop()


@WRONG
def test_engaging_waits_for_no_clock(
    kafka: KafkaBroker, valkey_url: str, topic_prefix: str, tmp_path: Path, offset_s: int, way: str
) -> None:
    deployment = Deployment(
        tmp_path,
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        TOPIC_PREFIX=topic_prefix,
        VALKEY_URL=valkey_url,
    )
    done = deployment.run("kill", "on", "--reason", "test", **moved_by(offset_s))
    assert done.returncode == 0, done.stderr
    assert f"{way} Kafka and Valkey; " in done.stderr
    (said,) = [e for e in deployment.events(CONTROL) if isinstance(e, Control)]
    assert json.loads(said.value)["engaged"] is True
    assert said.as_of_ms <= time.time() * 1000, "no record of the future"


# -- a clock that is set while a process runs -----------------------------------------------------


TRADES_EASILY = {
    "GATE_MODE": "static",
    "SESSION_TRADING_ENABLED": "0",
    "AUTO_MIN_COHERENCE": "0",
    "AUTO_MAX_ENTROPY": "1",
    "AUTO_MAX_RUPTURE": "1",
    "GUARD_MIN_STABILITY": "0",
    "MAX_SPREAD_BPS": "50",
    "PM_RAMP_STEP_PCT": "1",
    "EXIT_PNL_TARGET_PCT": "0.005",
    "EXIT_PNL_STOP_PCT": "0.005",
    "ENTRY_COOLDOWN_SEC": "0",
    "REPETITION_MIN_COUNT": "1",
    "AUTO_MAX_HAZARD": "1",
    "AUTO_DIRECTION_LOOKBACK": "6",
    "AUTO_DIR_THRESHOLD_BPS": "0",
}


class LiveMarket:
    """A live synthetic feed, a worker, and a clock that any process may be started on."""

    def __init__(self, deployment: Deployment, clock: MovableClock) -> None:
        self.deployment, self.clock = deployment, clock

    def start(self, *moved: str) -> None:
        """Start both; those named ``feed`` and ``worker`` are on the clock."""
        others = self.clock.environment
        self.deployment.start_worker(**others if "worker" in moved else {})
        begun_ms = int(time.time() * 1000)
        arguments = ("feed", "synthetic", "--live", "--start", f"@{begun_ms - 900_000}")
        self.feed = self.deployment.start("feed", *arguments, **others if "feed" in moved else {})

    def candles(self) -> list[Candle]:
        return [e for e in self.deployment.events(CANDLES) if isinstance(e, Candle)]

    def newest_ms(self) -> int:
        return max((candle.as_of_ms for candle in self.candles()), default=0)

    def wait(self, ready: Any) -> None:
        def looked() -> bool:
            for process in self.deployment.processes.values():
                process.poll()
            return bool(ready())

        until(looked, self.deployment.last_output, every_s=0.2)

    def wait_for_bars(self) -> None:
        """Wait for bars that end after now."""
        now_ms = time.time() * 1000
        self.wait(lambda: self.newest_ms() > now_ms + 5_000)

    def said(self) -> str:
        return self.feed.child.log.read_text()


@pytest.fixture
def market(
    kafka: KafkaBroker, valkey_url: str, topic_prefix: str, tmp_path: Path
) -> Iterator[LiveMarket]:
    deployment = Deployment(
        tmp_path,
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        TOPIC_PREFIX=topic_prefix,
        TOPIC_PARTITIONS="2",
        HOTBAND_PAIRS="EUR_USD,USD_JPY",
        VALKEY_URL=valkey_url,
        CANDLE_GRAN="S5",
        ALLOC_INTERVAL_SEC="5",
        MARKET_CALENDAR="continuous",
        **TRADES_EASILY,
    )
    made = LiveMarket(deployment, MovableClock(tmp_path / "offset"))
    yield made
    for process in deployment.processes.values():
        process.stop()


@WRONG
def test_a_live_feed_whose_clock_is_set_stops_and_goes_on_when_it_is_right(
    market: LiveMarket, offset_s: int, way: str
) -> None:
    market.start("feed")
    market.wait_for_bars()
    market.clock.move_to(offset_s)
    set_by = "set ahead by" if offset_s > 0 else "set back by"
    market.wait(lambda: f"the clock was {set_by} 2.0 h: this machine's clock " in market.said())
    # the supervisor starts it again, and it still refuses
    market.wait(lambda: "refusing to write with a wrong clock" in market.said())
    assert f"{way} Kafka" in market.said() and ENDS_WITH in market.said()
    assert market.newest_ms() <= time.time() * 1000, "a bar of the future"
    market.clock.move_to(0)
    market.wait_for_bars()
    market.deployment.processes.pop("feed").stop()
    market.wait(lambda: not any(market.deployment.status().lag[s] for s in ("signals", "gates")))
    market.deployment.require_exact()
    market.deployment.processes.pop("worker-1").stop()
    market.deployment.require_verified()
    assert "Traceback" not in market.said()


def filled_orders(deployment: Deployment) -> Counter[str]:
    """Return how often each order is filled in the log."""
    return Counter(
        e.order_id
        for e in deployment.events(FILLS)
        if isinstance(e, BrokerReport) and e.status == "filled" and e.cause == "order"
    )


def refused(said: dict[str, Any]) -> set[str]:
    """Return the reasons for which the executor does not act on decisions."""
    return {one["reason"] for one in said["refused_decisions"]}


def test_worker_mirror_and_executor_go_by_the_log_when_their_clock_is_set(
    market: LiveMarket,
) -> None:
    deployment, clock = market.deployment, market.clock
    switch_off(deployment)
    market.start("worker")
    deployment.start("mirror", "mirror", **clock.environment)
    executor = ExecutorProcess(deployment, **clock.environment)
    executor.start()
    executor.until_reconciled()
    for offset_s in (0, HOURS_S, -HOURS_S, 0):
        clock.move_to(offset_s)
        closed = deployment.status().ends["risk.weights"]
        market.wait(lambda: deployment.status().ends["risk.weights"] >= closed + 3)  # noqa: B023
        newest_ms = market.newest_ms()
        if offset_s < 0:  # the decisions of now are ahead of this clock: none is acted on
            executor.until(lambda said: said["reconciled"] and "after_clock" in refused(said))
        else:
            executor.until(lambda said: said["reconciled"] and said["epoch_ms"] >= newest_ms)  # noqa: B023
    market.wait(lambda: filled_orders(deployment))
    deployment.processes.pop("feed").stop()
    deployment.settle()
    processes = deployment.processes.values()
    assert all(process.restarts == 0 for process in processes), deployment.last_output()
    assert "Traceback" not in deployment.last_output()
    deployment.stop()
    deployment.processes.clear()
    deployment.require_exact()
    deployment.require_verified()
    orders = Counter(e.order_id for e in deployment.events(ORDERS) if isinstance(e, OrderIntent))
    filled = filled_orders(deployment)
    assert filled.keys() <= orders.keys()
    assert {*orders.values(), *filled.values()} == {1}, "an order or a fill is there twice"


def test_an_oanda_feed_goes_by_oandas_time_whatever_is_set_here(
    kafka: KafkaBroker, topic_prefix: str, tmp_path: Path
) -> None:
    broker, clock = venue(), MovableClock(tmp_path / "offset")
    feed = Feed(deployment_at(kafka, topic_prefix, tmp_path, broker), broker)
    try:
        feed.start(**clock.environment)
        for offset_s in (0, HOURS_S, -HOURS_S, 0):
            clock.move_to(offset_s)
            feed.wait_for_metric(
                f'manifold_feed_settled_seconds{{instrument="{PAIRS[0]}"}}', 1, seconds=180
            )
            goal = feed.settled() + 10
            for name in PAIRS:
                metric = f'manifold_feed_settled_seconds{{instrument="{name}"}}'
                feed.wait_for_metric(metric, goal, seconds=180)
        feed.end()
        feed.require_exact(least=100)
        assert "Traceback" not in feed.log.read_text()
    finally:
        broker.stop()


def test_the_kill_switch_is_engaged_when_valkeys_clock_is_set(
    kafka: KafkaBroker, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = MovableClock(tmp_path / "offset")
    with monkeypatch.context() as patched:
        for name, value in clock.environment.items():
            patched.setenv(name, value)
        server = ValkeyServer(tmp_path / "valkey")
        server.start()
    age = {"KILL_SWITCH_MAX_AGE_SEC": "300", "KILL_SWITCH": "0"}
    place = Place(kafka.bootstrap, topic_prefix, server.url, **age)
    try:
        keeper, reader = place.keeper(), place.reader()
        assert keeper.round() and not reader.read().engaged
        clock.move_to(HOURS_S)
        assert engaged_by(reader.read(), "is missing"), "an off of two hours ago has expired"
        assert place.plain() == "engaged"
        until(lambda: keeper.round() and not reader.read().engaged)
        clock.move_to(-HOURS_S)
        # the first script after a step back may still see the server's last time
        until(lambda: engaged_by(reader.read(), "not yet by the server's clock"))
        until(lambda: keeper.round() and not reader.read().engaged)
        assert [json.loads(word.value)["engaged"] for word in place.words()] == [False]
    finally:
        place.close()
        server.stop()
