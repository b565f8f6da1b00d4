"""``docs/reference/metrics.md``: every Prometheus metric, by the program that exports it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any

from prometheus_client import CollectorRegistry

from streams.cli.mirror import process_registry
from streams.feeds.oanda_status import FeedCollector
from streams.kafka.decoding import InvalidRecordsCollector
from streams.oanda.metrics import OandaCollector
from streams.pipeline.worker.metrics import WorkerMetrics
from streams.process.started import ProcessCollector
from streams.records.config_following import ConfigCollector
from streams.service.metrics import ServiceMetrics
from streams.stack.host_page import process_gauges
from streams.trading.kill_switch.metrics import KillSwitchMetrics
from streams.trading.metrics import ExecutorMetrics
from tests.support.reference_docs.markdown import code, page, table

INTRO = """
Every program exports Prometheus metrics; [monitoring.md](../monitoring.md) has the ports and
the alerts. Counters end in `_total`, histograms in `_bucket`, `_sum` and `_count`. A series
whose labels are known in advance exists from the start as 0; an unknown value is NaN or absent.
"""


def document() -> str:
    """Return the page."""
    parts = []
    for title, collectors in programs().items():
        rows = sorted(row for collector in collectors for row in described(collector))
        parts += [f"## {title}\n", table(["metric", "type", "labels", "meaning"], rows)]
    return page("Metrics", INTRO, *parts)


def programs() -> dict[str, list[Any]]:
    """Return the collectors of every program."""
    return {
        "manifold worker": _of(WorkerMetrics().registry),
        "manifold feed oanda": [
            ConfigCollector(),
            InvalidRecordsCollector(),
            ProcessCollector(),
            FeedCollector(_feed()),
            OandaCollector(_transport(), {}),
        ],
        "manifold mirror": _of(process_registry()),
        "manifold trade": [*_of(ExecutorMetrics().registry), OandaCollector(_transport(), {})],
        "manifold serve": _of(ServiceMetrics().registry),
        "manifold kill keep": _of(KillSwitchMetrics().registry),
        "manifold run": list(process_gauges(CollectorRegistry())),
    }


def described(collector: Any) -> Iterator[tuple[str, str, str, str]]:
    """Yield name, type, labels and meaning of what a collector exports."""
    for family in collector.collect():
        names = getattr(family, "_labelnames", None) or getattr(collector, "_labelnames", ())
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = ", ".join(code(label) for label in names)
        yield code(name), family.type, labels, family.documentation


def _of(registry: CollectorRegistry) -> Iterable[Any]:
    return list(registry._collector_to_names)


def _transport() -> Any:
    # what the collector reads of a client that has met OANDA's clock
    return SimpleNamespace(
        counts=SimpleNamespace(requests={}, retries=Counter(), rate_limited=0, connections=0),
        breaker=SimpleNamespace(open=False),
        access=SimpleNamespace(refused_s=0.0),
        clock=SimpleNamespace(skew_ms=0.0, uncertainty_ms=0.0),
    )


def _feed() -> Any:
    client = SimpleNamespace(now_ms=lambda: 0)
    return SimpleNamespace(pairs={}, feeds={}, prices={}, watermarks=0, client=client)
