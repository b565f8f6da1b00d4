"""What a worker's metrics say after records, by the names of the profile."""

from __future__ import annotations

from typing import Any

from prometheus_client import generate_latest

from streams.pipeline.worker.metrics import WorkerMetrics
from streams.records.log_record import Output, SourceRecord
from tests.support.sample_events import SAMPLES, TOPIC_OF

SOURCE = SourceRecord("sep.manifolds", 0, 7, 1_400_000_100_000, b"EUR_USD", b"")


def told(*events: Any) -> dict[str, float]:
    """Return every sample after a batch that derived these events."""
    metrics = WorkerMetrics()
    outputs = [
        Output(TOPIC_OF[type(event).__name__], 0, b"EUR_USD", b"", 0, (), event) for event in events
    ]
    metrics.processed("gates", 0, [SOURCE], outputs, 0.01)
    lines = generate_latest(metrics.registry).decode().splitlines()
    found = [line.rpartition(" ") for line in lines if not line.startswith("#")]
    return {name: float(value) for name, _, value in found}


def test_a_summary_is_the_profiles_gauges() -> None:
    found = told(SAMPLES["Summary"])
    name = '{instrument="EUR_USD"}'
    assert found[f"sep_span_integrity_ok{name}"] == 1.0
    assert found["sep_span_monotonic_violations_total"] == 0.0
    assert found[f"sep_bt_calmar{name}"] == 2.25
    assert found[f"sep_bt_trades{name}"] == 12.0
    assert found[f"sep_floor_min_trades{name}"] == 8.0


def test_a_violated_span_is_counted() -> None:
    found = told(SAMPLES["Summary"]._replace(span_integrity_ok=False))  # type: ignore[union-attr]
    assert found['sep_span_integrity_ok{instrument="EUR_USD"}'] == 0.0
    assert found["sep_span_monotonic_violations_total"] == 1.0


def test_a_trade_is_counted_by_its_exit_and_shows_how_much_of_the_move_it_kept() -> None:
    trade: Any = SAMPLES["SimulatedTrade"]
    found = told(trade._replace(exit_reason="target", pnl_bps=3.0, mfe_bps=4.0))
    labels = '{exit_reason="target",instrument="EUR_USD"}'
    assert found[f"sep_bt_trades_closed_total{labels}"] == 1.0
    assert found['sep_exit_efficiency{instrument="EUR_USD"}'] == 0.75
    assert 'sep_exit_efficiency{instrument="EUR_USD"}' not in told(trade._replace(mfe_bps=0.0))


def test_a_verdict_replaces_the_one_before() -> None:
    decision: Any = SAMPLES["GateDecision"]
    found = told(decision._replace(eligible=True, reasons=()), decision)
    gates = {name: value for name, value in found.items() if name.startswith("sep_rolling_gate")}
    assert gates == {'sep_rolling_gate{buf="0.10",eligible="0",instrument="EUR_USD"}': 1.0}
    assert found['manifold_gate_reasons_total{reason="session_closed"}'] == 1.0
