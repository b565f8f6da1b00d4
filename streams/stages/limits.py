"""What guards and floors want: the limits behind the reasons of a gate decision."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from streams.events import GateDecision
from streams.settings import Config
from streams.stages.reasons import Reason

PASSES_TO_OPEN = 2
CALMAR_UNIT, PNL_UNIT = 0.01, 0.0005
"""Least size of a floor, for the width of its band (strict-backtest.md 4); cpp/gate.hpp."""


class HasMetrics(Protocol):
    """Whatever carries the metrics of a window."""

    @property
    def coherence(self) -> float:
        """0 to 1."""
        ...

    @property
    def stability(self) -> float:
        """0 to 1."""
        ...

    @property
    def entropy(self) -> float:
        """0 to 1."""
        ...

    @property
    def rupture(self) -> float:
        """0 to 1."""
        ...

    @property
    def lambda_hazard(self) -> float:
        """0 to 1."""
        ...

    @property
    def count_1h(self) -> int:
        """Repetitions of the signature."""
        ...


class GuardLimit(NamedTuple):
    """One guard: what was found, what is wanted, and the setting that wants it."""

    reason: Reason
    value: float
    relation: str
    limit: float
    setting: str


class GuardLine(NamedTuple):
    """One guard of a decision, for explanations: as above, and whether it passes."""

    guard: str
    value: float
    relation: str
    limit: float
    setting: str
    passes: bool


def upper_band(floor: float, buffer: float, unit: float) -> float:
    """Return what a pass needs of a figure with this floor (strict-backtest.md 4)."""
    return floor + buffer * max(abs(floor), unit)


def guard_limits(metrics: HasMetrics, config: Config) -> list[GuardLimit]:
    """Return every guard of the configuration's mode with its value and limit."""
    if config.gate_mode == "echo":
        return [
            _limit(
                Reason.REPETITIONS_SHORT, metrics.count_1h, ">=", config, "echo_min_repetitions"
            ),
            _limit(Reason.HAZARD_ABOVE_MAX, metrics.lambda_hazard, "<=", config, "echo_hazard_max"),
        ]
    guards = [
        _limit(Reason.COHERENCE_BELOW_MIN, metrics.coherence, ">=", config, "auto_min_coherence"),
        _limit(Reason.STABILITY_BELOW_MIN, metrics.stability, ">=", config, "guard_min_stability"),
        _limit(Reason.ENTROPY_ABOVE_MAX, metrics.entropy, "<=", config, "auto_max_entropy"),
        _limit(Reason.RUPTURE_ABOVE_MAX, metrics.rupture, "<=", config, "auto_max_rupture"),
        _limit(
            Reason.REPETITIONS_SHORT,
            metrics.count_1h,
            ">=",
            config,
            "session_pattern_min_occurrences",
        ),
    ]
    if config.auto_max_hazard is not None:
        guards.append(
            _limit(Reason.HAZARD_ABOVE_MAX, metrics.lambda_hazard, "<=", config, "auto_max_hazard")
        )
    return guards


def guard_lines(decision: GateDecision, config: Config) -> list[GuardLine]:
    """Return every guard of the decision's mode with its value and limit; none without metrics."""
    if decision.metrics is None:
        return []
    return [
        GuardLine(
            guard.reason.value,
            guard.value,
            guard.relation,
            guard.limit,
            guard.setting,
            guard.reason.value not in decision.reasons,
        )
        for guard in guard_limits(decision.metrics, config)
    ]


def _limit(reason: Reason, value: float, relation: str, config: Config, name: str) -> GuardLimit:
    limit = float(getattr(config, name))
    return GuardLimit(reason, float(value), relation, limit, name.upper())
