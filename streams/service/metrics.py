"""What the service exports: the profile's gauges, the failure signals, and itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from streams.monitoring.facts import nothing_known
from streams.monitoring.metrics import LivenessMetrics
from streams.pipeline.worker.gauges import ProfileGauges
from streams.trading.kill_switch.metrics import KillSwitchMetrics

if TYPE_CHECKING:
    from streams.service.live import Live


METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"))


class ServiceMetrics:
    """One registry; gauges are set when somebody asks."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        made: dict[str, Any] = {"registry": self.registry}
        self.kill_switch = KillSwitchMetrics(self.registry)
        self.liveness = LivenessMetrics(self.registry)
        self.profile = ProfileGauges(self.registry)
        self.requests = Counter(
            "manifold_api_requests", "Answers by status", ["method", "status"], **made
        )
        self.refused = Gauge(
            "manifold_api_refused", "Requests not let in: host, origin, token, limits", **made
        )
        self.clients = Gauge("manifold_ws_clients", "WebSocket clients", **made)
        self.published = Gauge(
            "manifold_ws_published", "Events published since the start", ["channel"], **made
        )
        self.dropped = Gauge(
            "manifold_ws_dropped", "Events that slow clients have missed since the start", **made
        )
        self.followed = Gauge("manifold_api_records", "Records followed since the start", **made)
        self.skipped = Gauge("manifold_api_skipped", "Records passed over, too far behind", **made)
        self.following = Gauge("manifold_api_following", "1 while the log is followed", **made)
        self.age = Gauge(
            "sep_global_status_age_seconds",
            "Since what the aggregate shows beside the log was last asked for",
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

    def text(self, live: Live) -> bytes:
        """Return everything as Prometheus text."""
        now_ms = live.now_ms()
        self._profile(live)
        facts = live.facts.facts()
        if facts is None:  # the last values would say that all is as it was
            facts = nothing_known(
                tuple(live.view.instruments), "nothing was looked at for too long"
            )
        self.liveness.show(facts, now_ms, live.config, live.facts.limits)
        age_s = live.facts.gathered_age_s
        self.age.set(float("nan") if age_s is None else age_s)
        hub = live.hub
        self.clients.set(len(hub.clients))
        self.dropped.set(hub.dropped)
        for channel, count in hub.published.items():
            self.published.labels(channel).set(count)
        self.refused.set(live.doorkeeper.refused)
        self.followed.set(live.follower.records)
        self.skipped.set(live.follower.skipped)
        self.following.set(live.log_trouble() is None)
        return generate_latest(self.registry)

    def _profile(self, live: Live) -> None:
        view = live.view
        if view.version == self._version:
            return
        self._version = view.version
        for decision in view.decisions.values():
            self.profile.decision(decision)
        for summary in view.summaries.values():
            self.profile.summary(summary)
        if view.weights is not None:
            self.profile.weights([view.weights])
