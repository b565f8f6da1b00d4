"""Everything the service exports, as Prometheus text."""

from __future__ import annotations

from prometheus_client import generate_latest

from streams.monitoring.facts import nothing_known
from streams.service.live import Live


def metrics_text(live: Live) -> bytes:
    """Set the gauges to the current facts and return every metric."""
    metrics = live.metrics
    metrics.show_view(live.view)
    facts = live.facts.facts()
    if facts is None:  # the last values would hide the failure
        facts = nothing_known(tuple(live.view.instruments), "the last probe is too old")
    metrics.liveness.show(facts, live.now_ms(), live.config, live.facts.limits)
    age_s = live.facts.gathered_age_s
    metrics.age.set(float("nan") if age_s is None else age_s)
    hub = live.hub
    metrics.clients.set(len(hub.clients))
    metrics.dropped.set(hub.dropped)
    for channel, count in hub.published.items():
        metrics.published.labels(channel).set(count)
    metrics.refused.set(live.doorkeeper.refused)
    metrics.followed.set(live.follower.records)
    metrics.skipped.set(live.follower.skipped)
    metrics.following.set(live.log_trouble() is None)
    return generate_latest(metrics.registry)
