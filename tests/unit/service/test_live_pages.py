"""Status and metrics of other processes as facts: what is not as agreed is not known."""

from __future__ import annotations

import json
from email.utils import formatdate
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

from streams.config.difference import Difference
from streams.config.monitoring import Liveness
from streams.config.oanda import Oanda
from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.errors import Fatal, Recoverable
from streams.monitoring.executor_status import agreed_status, executor_facts
from streams.monitoring.facts import (
    ExecutorFacts,
    FeedFacts,
    LiveFacts,
    WaitingOrder,
    nothing_known,
)
from streams.monitoring.http_probe import (
    Recent,
    StatusPages,
    failed_request,
    feed_facts,
    samples_of,
)
from streams.monitoring.metrics import LivenessMetrics
from streams.monitoring.orders import order_facts
from streams.monitoring.sources import own_worker_url
from streams.monitoring.warmup.warm_state import PairState, missing
from streams.oanda.metrics import OandaCollector
from streams.oanda.stream import StreamHealth
from streams.oanda.transport import HttpTransport
from streams.process.child import free_port
from streams.process.steady_clock import steady_ms, wall_less_steady_ms
from streams.records.trading_events import BrokerReport, OrderIntent
from streams.trading.reports import ACCEPTED
from tests.support.sample_events import SAMPLES
from tests.support.sample_facts import MINUTE_MS, OPEN, PAIRS, healthy

STATUS: dict[str, Any] = {
    "ts_ms": OPEN,
    "venue": "oanda",
    "account_id": "101-001-1-001",
    "mode": "practice",
    "read_only": False,
    "dry_run": True,
    "kill_switch": {"engaged": False},
    "account": {
        "currency": "EUR",
        "balance": 100.0,
        "nav": 100.0,
        "margin_used": 10.0,
        "margin_available": 90,
        "unrealized_pl": 0.0,
    },
    "last_cycle_ms": OPEN,
    "reconciled": True,
    "unreconciled": "",
    "differences": [],
    "reading": None,
}


def facts_of(content: Any) -> ExecutorFacts:
    return executor_facts(agreed_status(json.dumps(content)))


def test_an_executors_status_becomes_facts() -> None:
    found = facts_of(STATUS)
    assert (found.mode, found.dry_run, found.last_cycle_ms) == ("practice", True, OPEN)
    assert (found.margin_used, found.margin_available) == (10.0, 90.0)
    assert facts_of(STATUS | {"account": None}).margin_used is None
    assert facts_of(STATUS | {"unreconciled": "no broker"}).trouble == "no broker"
    assert facts_of(STATUS | {"last_cycle_ms": 0}).last_cycle_ms is None
    assert found.config_differs == ()
    differs = [{"name": "GATE_MODE", "here": "echo", "active": ""}]
    assert facts_of(STATUS | {"config_differs": differs}).config_differs == (
        Difference("GATE_MODE", "echo", ""),
    )


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        {"mode": "real"},
        {"read_only": 0},
        {"reconciled": "yes"},
        {"differences": None},
        {"account": 7},
        {"account": STATUS["account"] | {"margin_used": "much"}},
        {"account": {"currency": "EUR"}},
        {"config_differs": "GATE_MODE"},
        {"config_differs": ["GATE_MODE"]},
        {"config_differs": [{"name": "GATE_MODE", "here": 1, "active": ""}]},
    ],
)
def test_a_status_that_is_not_as_agreed_is_no_status(wrong: Any) -> None:
    content = STATUS | wrong if isinstance(wrong, dict) else wrong
    with pytest.raises(ValueError, match=r".+"):
        facts_of(content)


def test_a_feeds_metrics_are_read_by_the_names_it_exports() -> None:
    transport = HttpTransport(Oanda(oanda_api_key="t", oanda_account_id="101-001-1-001"))
    health = StreamHealth()
    registry = CollectorRegistry()
    registry.register(OandaCollector(transport, {"prices": health}))
    samples = samples_of(generate_latest(registry).decode())
    assert feed_facts(samples, OPEN) == FeedFacts(None)
    transport.counts.requests["candles", "503"] += 2
    transport.counts.requests["candles", "200"] += 5
    transport.counts.requests["order", "404"] += 1
    asked_ms = steady_ms()
    ahead_s = (asked_ms + wall_less_steady_ms()) / 1000 + 9
    transport.clock.note(formatdate(ahead_s, usegmt=True), asked_ms, asked_ms + 1_000)
    samples = samples_of(generate_latest(registry).decode())
    assert feed_facts(samples, OPEN).skew_ms == pytest.approx(9_000, abs=1_100)
    failed = sum(
        value
        for name, labels, value in samples
        if name == "manifold_oanda_requests_total" and failed_request(labels)
    )
    assert failed == 2


async def metrics_page(text: str) -> tuple[web.AppRunner, str]:
    async def show(_: web.Request) -> web.Response:
        return web.Response(text=text)

    application = web.Application()
    application.router.add_get("/metrics", show)
    runner = web.AppRunner(application)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return runner, f"http://127.0.0.1:{port}/metrics"


DIFFERS = 'manifold_config_differs{setting="GATE_MODE",here="adaptive",active="echo"} 1.0\n'


async def test_the_workers_that_are_named_must_answer_and_one_that_may_be_here_need_not() -> None:
    one, other_url = await metrics_page(DIFFERS)
    two, url = await metrics_page("# nothing of that\n")
    nobody = f"http://127.0.0.1:{free_port()}/metrics"
    asking = [
        StatusPages("", "", (other_url, url)),
        StatusPages("", "", (url, nobody)),
        StatusPages("", "", worker_here=url),
        StatusPages("", "", worker_here=nobody),
        StatusPages("", ""),
    ]
    try:
        found = (await asking[0].workers()).config_differs
        assert list(found.values()) == [(Difference("GATE_MODE", "adaptive", "echo"),), ()]
        assert list(found) == [urlsplit(each).netloc for each in (other_url, url)]
        with pytest.raises(Recoverable, match=urlsplit(nobody).netloc):
            await asking[1].workers()
        assert len((await asking[2].workers()).config_differs) == 1
        assert (await asking[3].workers()).config_differs == {}
        assert [pages.has_workers for pages in asking] == [True, True, True, True, False]
    finally:
        for pages in asking:
            await pages.close()
        for runner in (one, two):
            await runner.cleanup()


def test_addresses_of_workers_are_a_list() -> None:
    named = {"WORKER_METRICS_URLS": " http://a:1/metrics, http://b:2/metrics ,"}
    assert Liveness.from_env(named).worker_urls == ("http://a:1/metrics", "http://b:2/metrics")
    assert Liveness.from_env({}).worker_urls == ()
    with pytest.raises(Fatal, match="WORKER_METRICS_URLS: 'b:2' is not an http"):
        Liveness.from_env({"WORKER_METRICS_URLS": "http://a:1/metrics,b:2"})
    assert own_worker_url(Runtime(metrics_port=0)) == ""
    assert own_worker_url(Runtime(metrics_host="0.0.0.0")) == "http://127.0.0.1:9108/metrics"


def test_what_is_no_page_is_said() -> None:
    with pytest.raises(Recoverable):
        samples_of("<html>")


def test_a_counter_is_counted_over_an_hour_and_over_restarts() -> None:
    now = [0.0]
    recent = Recent(lambda: now[0])
    assert recent.note(5) is None
    now[0] = 60.0
    assert recent.note(7) == 2
    now[0] = 120.0
    assert recent.note(1) == 3  # started again: what it counts from 0 is new
    now[0] = 3_700.0
    assert recent.note(1) == 1


def order(order_id: str, as_of_ms: int, submitted: bool = True) -> OrderIntent:
    intent: Any = SAMPLES["OrderIntent"]
    made: OrderIntent = intent._replace(order_id=order_id, as_of_ms=as_of_ms, submitted=submitted)
    return made


def answer(order_id: str, status: str, reason: str | None = None) -> BrokerReport:
    report: Any = SAMPLES["BrokerReport"]
    made: BrokerReport = report._replace(order_id=order_id, status=status, reason=reason)
    return made


def test_orders_are_counted_by_what_came_of_them() -> None:
    intents = [
        order("old", OPEN - 2 * 3_600_000),
        order("filled", OPEN - MINUTE_MS),
        order("rejected", OPEN - MINUTE_MS),
        order("held back", OPEN - MINUTE_MS, submitted=False),
        order("lost", OPEN - 2 * MINUTE_MS),
        order("asked", OPEN - 2 * MINUTE_MS),
        order("just sent", OPEN - 1_000),
        order("accepted", OPEN - MINUTE_MS),
    ]
    reports = {
        "filled": answer("filled", "filled"),
        "rejected": answer("rejected", "rejected", "INSUFFICIENT_MARGIN"),
        "asked": answer("asked", "unknown"),
        "old": answer("old", "rejected"),
        "accepted": answer("accepted", "unknown", ACCEPTED)._replace(time_ms=OPEN - MINUTE_MS),
    }
    found = order_facts(intents, reports, OPEN, 3_600_000)
    assert (found.sent, found.rejected, found.cancelled) == (6, 1, 0)
    assert found.unresolved == ("asked", "lost")
    assert found.waiting == (WaitingOrder("accepted", "EUR_USD", OPEN - MINUTE_MS),)
    assert found.last_reason == "INSUFFICIENT_MARGIN"


def shown(facts: LiveFacts) -> dict[str, float]:
    registry = CollectorRegistry()
    LivenessMetrics(registry).show(facts, OPEN, Config())
    lines = generate_latest(registry).decode().splitlines()
    found = [line.rpartition(" ") for line in lines if not line.startswith("#")]
    return {name: float(value) for name, _, value in found}


def test_metrics_say_what_the_page_says_and_never_keep_an_old_value() -> None:
    found = shown(healthy())
    assert {v for name, v in found.items() if name.startswith("sep_failure_signal{")} == {0.0}
    assert found['sep_manifold_age_seconds{instrument="EUR_USD"}'] == 20.0
    registry = CollectorRegistry()
    metrics = LivenessMetrics(registry)
    metrics.show(healthy(), OPEN, Config())
    metrics.show(nothing_known(PAIRS, "not asked"), OPEN, Config())
    text = generate_latest(registry).decode()
    assert 'sep_failure_signal{name="candle_stale"} -1.0' in text
    assert 'sep_manifold_age_seconds{instrument="EUR_USD"} NaN' in text
    assert "sep_stage_lag{" not in text


@pytest.mark.parametrize(
    ("candles", "days", "wanted"),
    [
        (0, 0.0, (129, 189, 30.0)),
        (128, 0.1, (1, 61, 29.9)),
        (129, 0.1, (0, 60, 29.9)),
        (189, 29.0, (0, 0, 1.0)),
        (1500, 31.0, (0, 0, 0.0)),
    ],
)
def test_what_is_missing_is_exact(
    candles: int, days: float, wanted: tuple[int, int, float]
) -> None:
    last = OPEN
    state = PairState("EUR_USD", candles, round(last - days * 86_400_000), last)
    found = missing(state, Config())
    assert found[:2] == wanted[:2]
    assert found.days_to_floors == pytest.approx(wanted[2])
    assert missing(state, Config(gate_mode="static")).days_to_floors == 0
