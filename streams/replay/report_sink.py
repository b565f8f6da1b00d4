"""Sums up the output of a columnar replay for a report."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.core.gate_values import Evaluation
from streams.pipeline.epochs import ClosedEpochs
from streams.pipeline.gate_records import Scope, summary_record
from streams.pipeline.instrument_fold import GateOutput, closed_trades
from streams.replay.report.accumulate import ReportAccumulator


class ReportSink:
    """Report sink; satisfies ``streams.pipeline.columns.Sink``.

    Attributes
    ----------
    report
        The report so far.
    """

    def __init__(self) -> None:
        self.report = ReportAccumulator()

    def derived(self, scope: Scope, found: GateOutput) -> None:
        """Receive the output of a segment of an instrument's candles."""
        self.report.add_trades(closed_trades(found.trades, scope))
        decisions = found.decisions
        if len(decisions):
            reasons = np.ascontiguousarray(decisions["reasons"])
            as_of_ms = np.ascontiguousarray(decisions["as_of_ms"])
            self.report.add_gates(scope.instrument, as_of_ms, reasons == 0, reasons)
        if len(found.evaluations):
            last = evaluation_of_row(found.evaluations[-1])
            eligible = bool(len(decisions)) and not decisions["reasons"][-1]
            self.report.add_summary(summary_record(last, scope, eligible=eligible))

    def closed(self, epochs: ClosedEpochs) -> None:
        """Receive closed epochs."""
        made = epochs.allocations
        shape = (len(epochs.epoch_ms), len(epochs.universe))
        weights, exposure = np.zeros(shape), np.zeros(shape)
        rows = np.repeat(np.arange(shape[0]), np.diff(made.ends, prepend=0))
        weights[rows, made.entries["id"]] = made.entries["weight"]
        exposure[rows, made.entries["id"]] = made.entries["exposure"]
        actions = made.actions.astype(np.uint8)
        self.report.add_weights(epochs.epoch_ms, epochs.universe, weights, exposure, actions)


def evaluation_of_row(row: NDArray[Any]) -> Evaluation:
    """Return a row of ``EVALUATION_DTYPE`` as the core's evaluation."""
    slices = row["slices"].tolist()[: int(row["slice_count"])]
    times = (int(row["bar_ms"]), int(row["as_of_ms"]), int(row["floor_samples"]))
    return Evaluation(*times, row["floors"].tolist(), tuple(slices), bool(row["integrity_ok"]))
