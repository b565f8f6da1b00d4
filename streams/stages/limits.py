"""Each guard's value and limit in a decision, for explanations."""

from __future__ import annotations

from typing import NamedTuple

from streams.events import GateDecision
from streams.settings import Config
from streams.stages.reasons import Reason


class GuardLine(NamedTuple):
    """One guard of a decision: what was found, what is wanted, whether it passes."""

    guard: str
    value: float
    relation: str
    limit: float
    setting: str
    passes: bool


def guard_lines(decision: GateDecision, config: Config) -> list[GuardLine]:
    """Return every guard of the decision's mode with its value and limit; none without metrics."""
    metrics = decision.metrics
    if metrics is None:
        return []
    if config.gate_mode == "echo":
        rows = [
            (
                Reason.REPETITIONS_SHORT,
                metrics.count_1h,
                ">=",
                config.echo_min_repetitions,
                "ECHO_MIN_REPETITIONS",
            ),
            (
                Reason.HAZARD_ABOVE_MAX,
                metrics.lambda_hazard,
                "<=",
                config.echo_hazard_max,
                "ECHO_HAZARD_MAX",
            ),
        ]
    else:
        rows = [
            (
                Reason.COHERENCE_BELOW_MIN,
                metrics.coherence,
                ">=",
                config.auto_min_coherence,
                "AUTO_MIN_COHERENCE",
            ),
            (
                Reason.STABILITY_BELOW_MIN,
                metrics.stability,
                ">=",
                config.guard_min_stability,
                "GUARD_MIN_STABILITY",
            ),
            (
                Reason.ENTROPY_ABOVE_MAX,
                metrics.entropy,
                "<=",
                config.auto_max_entropy,
                "AUTO_MAX_ENTROPY",
            ),
            (
                Reason.RUPTURE_ABOVE_MAX,
                metrics.rupture,
                "<=",
                config.auto_max_rupture,
                "AUTO_MAX_RUPTURE",
            ),
            (
                Reason.REPETITIONS_SHORT,
                metrics.count_1h,
                ">=",
                config.session_pattern_min_occurrences,
                "SESSION_PATTERN_MIN_OCCURRENCES",
            ),
        ]
        if config.auto_max_hazard is not None:
            rows.append(
                (
                    Reason.HAZARD_ABOVE_MAX,
                    metrics.lambda_hazard,
                    "<=",
                    config.auto_max_hazard,
                    "AUTO_MAX_HAZARD",
                )
            )
    return [
        GuardLine(
            reason.value,
            float(value),
            relation,
            float(limit),
            setting,
            reason.value not in decision.reasons,
        )
        for reason, value, relation, limit, setting in rows
    ]
