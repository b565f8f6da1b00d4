"""Weights summed over time: the mean weight and exposure of each instrument per bucket."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from streams.replay.report.cells import Buckets, Int64s, TimeCells
from streams.replay.report.data import AllocationSeries, rounded

Floats = npt.NDArray[np.float64]

ACTIONS = ("published", "held", "cleared")
DIGITS = 4
STEPS = float(1 << 36)
"""Weights are summed as multiples of 2**-36, so that sums do not depend on the order of epochs."""


class AllocationCells:
    """The epochs of an allocator; an instrument without an entry has weight 0 at that epoch."""

    def __init__(self) -> None:
        self.epochs = TimeCells(1 + len(ACTIONS), np.uint32)
        self.instruments: dict[str, TimeCells] = {}

    def add(
        self,
        epoch_ms: Int64s,
        instruments: tuple[str, ...],
        weights: Floats,
        exposure: Floats,
        action: npt.NDArray[np.uint8],
    ) -> None:
        """Add epochs.

        Parameters
        ----------
        epoch_ms, action
            Times and indices in ``ACTIONS``, shape [m].
        instruments
            The instruments of the columns of the next two.
        weights, exposure
            Weights and fractions of the account, shape [m, k]; values that are not finite count as
            0.
        """
        if len(epoch_ms) > 1 and (np.diff(epoch_ms) < 0).any():
            order = np.argsort(epoch_ms, kind="stable")
            epoch_ms, action = epoch_ms[order], action[order]
            weights, exposure = weights[order], exposure[order]
        ones = np.ones(len(epoch_ms), np.uint32)
        self.epochs.add(epoch_ms, (ones, *((action == at) * ones for at in range(len(ACTIONS)))))
        for column, name in enumerate(instruments):
            cells = self.instruments.setdefault(name, TimeCells(2, np.int64))
            cells.add(epoch_ms, [_steps(one[:, column]) for one in (weights, exposure)])

    def result(self, buckets: Buckets) -> AllocationSeries | None:
        """Return the means per bucket, None without epochs."""
        counts = self.epochs.bucketed(buckets)
        epochs = counts[:, 0]
        whole = int(epochs.sum())
        if not whole:
            return None
        made: dict[str, Any] = {
            "epochs": epochs.tolist(),
            **{name: counts[:, 1 + at].tolist() for at, name in enumerate(ACTIONS)},
            "weight": {},
            "exposure": {},
            "mean_weight": {},
            "mean_exposure": {},
        }
        for name in sorted(self.instruments):
            sums = self.instruments[name].bucketed(buckets)
            for at, what in enumerate(("weight", "exposure")):
                mean = np.full(len(epochs), np.nan)
                np.divide(sums[:, at] / STEPS, epochs, out=mean, where=epochs > 0)
                made[what][name] = rounded(mean.tolist(), DIGITS)
                made[f"mean_{what}"][name] = round(
                    int(sums[:, at].sum()) / STEPS / whole, DIGITS + 2
                )
        return made  # type: ignore[return-value]  # the keys are those of Allocation


def _steps(values: Floats) -> Int64s:
    known = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    steps: Int64s = np.rint(known * STEPS).astype(np.int64)
    return steps
