"""Prometheus metrics of a worker: one table of names, filled from committed batches."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from streams.events import (
    DeadLetter,
    GateDecision,
    Manifold,
    SimulatedTrade,
    Summary,
    Weights,
)
from streams.profile_gauges import ProfileGauges
from streams.stages.step import Output, SourceRecord

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class WorkerMetrics:
    """What a worker exports; an observer of ``streams.safety``.

    Names of the profile (core-trading-loop.md 5.7) where they apply, ``manifold_`` otherwise.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        made: dict[str, Any] = {"registry": self.registry}
        stage, place = ["stage"], ["stage", "partition"]
        self.records_in = Counter("manifold_records_in", "Source records processed", stage, **made)
        self.records_out = Counter(
            "manifold_records_out", "Records derived, by topic", ["stage", "topic"], **made
        )
        self.dead_letters = Counter(
            "manifold_dead_letters", "Records refused, by reason", ["stage", "reason"], **made
        )
        self.batch_records = Histogram(
            "manifold_batch_records",
            "Source records in a transaction",
            stage,
            buckets=(1, 2, 5, 10, 28, 100, 300, 1000),
            **made,
        )
        self.batch_seconds = Histogram(
            "manifold_stage_seconds",
            "Time from a batch in hand to its commit",
            stage,
            buckets=SECONDS,
            **made,
        )
        self.position = Gauge("manifold_position", "Next source offset of a stage", place, **made)
        self.lag = Gauge("manifold_consumer_lag", "Source records not processed yet", place, **made)
        self.event_time = Gauge(
            "manifold_event_time_seconds", "as_of of the newest record processed", stage, **made
        )
        self.candle_to_weights = Histogram(
            "manifold_candle_to_weights_seconds",
            "From a candle's arrival at this worker to the commit of its epoch's weights",
            buckets=SECONDS,
            **made,
        )
        self.gap_bars = Counter(
            "manifold_gap_bars", "Missing bars in market hours", ["instrument"], **made
        )
        self.late = Counter("manifold_late_candles", "Candles behind the watermark", **made)
        self.reasons = Counter(
            "manifold_gate_reasons", "Decisions that had a reason", ["reason"], **made
        )
        self.decisions = Counter("manifold_gate_decisions", "Gate decisions", **made)
        self.span_violations = Counter(
            "sep_span_monotonic_violations", "Evaluations that violate that", **made
        )
        self.exit_efficiency = Gauge(
            "sep_exit_efficiency",
            "P&L of the last simulated trade over its best excursion",
            ["instrument"],
            **made,
        )
        self.trades = Counter(
            "sep_bt_trades_closed", "Simulated trades", ["instrument", "exit_reason"], **made
        )
        self.profile = ProfileGauges(self.registry)
        self._arrived: dict[int, float] = {}
        self._positions: dict[tuple[str, int], int] = {}
        self.last_progress: dict[str, float] = {}

    def position_of(self, stage: str, partition: int) -> int | None:
        """Return the next source offset of a stage's partition, None when it is not owned."""
        return self._positions.get((stage, partition))

    def positions(self) -> dict[tuple[str, int], int]:
        """Return the next source offset of every (stage, partition) of this worker."""
        return dict(self._positions)

    def processed(
        self,
        stage: str,
        partition: int,
        records: Sequence[SourceRecord],
        outputs: Sequence[Output],
        seconds: float,
    ) -> None:
        """Count a committed batch."""
        self.records_in.labels(stage).inc(len(records))
        self.batch_records.labels(stage).observe(len(records))
        self.batch_seconds.labels(stage).observe(seconds)
        self.event_time.labels(stage).set(records[-1].timestamp_ms / 1000)
        now = time.monotonic()
        if stage == "signals":
            self._arrivals(records, now - seconds)
        for output in outputs:
            self.records_out.labels(stage, output.topic).inc()
            self._event(stage, output, now)

    def position_reached(self, stage: str, partition: int, offset: int) -> None:
        """Note how far a stage has come."""
        self._positions[stage, partition] = offset
        self.last_progress[stage] = time.monotonic()
        self.position.labels(stage, str(partition)).set(offset)

    def dropped(self, stage: str, partition: int) -> None:
        """Forget a partition that another worker has now."""
        self._positions.pop((stage, partition), None)
        for gauge in (self.position, self.lag):
            if (stage, str(partition)) in gauge._metrics:
                gauge.remove(stage, str(partition))

    def _arrivals(self, records: Sequence[SourceRecord], at: float) -> None:
        for record in records[-64:]:
            self._arrived[record.timestamp_ms] = at
        while len(self._arrived) > 4096:
            self._arrived.pop(next(iter(self._arrived)))

    def _event(self, stage: str, output: Output, now: float) -> None:
        event = output.event
        if isinstance(event, DeadLetter):
            self.dead_letters.labels(stage, event.reason).inc()
        elif isinstance(event, Manifold):
            if event.gap_bars:
                self.gap_bars.labels(event.instrument).inc(event.gap_bars)
            if event.late:
                self.late.inc()
        elif isinstance(event, GateDecision):
            self._decision(event)
        elif isinstance(event, Summary):
            self._summary(event)
        elif isinstance(event, SimulatedTrade):
            self.trades.labels(event.instrument, event.exit_reason).inc()
            if event.mfe_bps > 0.0:
                self.exit_efficiency.labels(event.instrument).set(event.pnl_bps / event.mfe_bps)
        elif isinstance(event, Weights):
            self._weights(event, now)

    def _decision(self, event: GateDecision) -> None:
        self.profile.decision(event)
        self.decisions.inc()
        for reason in event.reasons:
            self.reasons.labels(reason).inc()

    def _summary(self, event: Summary) -> None:
        self.profile.summary(event)
        self.span_violations.inc(not event.span_integrity_ok)

    def _weights(self, event: Weights, now: float) -> None:
        arrived = self._arrived.get(event.epoch_ms)
        if arrived is not None:
            self.candle_to_weights.observe(max(0.0, now - arrived))
        self.profile.weights(event)
