"""The alerts about OANDA on a real Prometheus that scrapes feed and executor at the test broker.

Every test makes a cause at the broker, and what it is the cause of fires. Lengths of time do not
matter here (the day and the live stack try those).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from prometheus_client import CollectorRegistry, Gauge, start_http_server

from streams.process.child import free_port
from streams.stack.kafka import KafkaBroker
from tests.support.prometheus import Prometheus, changed_rules
from tests.support.trading import ExecutorProcess, oanda_floor
from tests.support.v20 import V20Process
from tests.support.waiting import until

pytestmark = pytest.mark.kafka

READS = "/(openPositions|openTrades|pendingOrders|summary|transactions)"
LOOKS = 8
LOWER = {"stream_age_seconds > 30": "stream_age_seconds > 4"}


class Place:
    """The broker, and the Prometheus that watches who talks to it."""

    def __init__(self, broker: V20Process, prometheus: Prometheus) -> None:
        self.broker, self.prometheus = broker, prometheus

    @contextmanager
    def faults(self, *faults: tuple[str, dict[str, object]]) -> Iterator[None]:
        """Let something fail for a while; then wait until books and broker agree again."""
        for kind, parameters in faults:
            self.broker.fault(kind, **parameters)
        try:
            yield
        finally:
            self.broker.clear_faults()
            self.until_reconciled()

    def until_reconciled(self) -> None:
        """Wait until the executor has compared books and broker."""
        until(
            lambda: set(self.prometheus.value("manifold_reconciled").values()) == {1.0},
            every_s=0.2,
        )


@pytest.fixture(scope="module")
def place(
    kafka: KafkaBroker, new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("oanda-alerts")
    broker = V20Process(hours="always", heartbeat_sec=0.5).start()
    deployment = oanda_floor(
        directory,
        kafka.bootstrap,
        f"t{uuid.uuid4().hex[:8]}.",
        new_database(),
        broker,
        FEED_METRICS_PORT=str(free_port()),
        OANDA_CB_FAILURES="3",
        OANDA_CB_RESET_SEC="2",
        OANDA_HTTP_RETRIES="0",
    )
    # the service says it, and by the week: these tests run on any day
    week, market_port = CollectorRegistry(), free_port()
    Gauge("sep_market_open", "", registry=week).set(1)
    server, thread = start_http_server(market_port, "127.0.0.1", week)
    executor = ExecutorProcess(deployment)
    targets = {
        "market": f"127.0.0.1:{market_port}",
        "feed": f"127.0.0.1:{deployment.environment['FEED_METRICS_PORT']}",
        "trade": f"127.0.0.1:{executor.port}",
    }
    rules = changed_rules(directory / "rules.yml", lower=LOWER, wait="1s")
    prometheus = Prometheus(directory / "prometheus", targets, [rules])
    try:
        deployment.start("feed", "feed", "oanda")
        executor.start()
        executor.until_reconciled()
        prometheus.start()
        prometheus.until_scraped()
        made = Place(broker, prometheus)
        made.until_reconciled()
        yield made
    finally:
        prometheus.stop()
        deployment.stop()
        broker.stop()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def fired_undisturbed(place: Place) -> set[str]:
    """What fires while nothing is disturbed."""
    stream = 'count_over_time(manifold_oanda_stream_age_seconds{job="feed"}[1h])'
    until(lambda: any(n >= LOOKS for n in place.prometheus.value(stream).values()), every_s=0.2)
    # there is no service here, and nobody looks at anything
    return place.prometheus.ever("firing") - {"ManifoldServiceAway"}


@pytest.fixture(autouse=True)
def after_a_while(fired_undisturbed: set[str]) -> None:
    """Make no cause before it was seen what is there without one."""


def test_nothing_fires_undisturbed(fired_undisturbed: set[str]) -> None:
    assert fired_undisturbed == set()


def test_requests_that_fail(place: Place) -> None:
    with place.faults(("status", {"code": 503, "path": READS})):
        place.prometheus.until_firing("OandaErrors", outcome="503")
        place.prometheus.until_firing("NotReconciled")
        place.prometheus.until_firing("OandaHeldBack")


def test_a_silent_stream(place: Place) -> None:
    with place.faults(("silent", {"path": "/pricing/stream", "delay_sec": 0})):
        place.broker.drop()
        place.prometheus.until_firing("OandaStreamSilent", stream="prices")


def test_too_many_requests(place: Place) -> None:
    with place.faults(("status", {"code": 429, "path": "/summary", "count": 1})):
        place.prometheus.until_firing("OandaRateLimited")


def test_clocks_that_differ(place: Place) -> None:
    with place.faults(("clock_skew", {"seconds": 20})):
        place.prometheus.until_firing("ClockSkew")


def test_margin(place: Place) -> None:
    """Somebody else opens a position of 3,000,000 units, which takes two thirds of the margin."""

    def order(units: str) -> None:
        body = {"type": "MARKET", "instrument": "EUR_USD", "units": units, "timeInForce": "FOK"}
        status, answer = place.broker.api("POST", "/accounts/{account}/orders", {"order": body})
        assert status == 201 and "orderFillTransaction" in answer, answer

    order("3000000")
    try:
        place.prometheus.until_firing("MarginHigh")
    finally:
        order("-3000000")
