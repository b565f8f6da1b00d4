"""Alert rules and dashboard ask only for what the code exports; both are well-formed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from streams.config.oanda import Oanda
from streams.feeds.oanda import FeedState
from streams.feeds.oanda_status import FeedCollector
from streams.monitoring.alerts import NAMES
from streams.oanda.client import OandaClient
from streams.oanda.metrics import OandaCollector
from streams.oanda.stream import price_stream
from streams.pipeline.worker.metrics import WorkerMetrics
from streams.service.metrics import ServiceMetrics
from streams.trading.metrics import ExecutorMetrics
from tests.conftest import program
from tests.support.prometheus import NAME, RULES, alert_rules

ROOT = Path(__file__).resolve().parents[3]
DASHBOARD = ROOT / "deploy" / "grafana" / "manifold.json"
SUFFIXES = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_sum", "_count"),
}


def exported() -> dict[str, set[str]]:
    """Return every sample name that a process exports, with its labels as far as they are told."""
    client = OandaClient(Oanda(oanda_api_key="t", oanda_account_id="101-001-1-001"))
    client.clock.note("Wed, 06 Mar 2024 14:30:20 GMT", 1_709_735_420_000, 1_709_735_420_000)
    stream = price_stream(client, ["EUR_USD"])
    feed = CollectorRegistry()
    feed.register(FeedCollector(FeedState(client, {}, {}, stream)))
    feed.register(OandaCollector(client, {"prices": stream.health}))
    found: dict[str, set[str]] = {}
    for registry in (
        WorkerMetrics().registry,
        ServiceMetrics().registry,
        ExecutorMetrics().registry,
        feed,
    ):
        for family in registry.collect():
            for suffix in SUFFIXES[family.type]:
                found[family.name + suffix] = {
                    label for sample in family.samples for label in sample.labels
                }
    return found


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return found


def expressions() -> Iterator[tuple[str, str]]:
    for rule in alert_rules():
        yield rule["alert"], rule["expr"]
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


EXPRESSIONS = list(expressions())


@pytest.mark.parametrize(("where", "expr"), EXPRESSIONS, ids=[f"{w}" for w, _ in EXPRESSIONS])
def test_every_metric_is_one_that_the_code_exports(where: str, expr: str) -> None:
    names = NAME.findall(expr)
    assert names, f"{where} asks for nothing of ours"
    assert not set(names) - exported().keys()


@pytest.mark.parametrize(("where", "expr"), EXPRESSIONS, ids=[f"{w}" for w, _ in EXPRESSIONS])
def test_every_failure_signal_that_is_named_exists(where: str, expr: str) -> None:
    for name in re.findall(r'sep_failure_signal\{name!?="([^"]+)"\}', expr):
        assert name in NAMES


def test_a_metric_that_nobody_exports_would_be_found() -> None:
    assert NAME.findall("sep_failure_signall == 2 and on() rate(manifold_x_total[5m])") == [
        "sep_failure_signall",
        "manifold_x_total",
    ]
    assert "sep_failure_signall" not in exported()


def test_rules_say_who_is_called_and_why() -> None:
    names = [rule["alert"] for rule in alert_rules()]
    assert len(names) == len(set(names))
    for rule in alert_rules():
        assert rule["labels"]["severity"] in ("page", "warn")
        assert rule["annotations"]["summary"]


def test_the_alerts_of_the_profile_are_there() -> None:
    found = {rule["alert"]: rule for rule in alert_rules()}
    assert found["EligibleFew"]["for"] == "10m"
    assert "< 3" in found["EligibleFew"]["expr"]
    assert found["CooldownsMany"]["for"] == "30m"
    assert "> 4" in found["CooldownsMany"]["expr"]
    assert found["NavDownWhileCalmarPositive"]["expr"].startswith("sep_nav_change_7d < 0")
    assert {"SelectionShort", "ManifoldFailure", "ManifoldUnknown"} <= set(found)


def test_the_dashboard_is_whole() -> None:
    found = dashboard()
    panels = found["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] >= 0 and place["x"] + place["w"] <= 24
        for target in panel.get("targets", ()):
            assert target["datasource"]["uid"] == "${datasource}"
    for one in panels:
        for other in panels:
            assert one is other or not overlap(one["gridPos"], other["gridPos"])


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return (
        one["x"] < other["x"] + other["w"]
        and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"]
        and other["y"] < one["y"] + one["h"]
    )


def test_every_alert_stands_in_the_docs() -> None:
    page = (ROOT / "docs" / "monitoring.md").read_text()
    told = dict(re.findall(r"(?m)^\| `(\w+)` \| (page|warn) \|", page))
    assert told == {rule["alert"]: rule["labels"]["severity"] for rule in alert_rules()}


def test_every_alert_is_shown_silent_and_firing() -> None:
    shown: dict[str, set[bool]] = {}
    for group in yaml.safe_load((ROOT / "tests" / "support" / "rules_test.yml").read_text())[
        "tests"
    ]:
        for one in group["alert_rule_test"]:
            shown.setdefault(one["alertname"], set()).add(bool(one["exp_alerts"]))
    assert shown == {rule["alert"]: {True, False} for rule in alert_rules()}


def test_promtool_finds_the_rules_right_and_the_alerts_fire(tmp_path: Path) -> None:
    promtool = program("promtool")
    shutil.copy(RULES, tmp_path / "rules.yml")
    shutil.copy(ROOT / "tests" / "support" / "rules_test.yml", tmp_path / "rules_test.yml")
    for command in (("check", "rules", "rules.yml"), ("test", "rules", "rules_test.yml")):
        done = subprocess.run(
            [promtool, *command], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
