"""Prometheus metrics of a worker: one table of names, filled from committed batches."""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from streams.core.layout import EXIT_REASONS
from streams.kafka.decoding import InvalidRecordsCollector
from streams.pipeline.worker.gauges import ProfileGauges
from streams.process.metrics import Children
from streams.process.started import ProcessCollector
from streams.records.codec import DECODE_REASONS
from streams.records.config_following import ConfigCollector, FollowedConfig
from streams.records.events import (
    DeadLetter,
    GateDecision,
    Manifold,
    SimulatedTrade,
    Summary,
    Weights,
)
from streams.records.log_record import Output, SourceRecord
from streams.records.reasons import Reason, Refusal
from streams.records.topics import STAGE_SOURCES

_TOPIC, _EVENT, _REASONS = attrgetter("topic"), attrgetter("event"), attrgetter("reasons")
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class WorkerMetrics:
    """The metrics of a worker; an observer of ``streams.pipeline.worker``.

    Names begin with ``sep_`` or ``manifold_`` (docs/spec/trading-loop.md 5.7). A batch is counted
    as a whole, because one update of a metric takes about as long as the step of a candle.

    Prometheus sees an increase only in a series that it has scraped before, so every series with
    labels known in advance exists from the start, as 0.

    Parameters
    ----------
    followed
        The configuration that the worker follows.
    instruments
        The expected instruments (``HOTBAND_PAIRS``).
    """

    def __init__(
        self, followed: FollowedConfig | None = None, instruments: Sequence[str] = ()
    ) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(InvalidRecordsCollector())
        self.registry.register(ProcessCollector())
        self.registry.register(ConfigCollector(followed))
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
            "sep_span_monotonic_violations",
            "Evaluations in which a longer slice had fewer trades",
            **made,
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
        self._dead_letters = Children(self.dead_letters)
        self._records_out = Children(self.records_out)
        self._gap_bars, self._reasons = Children(self.gap_bars), Children(self.reasons)
        self._trades, self._exit_efficiency = Children(self.trades), Children(self.exit_efficiency)
        self._begin_at_zero(instruments)
        self._takers: dict[type, Callable[[str, list[Any]], None]] = {
            DeadLetter: self._refused,
            Manifold: self._manifolds,
            GateDecision: self._decisions,
            Summary: self._summaries,
            SimulatedTrade: self._closed,
        }
        self._arrived: dict[int, float] = {}
        self._positions: dict[tuple[str, int], int] = {}
        self.last_progress: dict[str, float] = {}

    def _begin_at_zero(self, instruments: Sequence[str]) -> None:
        for stage in STAGE_SOURCES:
            self.records_in.labels(stage)
            for refusal in (*Refusal, *DECODE_REASONS):
                self._dead_letters[stage, str(refusal)].inc(0)
        for reason in Reason:
            self._reasons[str(reason)].inc(0)
        for instrument in instruments:
            self._gap_bars[instrument].inc(0)
            for exit_reason in filter(None, EXIT_REASONS):
                self._trades[instrument, exit_reason].inc(0)

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
        for topic, count in Tally(map(_TOPIC, outputs)).items():
            self._records_out[stage, topic].inc(count)
        events: defaultdict[type, list[Any]] = defaultdict(list)
        for event in map(_EVENT, outputs):
            events[event.__class__].append(event)
        for kind, taker in self._takers.items():
            if kind in events:
                taker(stage, events[kind])
        if Weights in events:
            self._weights(events[Weights], now)

    def position_reached(self, stage: str, partition: int, offset: int) -> None:
        """Set the position of a stage."""
        self._positions[stage, partition] = offset
        self.last_progress[stage] = time.monotonic()
        self.position.labels(stage, str(partition)).set(offset)

    def dropped(self, stage: str, partition: int) -> None:
        """Remove a partition that another worker has taken over."""
        self._positions.pop((stage, partition), None)
        for gauge in (self.position, self.lag):
            if (stage, str(partition)) in gauge._metrics:
                gauge.remove(stage, str(partition))

    def _arrivals(self, records: Sequence[SourceRecord], at: float) -> None:
        for record in records[-64:]:
            self._arrived[record.timestamp_ms] = at
        while len(self._arrived) > 4096:
            self._arrived.pop(next(iter(self._arrived)))

    def _refused(self, stage: str, events: list[DeadLetter]) -> None:
        for reason, count in Tally(event.reason for event in events).items():
            self._dead_letters[stage, reason].inc(count)

    def _manifolds(self, _: str, events: list[Manifold]) -> None:
        gaps = dict.fromkeys([event.instrument for event in events], 0)
        late = 0
        for event in events:
            if event.gap_bars:
                gaps[event.instrument] += event.gap_bars
            late += event.late
        for name, count in gaps.items():
            if count or name not in self._gap_bars:
                self._gap_bars[name].inc(count)
        self.late.inc(late)

    def _decisions(self, _: str, events: list[GateDecision]) -> None:
        self.decisions.inc(len(events))
        for reason, count in Tally(chain.from_iterable(map(_REASONS, events))).items():
            self._reasons[reason].inc(count)
        for last in {event.instrument: event for event in events}.values():
            self.profile.decision(last)

    def _summaries(self, _: str, events: list[Summary]) -> None:
        self.span_violations.inc(sum(not event.span_integrity_ok for event in events))
        for last in {event.instrument: event for event in events}.values():
            self.profile.summary(last)

    def _closed(self, _: str, events: list[SimulatedTrade]) -> None:
        for labels, count in Tally((e.instrument, e.exit_reason) for e in events).items():
            self._trades[labels].inc(count)
        for last in {event.instrument: event for event in events if event.mfe_bps > 0.0}.values():
            self._exit_efficiency[last.instrument].set(last.pnl_bps / last.mfe_bps)

    def _weights(self, events: list[Weights], now: float) -> None:
        for event in events:
            arrived = self._arrived.get(event.epoch_ms)
            if arrived is not None:
                self.candle_to_weights.observe(max(0.0, now - arrived))
        self.profile.weights(events)
