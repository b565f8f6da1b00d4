"""Counting by batch exports what counting record by record does, as a plain reference says it."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest

from streams.pipeline.worker.metrics import WorkerMetrics
from streams.records.codec import DECODE_REASONS
from streams.records.events import WATERMARK_KEY, Floors, WeightEntry, WeightGate
from streams.records.log_record import Output, SourceRecord
from streams.records.reasons import Reason, Refusal
from streams.records.topics import DEAD_LETTERS, GATES, MANIFOLDS, SIGNALS, STAGE_SOURCES
from tests.support.sample_events import SAMPLES, TOPIC_OF

Key = tuple[str, tuple[tuple[str, str], ...]]
NAMES = ("EUR_USD", "GBP_USD", "USD_JPY", "AUD_USD", "NZD_USD")
KINDS = (
    "Signal", "Manifold", "Watermark", "SimulatedTrade", "Summary", "GateDecision", "Weights",
    "DeadLetter",
)  # fmt: skip
TOPICS = TOPIC_OF | {"Watermark": SIGNALS, "DeadLetter": DEAD_LETTERS}
CLOCK = (
    "manifold_candle_to_weights_seconds_sum", "manifold_candle_to_weights_seconds_bucket",
    "manifold_process_start_time_seconds", "manifold_process_open_files",
    "manifold_process_open_files_limit",
)  # fmt: skip
BUCKETS = (1, 2, 5, 10, 28, 100, 300, 1000)


class Reference:
    """Every sample, one record after the other, in plain dictionaries."""

    def __init__(self) -> None:
        self.values: defaultdict[Key, float] = defaultdict(float)
        for name in ("late_candles", "gate_decisions"):
            self.count(f"manifold_{name}_total", 0)
        self.count("sep_span_monotonic_violations_total", 0)
        self.count("manifold_candle_to_weights_seconds_count", 0)
        for stage in STAGE_SOURCES:
            self.count("manifold_records_in_total", 0, stage=stage)
            for reason in (*Refusal, *DECODE_REASONS):
                self.count("manifold_dead_letters_total", 0, stage=stage, reason=reason)
        for reason in Reason:
            self.count("manifold_gate_reasons_total", 0, reason=reason)
        self.arrived: set[int] = set()

    def key(self, name: str, labels: dict[str, str]) -> Key:
        return name, tuple(sorted(labels.items()))

    def count(self, name: str, by: float = 1, **labels: str) -> None:
        self.values[self.key(name, labels)] += by

    def set(self, name: str, value: float, **labels: str) -> None:
        self.values[self.key(name, labels)] = float(value)

    def batch(
        self, stage: str, records: list[SourceRecord], outputs: list[Output], seconds: float
    ) -> None:
        self.count("manifold_records_in_total", len(records), stage=stage)
        self.count("manifold_batch_records_sum", len(records), stage=stage)
        self.count("manifold_batch_records_count", stage=stage)
        for bucket in (*BUCKETS, math.inf):
            le = "+Inf" if bucket == math.inf else f"{bucket:.1f}"
            by = len(records) <= bucket
            self.count("manifold_batch_records_bucket", by, stage=stage, le=le)
        self.count("manifold_stage_seconds_sum", seconds, stage=stage)
        self.count("manifold_stage_seconds_count", stage=stage)
        self.set("manifold_event_time_seconds", records[-1].timestamp_ms / 1000, stage=stage)
        if stage == "signals":
            self.arrived |= {record.timestamp_ms for record in records[-64:]}
        for output in outputs:
            self.count("manifold_records_out_total", stage=stage, topic=output.topic)
            take = getattr(self, type(output.event).__name__, None)
            if take is not None:
                take(stage, output.event)

    def DeadLetter(self, stage: str, event: Any) -> None:
        self.count("manifold_dead_letters_total", stage=stage, reason=event.reason)

    def Manifold(self, _: str, event: Any) -> None:
        self.count("manifold_gap_bars_total", event.gap_bars, instrument=event.instrument)
        self.count("manifold_late_candles_total", event.late)

    def GateDecision(self, _: str, event: Any) -> None:
        name = event.instrument
        for key in [k for k in self.values if k[0] == "sep_rolling_gate"]:
            if dict(key[1])["instrument"] == name:
                del self.values[key]
        labels = {"eligible": str(int(event.eligible)), "buf": f"{event.buffer:.2f}"}
        self.set("sep_rolling_gate", 1, instrument=name, **labels)
        self.set("sep_gate_eligible", event.eligible, instrument=name)
        self.count("manifold_gate_decisions_total")
        for reason in event.reasons:
            self.count("manifold_gate_reasons_total", reason=reason)

    def Summary(self, _: str, event: Any) -> None:
        name = event.instrument
        self.count("sep_span_monotonic_violations_total", not event.span_integrity_ok)
        self.set("sep_span_integrity_ok", event.span_integrity_ok, instrument=name)
        (figures,) = [one for one in event.slices if one.days == event.span_days]
        for figure in ("trades", "calmar", "pnl_total", "max_drawdown", "win_rate", "cost_bps"):
            value = getattr(figures, figure)
            self.set(f"sep_bt_{figure}", math.nan if value is None else value, instrument=name)
        for floor, value in event.floors._asdict().items():
            self.set(f"sep_floor_{floor}", value, instrument=name)

    def SimulatedTrade(self, _: str, event: Any) -> None:
        labels = {"instrument": event.instrument, "exit_reason": event.exit_reason}
        self.count("sep_bt_trades_closed_total", **labels)
        if event.mfe_bps > 0:
            kept = event.pnl_bps / event.mfe_bps
            self.set("sep_exit_efficiency", kept, instrument=event.instrument)

    def Weights(self, _: str, event: Any) -> None:
        self.count("manifold_candle_to_weights_seconds_count", event.epoch_ms in self.arrived)
        weights = {entry.instrument: entry.weight for entry in event.entries}
        for gate in event.gates:
            name = gate.instrument
            self.set("sep_allocator_selected", name in weights, instrument=name)
            self.set("sep_allocator_cooldown", gate.cooldown, instrument=name)
            self.set("manifold_weight", weights.get(name, 0.0), instrument=name)


def exported(metrics: WorkerMetrics) -> dict[Key, float]:
    """Return every sample but those that depend on this process and on the clock."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
        and sample.name not in CLOCK
        # counted for the whole process, so by other tests too
        and not sample.name.startswith("sep_invalid_record")
    }


def changed(kind: str, rng: random.Random) -> Any:
    """Return an event whose fields that metrics use are random."""
    event: Any = SAMPLES[kind]
    name = rng.choice(NAMES)
    if kind in ("Signal", "Watermark"):
        return event
    if kind == "DeadLetter":
        return event._replace(reason=str(rng.choice((*Refusal, *DECODE_REASONS))))
    if kind == "Weights":
        members = rng.sample(NAMES, rng.randint(0, len(NAMES)))
        gates = tuple(WeightGate(n, True, rng.random() < 0.5, 0.1, 0) for n in members)
        chosen = rng.sample(members, rng.randint(0, len(members)))
        entries = tuple(WeightEntry(n, 0.5, rng.random(), 0.1) for n in chosen)
        return event._replace(gates=gates, entries=entries, epoch_ms=rng.randint(0, 60))
    event = event._replace(instrument=name)
    if kind == "Manifold":
        return event._replace(gap_bars=rng.choice((0, 0, 0, 7)), late=rng.random() < 0.2)
    if kind == "GateDecision":
        reasons = tuple(str(one) for one in rng.sample(list(Reason), rng.randint(0, 3)))
        buffer = rng.choice((0.1, 0.15))
        return event._replace(eligible=rng.random() < 0.5, buffer=buffer, reasons=reasons)
    if kind == "Summary":
        calmar = rng.choice((None, rng.random()))
        slices = tuple(
            one._replace(calmar=calmar, trades=rng.randint(0, 9), pnl_total=rng.random())
            for one in event.slices
        )
        floors = Floors(rng.randint(1, 9), rng.random(), rng.random())
        ok = rng.random() < 0.5
        return event._replace(slices=slices, floors=floors, span_integrity_ok=ok)
    return event._replace(
        exit_reason=rng.choice(("stop", "target", "time")),
        pnl_bps=rng.uniform(-5, 5),
        mfe_bps=rng.choice((0.0, 4.0, 5.0)),
    )


def batches(rng: random.Random) -> Iterator[tuple[str, list[SourceRecord], list[Output], float]]:
    """Yield batches of every stage, from one record to more than the largest bucket."""
    for _ in range(30):
        stage = rng.choice(sorted(STAGE_SOURCES))
        count = rng.choice((1, 2, 7, 80, 1_200))
        records = [
            SourceRecord(STAGE_SOURCES[stage], 0, n, rng.randint(0, 60), b"k", b"")
            for n in range(count)
        ]
        kinds = rng.choices(KINDS, k=rng.choice((0, 1, 3, 40, 400)))
        outputs = []
        for kind in kinds:
            topic = rng.choice((SIGNALS, MANIFOLDS, GATES)) if kind == "Watermark" else TOPICS[kind]
            key = WATERMARK_KEY if kind == "Watermark" else b"k"
            outputs.append(Output(topic, 0, key, b"", 0, (), changed(kind, rng)))
        yield stage, records, outputs, rng.random()


@pytest.mark.parametrize("seed", range(4))
def test_after_every_batch_all_samples_are_those_of_counting_one_by_one(seed: int) -> None:
    metrics, reference = WorkerMetrics(), Reference()
    for stage, records, outputs, seconds in batches(random.Random(seed)):
        metrics.processed(stage, 0, records, outputs, seconds)
        reference.batch(stage, records, outputs, seconds)
        found = {
            k: v for k, v in exported(metrics).items() if k[0] != "manifold_stage_seconds_bucket"
        }
        assert found.keys() == reference.values.keys()
        for key, value in reference.values.items():
            assert found[key] == pytest.approx(value, rel=1e-12, nan_ok=True), key
    counted = {name for name, _ in reference.values}
    assert {"sep_exit_efficiency", "manifold_gap_bars_total", "manifold_weight"} <= counted


def test_a_reason_is_there_before_its_first_dead_letter() -> None:
    found = exported(WorkerMetrics())
    labels = (("reason", "conflict"), ("stage", "signals"))
    assert found["manifold_dead_letters_total", labels] == 0.0


def test_what_is_counted_for_an_instrument_is_there_before_the_first() -> None:
    found = exported(WorkerMetrics(instruments=["EUR_USD"]))
    assert found["manifold_gap_bars_total", (("instrument", "EUR_USD"),)] == 0.0
    for exit_reason in ("stop", "target", "max_hold", "slope_reversal", "session_close"):
        labels = (("exit_reason", exit_reason), ("instrument", "EUR_USD"))
        assert found["sep_bt_trades_closed_total", labels] == 0.0


def test_a_partition_that_went_and_came_back_is_exported() -> None:
    metrics = WorkerMetrics()
    labels = (("partition", "3"), ("stage", "gates"))
    metrics.position_reached("gates", 3, 7)
    metrics.dropped("gates", 3)
    assert ("manifold_position", labels) not in exported(metrics)
    metrics.position_reached("gates", 3, 9)
    assert exported(metrics)["manifold_position", labels] == 9.0
