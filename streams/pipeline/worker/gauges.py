"""The profile's gauges of gates, backtests and weights (docs/spec/trading-loop.md 5.7).

The same table is used by the worker, which sets them from committed batches, and by the service,
which sets them from the records that it reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Gauge

from streams.process.metrics import Children
from streams.records.events import Floors, GateDecision, Summary, Weights


class ProfileGauges:
    """The last verdict, evaluation and weight of every instrument.

    Parameters
    ----------
    registry
        Where they are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        made: dict[str, Any] = {"registry": registry}
        instrument = ["instrument"]
        self.gate = Gauge(
            "sep_rolling_gate",
            "1 for the instrument's current verdict and buffer",
            ["instrument", "eligible", "buf"],
            **made,
        )
        self.eligible = Gauge(
            "sep_gate_eligible", "1 when the instrument is eligible", instrument, **made
        )
        self.selected = Gauge(
            "sep_allocator_selected", "1 when the instrument has weight", instrument, **made
        )
        self.cooldown = Gauge(
            "sep_allocator_cooldown", "1 when the instrument cools down", instrument, **made
        )
        self.span_ok = Gauge(
            "sep_span_integrity_ok",
            "1 when no longer slice of the backtest has fewer trades than a shorter one",
            instrument,
            **made,
        )
        self.backtest = {
            figure: Gauge(f"sep_bt_{figure}", f"{what} of the rolling backtest", instrument, **made)
            for figure, what in (
                ("trades", "Trades"),
                ("calmar", "Calmar (NaN: no drawdown)"),
                ("pnl_total", "P&L, fraction of notional,"),
                ("max_drawdown", "Drawdown, fraction of notional,"),
                ("win_rate", "Share of trades won (NaN: none)"),
                ("cost_bps", "Cost of a trade in bps"),
            )
        }
        self.floors = {
            floor: Gauge(f"sep_floor_{floor}", f"Floor {floor} of the gate", instrument, **made)
            for floor in Floors._fields
        }
        self.weight = Gauge("manifold_weight", "Weight of the instrument", instrument, **made)
        self._gate_labels: dict[str, tuple[str, str]] = {}
        self._eligible, self._span_ok = Children(self.eligible), Children(self.span_ok)
        self._backtest = {name: Children(gauge) for name, gauge in self.backtest.items()}
        self._floors = {name: Children(gauge) for name, gauge in self.floors.items()}
        self._selected, self._cooldown = Children(self.selected), Children(self.cooldown)
        self._weight = Children(self.weight)

    def decision(self, event: GateDecision) -> None:
        """Set the gauges of an instrument's decision."""
        name, labels = event.instrument, (str(int(event.eligible)), f"{event.buffer:.2f}")
        before = self._gate_labels.get(name)
        if before != labels:
            if before is not None:
                self.gate.remove(
                    name, *before
                )  # otherwise every earlier verdict would look current
            self._gate_labels[name] = labels
            self.gate.labels(name, *labels).set(1)
        self._eligible[name].set(event.eligible)

    def summary(self, event: Summary) -> None:
        """Set the gauges of an evaluation of the rolling backtest."""
        name = event.instrument
        self._span_ok[name].set(event.span_integrity_ok)
        figures = next(one for one in event.slices if one.days == event.span_days)
        for figure, gauge in self._backtest.items():
            value = getattr(figures, figure)
            gauge[name].set(float("nan") if value is None else value)
        for floor, gauge in self._floors.items():
            gauge[name].set(getattr(event.floors, floor))

    def weights(self, events: Sequence[Weights]) -> None:
        """Set the gauges of epochs in order; for each instrument its last epoch remains."""
        shown: set[str] = set()
        for event in reversed(events):
            new = [gate for gate in event.gates if gate.instrument not in shown]
            if not new:
                continue
            weights = {entry.instrument: entry.weight for entry in event.entries}
            for gate in new:
                name = gate.instrument
                self._selected[name].set(name in weights)
                self._cooldown[name].set(gate.cooldown)
                self._weight[name].set(weights.get(name, 0.0))
            shown.update(gate.instrument for gate in new)
