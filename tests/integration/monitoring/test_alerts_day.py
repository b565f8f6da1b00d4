"""The alerts on a real Prometheus with a back-filled day of paper trading: none fires.

Back-filled are the series of the product's own exporters over a day on a virtual clock
(``tests.support.paper_day``). Prometheus evaluates every rule at every minute of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.support.paper_day import DAY, MINUTE, START_MS, PaperDay, openmetrics, paper_day
from tests.support.prometheus import Prometheus, Rule, alert_rules, firing, metric_names

PAIRS = ("EUR_USD", "GBP_USD", "USD_JPY", "EUR_JPY")
HISTORY = 600
ENVIRONMENT = {
    # guards and floors that this market passes: what a deployment is calibrated to
    "AUTO_MIN_COHERENCE": "0",
    "GUARD_MIN_STABILITY": "0",
    "AUTO_MAX_ENTROPY": "1",
    "AUTO_MAX_RUPTURE": "1",
    "SESSION_PATTERN_MIN_OCCURRENCES": "1",
    "EVAL_MIN_TRADES": "0",
    "EVAL_CALMAR_MIN": "-1000",
    "EVAL_PNL_MIN": "-1",
    "EVAL_SLICES_DAYS": "1,7",
    "EVAL_SPAN_DAYS": "1",
    "EVAL_HISTORY_HOURS": "12",
    "MAX_SPREAD_BPS": "10",
}
STEP_S = 60.0
RULES = alert_rules()


class Filled(NamedTuple):
    """A day, and a Prometheus that has its series."""

    day: PaperDay
    prometheus: Prometheus

    def fires(self, rule: Rule) -> list[object]:
        """Return when a rule's alerts begin to fire in the day."""
        start = START_MS / 1000 + STEP_S
        end = START_MS / 1000 + DAY * MINUTE / 1000
        found = self.prometheus.over(rule["expr"], start + 30.0, end + 30.0, STEP_S)
        return list(firing(rule, found, STEP_S))


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    directory = tmp_path_factory.mktemp("prometheus")
    prometheus = Prometheus(directory, rules=())
    names = metric_names(RULES) | {"sep_nav"}
    day = paper_day(ENVIRONMENT, PAIRS, names, seed=1, history=HISTORY)
    prometheus.import_lines(openmetrics(day.samples))
    try:
        prometheus.start()
        yield Filled(day, prometheus)
    finally:
        prometheus.stop()


def test_it_is_a_day_of_trading(filled: Filled) -> None:
    reports = [r for reports in filled.day.ledger.reports.values() for r in reports]
    statuses = {report.status for report in reports if report.cause == "order"}
    assert {"filled", "unknown"} <= statuses
    assert sum(report.status == "filled" for report in reports) > 40
    assert {"stop_loss", "take_profit", "order"} & {report.cause for report in reports}
    looks = {
        name: {value for _, value in points} for (name, _), points in filled.day.samples.items()
    }
    assert looks["sep_market_open"] == {0.0, 1.0}, "the daily pause is part of a day"
    assert looks["sep_selected_count"] > {0.0}
    # every series that the rules ask for is there, but those of OANDA, of settings that differ, of
    # refused records and of the processes themselves, of which a virtual day has none
    asked = {n for n in metric_names(RULES) if "oanda" not in n}
    assert asked - looks.keys() == {
        *("manifold_config_differs", "sep_invalid_records_total"),
        *("manifold_process_open_files", "manifold_process_open_files_limit"),
        "manifold_process_start_time_seconds",
    }


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_a_normal_day_fires_no_alert(filled: Filled, rule: Rule) -> None:
    assert filled.fires(rule) == []


ONCE = (
    # what these alerts were before, and so what this day tells apart
    ("an accepted paper order as one without an answer",
     'sum by (status) (increase(manifold_broker_reports_total{status="accepted"}[15m])) > 0'),
    ("a change over seven days that were minutes", "abs(max(delta(sep_nav[7d]))) > 0"),
)  # fmt: skip


@pytest.mark.parametrize(("what", "expr"), ONCE, ids=[what for what, _ in ONCE])
def test_what_fired_in_such_a_day_would_be_seen(filled: Filled, what: str, expr: str) -> None:
    assert filled.fires({"alert": what, "expr": expr})
