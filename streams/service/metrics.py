"""The service's metrics: the profile's gauges, the failure signals, and its own."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge

from streams.kafka.decoding import InvalidRecordsCollector
from streams.monitoring.metrics import LivenessMetrics
from streams.monitoring.view import LiveView
from streams.pipeline.worker.gauges import ProfileGauges
from streams.process.started import ProcessCollector
from streams.trading.kill_switch.metrics import KillSwitchMetrics

METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"))


class ServiceMetrics:
    """One registry; gauges are set at each scrape."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(InvalidRecordsCollector())
        self.registry.register(ProcessCollector())
        made: dict[str, Any] = {"registry": self.registry}
        self.kill_switch = KillSwitchMetrics(self.registry)
        self.liveness = LivenessMetrics(self.registry)
        self.profile = ProfileGauges(self.registry)
        self.requests = Counter(
            "manifold_api_requests", "Responses by status", ["method", "status"], **made
        )
        self.refused = Gauge(
            "manifold_api_refused", "Requests refused: host, origin, token, limits", **made
        )
        self.clients = Gauge("manifold_ws_clients", "Connected WebSocket clients", **made)
        self.published = Gauge(
            "manifold_ws_published", "Events published since the start", ["channel"], **made
        )
        self.dropped = Gauge(
            "manifold_ws_dropped", "Events that slow clients have missed since the start", **made
        )
        self.followed = Gauge("manifold_api_records", "Records followed since the start", **made)
        self.skipped = Gauge("manifold_api_skipped", "Records skipped, too far behind", **made)
        self.following = Gauge("manifold_api_following", "1 while the log is followed", **made)
        self.age = Gauge(
            "sep_global_status_age_seconds",
            "Seconds since the last query of the data outside the log",
            **made,
        )
        self.studies = Counter(
            "sep_studies_series_calls", "Calls of /api/studies/series", ["status"], **made
        )
        for status in ("ok", "no_long_run", "error"):
            self.studies.labels(status)
        self._version = -1

    def answered(self, method: str, status: int) -> None:
        """Count an answer."""
        self.requests.labels(method if method in METHODS else "other", str(status)).inc()

    def show_view(self, view: LiveView) -> None:
        """Set the profile's gauges, if anything has changed since the last time."""
        if view.version == self._version:
            return
        self._version = view.version
        for decision in view.decisions.values():
            self.profile.decision(decision)
        for summary in view.summaries.values():
            self.profile.summary(summary)
        if view.weights is not None:
            self.profile.weights([view.weights])
