"""The failure signals and the facts behind them, as Prometheus gauges."""

from __future__ import annotations

from typing import Any, Final

from prometheus_client import CollectorRegistry, Gauge

from streams.candles.calendar import calendar_of
from streams.candles.market_clock import market_at
from streams.config.settings import Config
from streams.monitoring.alert_rules_processes import restarts_since
from streams.monitoring.alerts import failure_signals
from streams.monitoring.facts import SOURCES, LiveFacts
from streams.monitoring.verdict import SECOND_MS, SEVERITY, FailureSignal, Limits

AWAY: Final = float("nan")
"""Unknown; a gauge that kept its last value would hide the failure."""


class LivenessMetrics:
    """Gauges of the live loop; ``show`` sets all of them.

    Ages are wall-clock seconds; alert rules use ``sep_failure_signal``, which counts open-market
    time.

    Parameters
    ----------
    registry
        Prometheus registry.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        made: dict[str, Any] = {"registry": registry}
        instrument = ["instrument"]
        self.signal = Gauge(
            "sep_failure_signal",
            "Failure signal: -1 unknown, 0 ok or quiet, 1 warning, 2 failure",
            ["name"],
            **made,
        )
        self.since = Gauge(
            "sep_failure_signal_since_seconds",
            "Start of the warning or failure, epoch seconds; 0 when there is none",
            ["name"],
            **made,
        )
        self.market_open = Gauge("sep_market_open", "1 while the market is open", **made)
        self.candle_age = Gauge(
            "sep_candle_age_seconds",
            "Seconds since the end of the last candle in the log",
            instrument,
            **made,
        )
        self.manifold_age = Gauge(
            "sep_manifold_age_seconds", "Age of ws:last:manifold, by its as_of", instrument, **made
        )
        self.blob_age = Gauge(
            "sep_gates_blob_age_seconds", "Seconds since the ts of the gates blob", **made
        )
        self.status_age = Gauge(
            "sep_allocator_status_age_seconds", "Seconds since the allocator's status", **made
        )
        self.eligible = Gauge(
            "sep_eligible_count", "Number of eligible instruments that may get weight", **made
        )
        self.cooling = Gauge("sep_cooldown_count", "Number of instruments in cooldown", **made)
        self.selected = Gauge("sep_selected_count", "Number of instruments with weight", **made)
        self.due = Gauge(
            "sep_selected_due",
            "Number of instruments that should have weight: min(Top-K, eligible)",
            **made,
        )
        self.stage_lag = Gauge(
            "sep_stage_lag",
            "Records not yet processed by a stage or the mirror",
            ["stage"],
            **made,
        )
        self.dead_letters = Gauge("sep_dead_letters", "Records in dead.letters", **made)
        self.restarts = Gauge(
            "sep_recent_restarts",
            "Restarts of a process in the last 10 minutes, from Valkey and from the status ports",
            ["process"],
            **made,
        )
        self.source_up = Gauge(
            "sep_source_up", "1 when the source answered at the last probe", ["source"], **made
        )

    def show(
        self, facts: LiveFacts, now_ms: int, config: Config, limits: Limits | None = None
    ) -> tuple[FailureSignal, ...]:
        """Set every gauge; return the failure signals.

        Parameters
        ----------
        facts, now_ms, config, limits
            As in ``failure_signals``.
        """
        signals = failure_signals(facts, now_ms, config, limits)
        for one in signals:
            self.signal.labels(one.name).set(SEVERITY[one.state])
            bad = one.state in ("warn", "fail") and one.since_ms is not None
            self.since.labels(one.name).set((one.since_ms or 0) / 1000 if bad else 0.0)
        self.market_open.set(market_at(calendar_of(config), now_ms).open)
        self._show_log(facts, now_ms)
        self._show_mirror(facts, now_ms)
        used = Limits() if limits is None else limits
        self.restarts.clear()
        for process, starts in facts.starts.items():
            since_ms = now_ms - used.restart_window_sec * SECOND_MS
            self.restarts.labels(process).set(restarts_since(starts, since_ms, now_ms))
        for source in SOURCES:
            if source not in facts.unused:
                self.source_up.labels(source).set(getattr(facts, source) is not None)
        return signals

    def _show_log(self, facts: LiveFacts, now_ms: int) -> None:
        log = facts.log
        for pair in facts.pairs:
            last = log.candles.get(pair) if log else None
            self.candle_age.labels(pair).set(_age(last, now_ms))
        epoch = log.epochs[-1] if log and log.epochs else None
        self.eligible.set(AWAY if epoch is None else epoch.eligible)
        self.cooling.set(AWAY if epoch is None else epoch.cooling)
        self.selected.set(AWAY if epoch is None else epoch.weighted)
        self.due.set(AWAY if epoch is None else min(epoch.top_k, epoch.eligible))
        self.dead_letters.set(AWAY if log is None else log.dead_letters)
        if log is None:
            self.stage_lag.clear()
        for stage, lag in log.lag.items() if log else ():
            self.stage_lag.labels(stage).set(lag)

    def _show_mirror(self, facts: LiveFacts, now_ms: int) -> None:
        mirror = facts.valkey
        for pair in facts.pairs:
            found = mirror.manifolds.get(pair) if mirror else None
            self.manifold_age.labels(pair).set(_age(found.as_of_ms if found else None, now_ms))
        self.blob_age.set(_age(mirror.blob_ms if mirror else None, now_ms))
        self.status_age.set(_age(mirror.status_ms if mirror else None, now_ms))


def _age(at_ms: int | None, now_ms: int) -> float:
    return AWAY if at_ms is None else (now_ms - at_ms) / 1000
