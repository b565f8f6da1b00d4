"""The executor's counters are there before the first, and unknown values are no values."""

from __future__ import annotations

import math
from typing import Any

from prometheus_client import CollectorRegistry

from streams.config.oanda import Oanda
from streams.oanda.client import OandaClient
from streams.oanda.metrics import FAILURES, OandaCollector
from streams.trading.metrics import CAUSES, KINDS, STATUSES, ExecutorMetrics
from streams.trading.reports import ACCEPTED
from tests.support.sample_events import SAMPLES


def samples(registry: CollectorRegistry) -> dict[tuple[str, tuple[str, ...]], float]:
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in registry.collect()
        for sample in family.samples
    }


def test_everything_that_may_be_counted_is_exported_as_0() -> None:
    metrics = ExecutorMetrics()
    metrics.expect(["EUR_USD"])
    found = samples(metrics.registry)
    for status in STATUSES:
        for cause in CAUSES:
            assert found["manifold_broker_reports_total", (status, cause)] == 0.0
    for kind in KINDS:
        assert found["manifold_order_intents_total", (kind, "1")] == 0.0
    assert found["sep_strategy_entry_total", ("EUR_USD",)] == 0.0


def test_what_is_not_known_yet_is_no_value() -> None:
    found = samples(ExecutorMetrics().registry)
    for name in ("sep_nav", "sep_nav_balance", "sep_nav_change_7d", "sep_margin_ratio"):
        assert math.isnan(found[name, ()])
    assert found["sep_kill_switch", ()] == 1.0


def test_an_order_that_waits_for_a_price_is_counted_as_accepted() -> None:
    metrics, intent = ExecutorMetrics(), SAMPLES["OrderIntent"]
    report: Any = SAMPLES["BrokerReport"]
    for reason in (ACCEPTED, "the connection was lost"):
        metrics.reported(intent, report._replace(status="unknown", reason=reason, cause="order"))  # type: ignore[arg-type]
    found = samples(metrics.registry)
    assert found["manifold_broker_reports_total", ("accepted", "order")] == 1.0
    assert found["manifold_broker_reports_total", ("unknown", "order")] == 1.0


def test_guards_are_exported_from_the_first_order_on() -> None:
    metrics, intent = ExecutorMetrics(), SAMPLES["OrderIntent"]
    metrics.intended(intent)  # type: ignore[arg-type]
    found = samples(metrics.registry)
    for verdict in intent.guards:  # type: ignore[union-attr]
        assert found["manifold_guard_blocked_total", (verdict.guard,)] == float(not verdict.passed)


def test_requests_to_oanda_have_every_failure_from_their_first_on() -> None:
    client = OandaClient(Oanda(oanda_api_key="t", oanda_account_id="101-001-1-001"))
    client.counts.requests["candles", "200"] += 3
    client.counts.requests["candles", "503"] += 1
    registry = CollectorRegistry()
    registry.register(OandaCollector(client, {}))
    found = {
        labels: value
        for (name, labels), value in samples(registry).items()
        if name == "manifold_oanda_requests_total"
    }
    wanted = {("candles", outcome): 0.0 for outcome in FAILURES}
    assert found == wanted | {("candles", "200"): 3.0, ("candles", "503"): 1.0}
