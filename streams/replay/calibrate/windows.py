"""Windows of one instrument: pass rates under the settings in force, histograms, guard values.

Pass rates are counted on the exact metrics. Two grids are kept for calibration without loss:
quantiles come from histograms of 1e-5 width, and a guard's values are stored in steps of 1e-4,
rounded towards failing, so that comparing steps with a threshold of four decimals equals comparing
the metrics with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.candles.calendar import calendar_of
from streams.candles.sessions import session_states
from streams.config.settings import Config
from streams.pipeline.limits import GUARD_LIMITS, GuardLimit

METRICS = ("coherence", "stability", "entropy", "rupture", "lambda_hazard")
COUNT = "count_1h"
QUANTILES = (0.01, 0.05, 0.25, 0.50, 0.75, 0.95, 0.99)
FINE, STEPS = 100_000, 10_000
"""Number of parts of 0..1 in the quantiles' histograms and in the grid of thresholds."""
MOST_COUNT = 65_535

Steps = NDArray[np.uint16]


class ActiveGuard(NamedTuple):
    """A guard in force: its reason code, its metric, and its limit."""

    reason: str
    rule: GuardLimit
    limit: float


class WindowChunk(NamedTuple):
    """Windows in order of arrival.

    Attributes
    ----------
    steps
        Metric -> its values on the grid of thresholds, for every guard with a threshold.
    counts
        ``count_1h``, at most 65,535.
    in_session
        Whether the window is in session.
    """

    steps: dict[str, Steps]
    counts: Steps
    in_session: NDArray[np.bool_]


def guards_of(config: Config) -> list[ActiveGuard]:
    """Return the guards of ``config``, in the order of its gate mode."""
    found = []
    for reason, rule in GUARD_LIMITS[config.gate_mode].items():
        limit = getattr(config, rule.setting)
        if limit is not None:
            found.append(ActiveGuard(reason, rule, float(limit)))
    return found


def steps_up(values: NDArray[np.float64], parts: int) -> NDArray[np.int64]:
    """Return the smallest ``k`` with ``k / parts >= value``, for values of 0..1."""
    steps = np.clip(np.ceil(values * parts), 0, parts).astype(np.int64)
    steps[(steps > 0) & ((steps - 1) / parts >= values)] -= 1
    steps[(steps < parts) & (steps / parts < values)] += 1
    return steps


def steps_down(values: NDArray[np.float64], parts: int) -> NDArray[np.int64]:
    """Return the largest ``k`` with ``k / parts <= value``, for values of 0..1."""
    steps = np.clip(np.floor(values * parts), 0, parts).astype(np.int64)
    steps[(steps < parts) & ((steps + 1) / parts <= values)] += 1
    steps[(steps > 0) & (steps / parts > values)] -= 1
    return steps


class Windows:
    """The windows of one instrument.

    Parameters
    ----------
    instrument
        Its name.
    config
        The settings in force for it, including its own parameters.
    to_calibrate
        The guards to calibrate.

    Attributes
    ----------
    total, first_ms, last_ms
        Number of windows, and the ends of the first and last bar with a window.
    passed
        Reason -> windows that pass this guard.
    passed_all, in_session, passed_in_session
        Number of windows that pass all guards together, that are in session, and both.
    """

    def __init__(
        self, instrument: str, config: Config, to_calibrate: Sequence[ActiveGuard]
    ) -> None:
        self.instrument, self.config = instrument, config
        self.guards = guards_of(config)
        self.total = self.passed_all = self.in_session = self.passed_in_session = 0
        self.passed = {guard.reason: 0 for guard in self.guards}
        self.first_ms: int | None = None
        self.last_ms: int | None = None
        self.chunks: list[WindowChunk] = []
        self._to_calibrate = [guard.rule for guard in to_calibrate if guard.rule.metric != COUNT]
        self._fine = {metric: np.zeros(FINE + 1, np.int64) for metric in METRICS}
        self._counts = np.zeros(1, np.int64)

    def add(self, as_of_ms: NDArray[np.int64], values: Mapping[str, NDArray[Any]]) -> None:
        """Add windows.

        Parameters
        ----------
        as_of_ms
            Ends of their bars, ascending, epoch ms.
        values
            Metric (those of ``METRICS``, and ``count_1h``) -> values.
        """
        if not len(as_of_ms):
            return
        self.total += len(as_of_ms)
        self.first_ms = int(as_of_ms[0]) if self.first_ms is None else self.first_ms
        self.last_ms = int(as_of_ms[-1])
        lets_through = self._in_session_mask(as_of_ms)
        together = np.ones(len(as_of_ms), bool)
        for guard in self.guards:
            passes = _passes(values[guard.rule.metric], guard.rule.relation, guard.limit)
            self.passed[guard.reason] += int(passes.sum())
            together &= passes
        self.passed_all += int(together.sum())
        self.in_session += int(lets_through.sum())
        self.passed_in_session += int((together & lets_through).sum())
        self._keep(values, lets_through)

    def quantiles(self, metric: str) -> list[float] | None:
        """Return ``QUANTILES`` of a metric, None without windows.

        Each is the smallest value of the grid (1e-5 wide, 1 for ``count_1h``) that at least this
        share of the windows does not exceed.
        """
        return quantiles_of([self], metric)

    def histogram(self, metric: str) -> NDArray[np.int64]:
        """Return the number of windows per value of the metric's grid."""
        return self._counts if metric == COUNT else self._fine[metric]

    def _keep(self, values: Mapping[str, NDArray[Any]], in_session: NDArray[np.bool_]) -> None:
        for metric in METRICS:
            fine = np.bincount(steps_up(values[metric], FINE), minlength=FINE + 1)
            self._fine[metric] += fine
        counts = np.minimum(values[COUNT], MOST_COUNT).astype(np.uint16)
        found = np.bincount(counts, minlength=len(self._counts))
        found[: len(self._counts)] += self._counts
        self._counts = found
        steps = {
            rule.metric: (steps_down if rule.relation == ">=" else steps_up)(
                values[rule.metric], STEPS
            ).astype(np.uint16)
            for rule in self._to_calibrate
        }
        self.chunks.append(WindowChunk(steps, counts, in_session))

    def _in_session_mask(self, as_of_ms: NDArray[np.int64]) -> NDArray[np.bool_]:
        if not self.config.session_trading_enabled:
            return np.ones(len(as_of_ms), bool)
        minutes, calendar = self.config.session_exit_minutes, calendar_of(self.config)
        states = session_states(calendar, self.instrument, as_of_ms, minutes)
        through: NDArray[np.bool_] = states.open & ~states.near_close
        return through


def _passes(values: NDArray[Any], relation: str, limit: float) -> NDArray[np.bool_]:
    passes: NDArray[np.bool_] = values >= limit if relation == ">=" else values <= limit
    return passes


def quantiles_of(windows: Sequence[Windows], metric: str) -> list[float] | None:
    """Return ``QUANTILES`` of a metric over several instruments, as in ``Windows``."""
    total = sum(one.total for one in windows)
    if not total:
        return None
    histograms = [one.histogram(metric) for one in windows]
    summed = np.zeros(max(map(len, histograms)), np.int64)
    for histogram in histograms:
        summed[: len(histogram)] += histogram
    reached = np.cumsum(summed)
    parts = 1 if metric == COUNT else FINE
    # a share of n windows is an integer: 1 % of 200 is 2, whatever 0.01 * 200 is
    wanted = [-(-round(share * 100) * total // 100) for share in QUANTILES]
    return [int(np.searchsorted(reached, count)) / parts for count in wanted]
