"""Prometheus metrics of the lease holder."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge

from streams.kafka.decoding import InvalidRecordsCollector
from streams.process.started import ProcessCollector
from streams.trading.kill_switch.lease import ACTOR

SOURCES = ("log", "unknown")
ENVIRONMENT = "environment"
ACTORS = (ACTOR, ENVIRONMENT)
"""Actor of the records that a lease holder appends by itself."""


class KillSwitchMetrics:
    """The metrics that a lease holder exports.

    Parameters
    ----------
    registry
        Prometheus registry; a new one by default.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = CollectorRegistry() if registry is None else registry
        if registry is None:
            self.registry.register(InvalidRecordsCollector())
            self.registry.register(ProcessCollector())
        made: dict[str, Any] = {"registry": self.registry}
        self.engaged = Gauge(
            "manifold_kill_switch_engaged",
            "1 unless the lease holder has verified that the kill switch is off",
            **made,
        )
        self.since = Gauge(
            "manifold_kill_switch_since_seconds", "Time of the state in the log (Unix time)", **made
        )
        self.source = Gauge(
            "manifold_kill_switch_source",
            "1 for the source of the state: the log, or unknown because a service is unavailable",
            ["source"],
            **made,
        )
        self.appended = Counter(
            "manifold_kill_switch_appended",
            "Switch changes found in Valkey or in the environment and written to the log",
            ["actor"],
            **made,
        )
        self.kept = Gauge(
            "manifold_kill_switch_kept_seconds",
            "Time of the last heartbeat (Unix time)",
            **made,
        )
        self.failures = Counter(
            "manifold_kill_switch_failures", "Rounds that failed: Kafka or Valkey down", **made
        )
        for actor in ACTORS:
            self.appended.labels(actor)
        self.say(True, None, "unknown")

    def say(self, engaged: bool, since_ms: int | None, source: str) -> None:
        """Export a state and its source."""
        self.engaged.set(int(engaged))
        if since_ms is not None:
            self.since.set(since_ms / 1000)
        for name in SOURCES:
            self.source.labels(name).set(int(name == source))
