"""The failure signals of the profile: one pure function for metrics, preflight and page.

``judge(facts, now_ms, config, limits)`` rates every part of the live loop. Durations are event time
while the market is open (``streams.candles.market_clock``). A part that could not be probed is
``unknown``, never ``ok``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from streams.config.settings import Config
from streams.monitoring import alert_rules_config as config_rules
from streams.monitoring import alert_rules_processes as process_rules
from streams.monitoring import alert_rules_stream as stream_rules
from streams.monitoring import alert_rules_trading as trading_rules
from streams.monitoring.facts import LiveFacts
from streams.monitoring.verdict import FailureSignal, Judged, Limits, State, rule_input

__all__ = ["NAMES", "FailureSignal", "Limits", "LiveFacts", "State", "failure_signals"]

RULES: Final[tuple[Callable[[Judged], FailureSignal], ...]] = (
    trading_rules.kill_switch_stuck,
    stream_rules.candle_stale,
    stream_rules.manifold_stale,
    stream_rules.gates_blob_stale,
    stream_rules.allocator_stale,
    stream_rules.weights_zeroed,
    stream_rules.selection_short,
    stream_rules.eligible_few,
    stream_rules.cooldowns_many,
    stream_rules.stage_lag,
    stream_rules.dead_letters,
    process_rules.invalid_records,
    trading_rules.stream_silent,
    trading_rules.oanda_errors,
    trading_rules.executor_stale,
    trading_rules.closing_blocked,
    trading_rules.orders_rejected,
    trading_rules.orders_unresolved,
    trading_rules.margin_high,
    stream_rules.clock_skew,
    config_rules.config_differs,
    process_rules.restarts,
)
NAMES: Final[tuple[str, ...]] = tuple(rule.__name__ for rule in RULES)
"""All failure signals, in display order."""


def failure_signals(
    facts: LiveFacts, now_ms: int, config: Config, limits: Limits | None = None
) -> tuple[FailureSignal, ...]:
    """Return every failure signal, in the order of ``NAMES``.

    Parameters
    ----------
    facts
        What is known.
    now_ms
        Wall clock, epoch ms UTC.
    config
        The active configuration: intervals and bar length.
    limits
        Thresholds of the failure signals; the profile's by default.
    """
    at = rule_input(facts, now_ms, config, Limits() if limits is None else limits)
    return tuple(rule(at) for rule in RULES)
