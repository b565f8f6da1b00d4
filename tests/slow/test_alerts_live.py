"""The alerts on a real Prometheus that scrapes a running stack: bars of five seconds, paper orders.

Twelve times as fast as a market of minutes, so every length of time in the rules is a twelfth of
what it is. First the stack runs for a while undisturbed: nothing fires. Then every test
makes a cause, and what it is the cause of fires; the lengths of time do not matter any more there,
and thresholds in seconds are lower.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from confluent_kafka import Producer

from streams.kafka.client import producer_config
from streams.process.child import free_port
from streams.records.topics import CANDLES, FILLS
from streams.records.trading_events import BrokerReport
from streams.stack.kafka import KafkaBroker
from streams.stack.valkey import ValkeyServer
from tests.support.deployment import LIVELY, Deployment
from tests.support.prometheus import RULES, Prometheus, changed_rules, seconds
from tests.support.service import TOKEN, ServiceProcess
from tests.support.trading import ExecutorProcess
from tests.support.waiting import until

pytestmark = pytest.mark.kafka

PAIRS = ("EUR_JPY", "EUR_USD", "GBP_USD", "USD_JPY")
FASTER = 12
QUIET_BARS = 24
READING = {"Authorization": f"Bearer {TOKEN}"}
"""Off loopback, reading needs the token too."""
MANIFEST = RULES.parents[1] / "kubernetes" / "manifold.yaml"
SETTINGS = LIVELY | {
    "CANDLE_GRAN": "S5",
    "CANDLE_COUNT": "129",
    "MARKET_CALENDAR": "continuous",
    "SESSION_TRADING_ENABLED": "0",
    "GATE_MODE": "static",
    "AUTO_DIRECTION_LOOKBACK": "6",
    "AUTO_DIR_THRESHOLD_BPS": "0",
    "EXIT_PNL_TARGET_PCT": "0.005",
    "EXIT_PNL_STOP_PCT": "0.005",
    "AUTO_MIN_COHERENCE": "0",
    "GUARD_MIN_STABILITY": "0",
    "AUTO_MAX_RUPTURE": "1",
    "ALLOC_INTERVAL_SEC": "5",
    "ALLOC_TOP_K": "4",
    "PM_DEFAULT_HOLD_SECONDS": "60",
    "ENTRY_COOLDOWN_SEC": "5",
    "EXIT_COOLDOWN_SEC": "5",
    "MAX_SPREAD_BPS": "50",
    "MAX_SLIPPAGE_BPS": "0",
    "RECONCILE_INTERVAL_SEC": "2",
    "KILL_SWITCH": "0",
    "TOPIC_PARTITIONS": "2",
    "HOTBAND_PAIRS": ",".join(PAIRS),
}
"""Every guard passes, so that the market brings orders every few bars."""


def kubernetes_environment() -> dict[str, str]:
    """Return what the manifest gives the service beside the connections."""
    parts = list(yaml.safe_load_all(MANIFEST.read_text()))
    serve = next(
        p for p in parts if p["kind"] == "Deployment" and p["metadata"]["name"] == "manifold-serve"
    )
    [container] = serve["spec"]["template"]["spec"]["containers"]
    settings = next(p["data"] for p in parts if p["kind"] == "ConfigMap")
    plain = {one["name"]: one["value"] for one in container["env"] if "/run/" not in one["value"]}
    return plain | {"METRICS_HOST": settings["METRICS_HOST"]}


def shorter(length: str) -> str:
    """Return a length of time, or a range and its step, as many times shorter as time is faster."""
    return ":".join(f"{max(1, round(seconds(part) / FASTER))}s" for part in length.split(":"))


class Stack:
    """One deployment with everything but OANDA, and who scrapes it."""

    def __init__(self, deployment: Deployment, valkey: ValkeyServer, directory: Path) -> None:
        self.deployment, self.valkey, self.directory = deployment, valkey, directory
        self.service = ServiceProcess(deployment)
        self.executor = ExecutorProcess(deployment)
        metrics = free_port()
        self.service.settings |= kubernetes_environment() | {
            "TRADE_STATUS_URL": f"http://127.0.0.1:{self.executor.port}/status",
            "API_METRICS_PORT": str(metrics),
        }
        self.worker_port = free_port()
        # the address of a pod is none of the names that the service is called by
        self.targets = {
            "worker": f"127.0.0.1:{self.worker_port}",
            "serve": f"127.0.0.2:{metrics}",
            "trade": f"127.0.0.1:{self.executor.port}",
        }

    def start(self) -> None:
        """Start everything, and wait until nothing is wrong."""
        self.start_worker()
        self.deployment.start("mirror", "mirror")
        self.deployment.start("market", "feed", "synthetic", "--live", "--bars", "200")
        self.service.start()
        self.start_executor()
        self.until_well()

    def start_worker(self) -> None:
        """Start the worker."""
        self.deployment.start(
            "worker", "worker", "--worker-id", "worker", METRICS_PORT=str(self.worker_port)
        )

    def start_executor(self, **settings: str) -> None:
        """Start the executor."""
        self.executor.settings = settings
        self.executor.start()
        self.executor.until_reconciled()

    def until_well(self) -> None:
        """Wait until the service finds nothing wrong.

        What was refused once, and that a process was stopped and started, stays a warning.
        """

        bad: dict[str, str] = {}

        def well() -> bool:
            for process in self.deployment.processes.values():
                process.poll()
            try:
                signals = self.service.get("/api/preflight", **READING).json.get("signals", [])
            except OSError:
                return False
            bad.clear()
            for one in signals:
                if one["state"] in ("warn", "fail", "unknown"):
                    bad[one["name"]] = f"{one['state']}: {one['detail']}"
            lasting = {"dead_letters", "invalid_records", "orders_rejected", "restarts"}
            return bool(signals) and bad.keys() <= lasting

        until(well, lambda: f"{bad}\n{self.deployment.last_output()}", every_s=0.2)

    def bars(self) -> int:
        """Return how many bars the service has seen the end of."""
        found = self.service.get("/api/global-status", **READING).json
        return int(found["market"]["newest_as_of_ms"]) // 5_000

    def fills(self) -> list[BrokerReport]:
        """Return what the broker has reported."""
        return [r for r in self.deployment.events(FILLS) if isinstance(r, BrokerReport)]

    @contextmanager
    def without(self, name: str, again: Callable[[], object]) -> Iterator[None]:
        """Stop a process for a while."""
        self.deployment.processes[name].stop()
        try:
            yield
        finally:
            again()
            self.until_well()


class Quiet:
    """What was seen while nothing was disturbed."""

    def __init__(self, stack: Stack) -> None:
        rules = changed_rules(stack.directory / "rules.yml", length=shorter)
        extra = {
            "with-token": {
                "static_configs": [{"targets": [f"127.0.0.1:{stack.service.ports['API_PORT']}"]}],
                "authorization": {"credentials": TOKEN},
                "metric_relabel_configs": [{"action": "drop", "regex": ".*", "source_labels": []}],
            },
            "without": f"127.0.0.1:{stack.service.ports['API_PORT']}",
            "foreign-name": f"127.0.0.2:{stack.service.ports['API_PORT']}",
        }
        prometheus = Prometheus(stack.directory / "quiet", stack.targets | extra, [rules])
        prometheus.start()
        try:
            until(lambda: all(j in prometheus.scraped() for j in stack.targets), every_s=0.1)
            before = len(stack.fills())
            end = stack.bars() + QUIET_BARS
            until(lambda: stack.bars() >= end, every_s=0.5)
            until(
                lambda: len(stack.fills()) >= before + 8, stack.deployment.last_output, every_s=0.5
            )
            self.reports = stack.fills()[before:]
            self.fired = prometheus.ever("firing")
            self.scraped = prometheus.scraped()
            self.accepted = prometheus.value(
                'sum(increase(manifold_broker_reports_total{status="accepted"}[5m]))'
            )
        finally:
            prometheus.stop()


@pytest.fixture(scope="module")
def stack(kafka: KafkaBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp("alerts")
    valkey = ValkeyServer(directory / "valkey")
    valkey.start()
    deployment = Deployment(
        directory,
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        TOPIC_PREFIX=f"t{uuid.uuid4().hex[:8]}.",
        VALKEY_URL=valkey.url,
        **SETTINGS,
    )
    made = Stack(deployment, valkey, directory)
    try:
        made.start()
        yield made
    finally:
        deployment.stop()
        valkey.stop()


@pytest.fixture(scope="module")
def quiet(stack: Stack) -> Quiet:
    return Quiet(stack)


@pytest.fixture(scope="module")
def prometheus(stack: Stack, quiet: Quiet) -> Iterator[Prometheus]:
    """One that fires without delay, and takes seconds for silence already."""
    lower = {"> 120": "> 8", "_kept_seconds > 30": "_kept_seconds > 8"}
    rules = changed_rules(stack.directory / "hasty.yml", lower=lower, wait="1s")
    made = Prometheus(stack.directory / "hasty", stack.targets, [rules])
    made.start()
    try:
        made.until_scraped()
        yield made
    finally:
        made.stop()


def test_nothing_fires_while_paper_orders_are_filled(quiet: Quiet) -> None:
    assert {report.status for report in quiet.reports} == {"unknown", "filled"}
    assert sum(quiet.accepted.values()) > 0
    assert quiet.fired == set()


def test_the_service_is_scraped_as_its_manifest_lets_it_be(quiet: Quiet) -> None:
    assert {job: quiet.scraped[job] for job in ("worker", "serve", "trade", "with-token")} == (
        dict.fromkeys(("worker", "serve", "trade", "with-token"), "up")
    )
    # why it has a port for that
    assert "401" in quiet.scraped["without"]
    assert "400" in quiet.scraped["foreign-name"]


def test_the_first_record_of_a_reason_is_told(stack: Stack, prometheus: Prometheus) -> None:
    producer = Producer(producer_config(stack.deployment.runtime))
    topic = stack.deployment.runtime.topic(CANDLES)
    producer.produce(topic, b"no frame", b"EUR_USD", partition=0)
    assert producer.flush(20) == 0
    assert prometheus.until_firing("DeadLetters", stage="signals")["reason"]
    prometheus.until_firing("ManifoldWarning", name="dead_letters")


def test_an_engaged_kill_switch(stack: Stack, prometheus: Prometheus) -> None:
    try:
        assert stack.deployment.run("kill", "on", "--reason", "a test").returncode == 0
        prometheus.until_firing("KillSwitchEngaged")
    finally:
        done = stack.deployment.run("kill", "off", "--reason", "the test is over")
        assert done.returncode == 0, done.stderr


def test_refused_orders(stack: Stack, prometheus: Prometheus) -> None:
    stack.deployment.processes["trade"].stop()
    # hardly any candle opens where the one before closed
    stack.start_executor(MAX_SLIPPAGE_BPS="0.0001")
    try:
        prometheus.until_firing("OrdersRefused", status="cancelled")
    finally:
        stack.deployment.processes["trade"].stop()
        stack.start_executor()


def test_an_executor_that_is_gone(stack: Stack, prometheus: Prometheus) -> None:
    with stack.without("trade", stack.start_executor):
        prometheus.until_firing("ExecutorStopped")
        prometheus.until_firing("ManifoldUnknown", name="executor_stale")


def test_a_worker_that_is_gone(stack: Stack, prometheus: Prometheus) -> None:
    with stack.without("worker", stack.start_worker):
        prometheus.until_firing("ManifoldFailure", name="stage_lag")


def test_valkey_is_away(stack: Stack, prometheus: Prometheus) -> None:
    stack.valkey.kill()
    try:
        prometheus.until_firing("KillSwitchNotKept")
        prometheus.until_firing("ManifoldUnknown", name="manifold_stale")
        prometheus.until_firing("KillSwitchEngaged")
    finally:
        stack.valkey.start()
        stack.until_well()


def test_the_service_is_away(stack: Stack, prometheus: Prometheus) -> None:
    with stack.without("serve", stack.service.start):
        prometheus.until_firing("ManifoldServiceAway")
