"""Prometheus metrics of the keeper."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge

from streams.trading.kill_switch.lease import ACTOR

SOURCES = ("log", "unknown")
ENVIRONMENT = "environment"
ACTORS = (ACTOR, ENVIRONMENT)
"""Who is written as the actor of what a keeper appends by itself."""


class KillSwitchMetrics:
    """What a keeper exports.

    Parameters
    ----------
    registry
        Where they are registered; one of their own by default.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = CollectorRegistry() if registry is None else registry
        made: dict[str, Any] = {"registry": self.registry}
        self.engaged = Gauge(
            "manifold_kill_switch_engaged", "1 unless the keeper has proof that it is off", **made
        )
        self.since = Gauge(
            "manifold_kill_switch_since_seconds", "Since when the log says so (Unix time)", **made
        )
        self.source = Gauge(
            "manifold_kill_switch_source",
            "1 for what the answer comes from: the log, or unknown because something is away",
            ["source"],
            **made,
        )
        self.appended = Counter(
            "manifold_kill_switch_appended",
            "Switch positions found in Valkey, or set by the environment, written to the log",
            ["actor"],
            **made,
        )
        self.kept = Gauge(
            "manifold_kill_switch_kept_seconds",
            "When the keeper last proved that it lives (Unix time)",
            **made,
        )
        self.failures = Counter(
            "manifold_kill_switch_failures", "Rounds in which Kafka or Valkey was away", **made
        )
        for actor in ACTORS:
            self.appended.labels(actor)
        self.say(True, None, "unknown")

    def say(self, engaged: bool, since_ms: int | None, source: str) -> None:
        """Export an answer and where it comes from."""
        self.engaged.set(int(engaged))
        if since_ms is not None:
            self.since.set(since_ms / 1000)
        for name in SOURCES:
            self.source.labels(name).set(int(name == source))
