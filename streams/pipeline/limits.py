"""Limits of guards and floors: the limits behind the reasons of a gate decision."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from streams.config.settings import Config
from streams.records.events import GateDecision
from streams.records.reasons import Reason

PASSES_TO_OPEN = 2
CALMAR_UNIT, PNL_UNIT = 0.01, 0.0005
"""Minimum size of a floor for its band (docs/spec/strict-backtest.md 4); cpp/backtest/gate.hpp."""

RARE = 0.02
"""Share of windows that pass all guards together, below which a warning is given."""


class GuardLimit(NamedTuple):
    """A guard: its metric, its comparison, and the setting with its limit."""

    metric: str
    relation: str
    setting: str


_HAZARD = GuardLimit("lambda_hazard", "<=", "auto_max_hazard")
_STATIC = {
    Reason.COHERENCE_BELOW_MIN.value: GuardLimit("coherence", ">=", "auto_min_coherence"),
    Reason.STABILITY_BELOW_MIN.value: GuardLimit("stability", ">=", "guard_min_stability"),
    Reason.ENTROPY_ABOVE_MAX.value: GuardLimit("entropy", "<=", "auto_max_entropy"),
    Reason.RUPTURE_ABOVE_MAX.value: GuardLimit("rupture", "<=", "auto_max_rupture"),
    Reason.REPETITIONS_SHORT.value: GuardLimit("count_1h", ">=", "session_pattern_min_occurrences"),
    Reason.HAZARD_ABOVE_MAX.value: _HAZARD,
}
_ECHO = {
    Reason.REPETITIONS_SHORT.value: GuardLimit("count_1h", ">=", "echo_min_repetitions"),
    Reason.HAZARD_ABOVE_MAX.value: GuardLimit("lambda_hazard", "<=", "echo_hazard_max"),
}
GUARD_LIMITS: dict[str, dict[str, GuardLimit]] = {
    "adaptive": _STATIC,
    "static": _STATIC,
    "echo": _ECHO,
}
"""Gate mode -> reason -> the guard behind it."""


class GuardLine(NamedTuple):
    """One guard of a decision: value, limit, and whether it passes."""

    guard: str
    value: float
    relation: str
    limit: float
    setting: str
    passes: bool


def upper_band(floor: Any, buffer: float, unit: float) -> Any:
    """Return the upper band of a floor, or of many (docs/spec/strict-backtest.md 4)."""
    size = abs(floor)
    wide = np.maximum(size, unit) if isinstance(size, np.ndarray) else max(size, unit)
    return floor + buffer * wide


def guard_lines(decision: GateDecision, config: Config) -> list[GuardLine]:
    """Return every guard of the decision's mode with its value and limit; none without metrics."""
    if decision.metrics is None:
        return []
    lines = []
    for reason, guard in GUARD_LIMITS[config.gate_mode].items():
        limit = getattr(config, guard.setting)
        if limit is not None:
            value = float(getattr(decision.metrics, guard.metric))
            lines.append(
                GuardLine(
                    reason,
                    value,
                    guard.relation,
                    float(limit),
                    guard.setting.upper(),
                    reason not in decision.reasons,
                )
            )
    return lines


def rarely_passing(rate: float) -> str | None:
    """Return a warning when almost no window passes all guards together, else None.

    Parameters
    ----------
    rate
        Share of windows that pass all guards of the settings in force.
    """
    if rate >= RARE:
        return None
    return (
        f"Only {rate:.2%} of the windows pass all guards in force, less than {RARE:.0%}: gates "
        "will almost never open. `manifold calibrate` suggests thresholds for a target pass rate."
    )
