"""Convert the core's results of a bar to records of trades, summaries and decisions.

The core uses NaN where a record has null, and one bit per reason where a record has its code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from streams.candles.sessions import SessionState
from streams.config.settings import Config
from streams.core.gate_values import BarInput, Decision, Evaluation, Trade
from streams.core.layout import EXIT_REASONS, MARKET_OPEN, NEAR_CLOSE, NEVER, OPEN, QUOTED
from streams.pipeline.limits import CALMAR_UNIT, GUARD_LIMITS, PASSES_TO_OPEN, PNL_UNIT, upper_band
from streams.records.events import (
    Floors,
    GateDecision,
    GateEvaluation,
    GateMetrics,
    Manifold,
    ReasonDetail,
    SimulatedTrade,
    Summary,
    SummaryParams,
    SummarySlice,
)
from streams.records.reasons import Reason

_REASONS = tuple(Reason)
_NO_QUOTES = (0.0,) * 8


class Scope(NamedTuple):
    """The common fields of an instrument's records.

    Attributes
    ----------
    instrument, config
        The instrument; the configuration with its parameters.
    config_id, control_offset
        Configuration id and ``ops.control`` offset in force at the bar.
    params_id
        Hash of the run's parameters.
    buffer
        Hysteresis buffer of the instrument.
    guards
        Reason -> index of the guard's metric in a decision, and the guard's limit.
    """

    instrument: str
    config: Config
    config_id: str
    control_offset: int
    params_id: str
    buffer: float
    guards: dict[str, tuple[int, float]]


def scope_of(
    instrument: str, config: Config, config_id: str, control_offset: int, params_id: str
) -> Scope:
    """Return the common fields of an instrument's records under the given settings."""
    guards = {}
    for code, guard in GUARD_LIMITS[config.gate_mode].items():
        limit = getattr(config, guard.setting)
        if limit is not None:
            guards[code] = (Decision._fields.index(guard.metric), float(limit))
    buffer = config.buffer(instrument)
    return Scope(instrument, config, config_id, control_offset, params_id, buffer, guards)


def flags_of(session: SessionState, *, quoted: bool = False) -> int:
    """Return a bar's flags for the core."""
    return (
        OPEN * session.open
        | NEAR_CLOSE * session.near_close
        | MARKET_OPEN * session.market_open
        | QUOTED * quoted
    )


def bar_of(event: Manifold, session: SessionState) -> BarInput:
    """Return the bar of a manifold as input of the core."""
    mid, bid, ask, _ = event.candle
    quoted = bid is not None and ask is not None
    quotes = (*bid, *ask) if bid is not None and ask is not None else _NO_QUOTES
    return BarInput(
        event.bar_ms,
        event.as_of_ms,
        (*mid, *quotes),
        (
            event.coherence,
            event.stability,
            event.entropy,
            event.rupture,
            event.lambda_hazard,
            event.lambda_,
            event.sigma_eff,
        ),
        event.count_1h,
        session.next_change_ms,
        flags_of(session, quoted=quoted),
    )


def trade_record(trade: Trade, scope: Scope) -> SimulatedTrade:
    """Return the record of a closed trade; its bar is that of the exit."""
    entry = f"{scope.instrument}|{scope.params_id}|{trade.entry_bar_ms}"
    return SimulatedTrade(
        scope.instrument,
        scope.config.candle_gran,
        trade.exit_bar_ms,
        trade.exit_as_of_ms,
        scope.config_id,
        scope.control_offset,
        hashlib.sha256(entry.encode()).hexdigest()[:16],
        trade.direction,
        trade.entry_bar_ms,
        trade.entry_price,
        trade.exit_bar_ms,
        trade.exit_price,
        EXIT_REASONS[trade.exit],
        trade.bars_held,
        trade.cost_bps,
        trade.pnl_bps,
        trade.mae_bps,
        trade.mfe_bps,
        bool(trade.cost_assumed),
        scope.params_id,
    )


def summary_record(evaluation: Evaluation, scope: Scope, *, eligible: bool) -> Summary:
    """Return the record of an evaluation (docs/spec/strict-backtest.md 2).

    Parameters
    ----------
    eligible
        The decision of the same bar.
    """
    config = scope.config
    return Summary(
        scope.instrument,
        config.candle_gran,
        evaluation.bar_ms,
        evaluation.as_of_ms,
        scope.config_id,
        scope.control_offset,
        scope.params_id,
        config.eval_span_days,
        tuple(_slice(*figures) for figures in evaluation.slices),
        Floors(*evaluation.floors),
        evaluation.floor_samples,
        evaluation.integrity_ok,
        SummaryParams(
            config.auto_min_coherence,
            config.auto_direction_lookback,
            config.auto_dir_threshold_bps,
        ),
        eligible,
    )


def _slice(days: int, trades: int, *figures: float) -> SummarySlice:
    win_rate, pnl_bps, pnl_total, fall, calmar, calmar_ann, sharpe, sortino, *rest = figures
    profit_factor, exposure, hold, cost = rest
    return SummarySlice(
        days,
        trades,
        _known(win_rate),
        pnl_bps,
        pnl_total,
        fall,
        _known(calmar),
        _known(calmar_ann),
        _known(sharpe),
        _known(sortino),
        _known(profit_factor),
        exposure,
        _known(hold),
        cost,
    )


def decision_record(
    decision: Decision, scope: Scope, first_seen_ms: int | None = None
) -> GateDecision:
    """Return the record of a decision (docs/spec/strict-backtest.md 4).

    Parameters
    ----------
    decision, scope
        The core's decision, and the common fields of the instrument's records.
    first_seen_ms
        ``first_seen_ms`` of the bar's signal; None for a bar without a candle, where the verdict of
        the last signal applies.
    """
    d, config = decision, scope.config
    session = d.session_flags
    metrics = GateMetrics(
        d.coherence,
        d.stability,
        d.entropy,
        d.rupture,
        d.lambda_hazard,
        d.count_1h,
        d.lambda_,
        d.sigma_eff,
        first_seen_ms,
    )
    floors = Floors(d.min_trades, d.calmar_min, d.pnl_min) if d.has_evaluation else None
    return GateDecision(
        scope.instrument,
        config.candle_gran,
        d.bar_ms,
        d.as_of_ms,
        scope.config_id,
        scope.control_offset,
        not d.reasons,
        reasons_of(d.reasons),
        metrics if d.has_signal else None,
        bool(d.no_candle),
        floors,
        scope.buffer,
        d.passes,
        d.fails,
        d.misses,
        _time(d.cooldown_until_ms),
        bool(session & OPEN),
        bool(session & NEAR_CLOSE),
        d.direction,
        d.position,
        _time(d.next_change_ms),
        d.signal_bar_ms if d.has_signal else None,
        d.score if d.has_signal else None,
        config.gate_mode,  # type: ignore[arg-type]  # one of GateMode by Config's check
        scope.params_id,
        _evaluation(d) if d.has_evaluation else None,
        _details(d, scope),
    )


@lru_cache(maxsize=8192)
def reasons_of(bits: int) -> tuple[str, ...]:
    """Return the sorted codes of the reasons whose bits are set."""
    return tuple(sorted(reason.value for index, reason in enumerate(_REASONS) if bits >> index & 1))


def _evaluation(d: Decision) -> GateEvaluation:
    return GateEvaluation(
        d.evaluated_ms,
        d.evaluated_trades,
        _known(d.evaluated_calmar),
        d.evaluated_pnl,
        bool(d.integrity_ok),
    )


def _details(d: Decision, scope: Scope) -> tuple[ReasonDetail, ...]:
    details = []
    for code in reasons_of(d.reasons):
        value, limit, next_change_ms = found_of(code, d, scope)
        details.append(ReasonDetail(code, _number(value), _number(limit), next_change_ms))
    return tuple(details)


Found = tuple[Any, Any, Any]
_NOTHING: Found = (None, None, None)


def found_of(code: str, d: Decision, scope: Scope) -> Found:
    """Return the value behind a reason, its limit, and when it can change.

    Parameters
    ----------
    code
        The reason.
    d
        A decision with this reason; or many, with an array for each field.

    Returns
    -------
    Value, limit and ``next_change_ms``: None if it does not exist, NaN if it is unknown.
    """
    guard = scope.guards.get(code)
    if guard is not None:
        index, limit = guard
        return d[index], limit, None
    found = _FOUND.get(code)
    return _NOTHING if found is None else found(d, scope)


def _stale(d: Decision, scope: Scope) -> Found:
    config = scope.config
    # the signal's bar ends one bar length after its start
    age_ms = d.as_of_ms - d.signal_bar_ms - config.granularity_ms
    return age_ms / 1000, config.fresh_max_signal_age_sec, None


def _next_evaluation(d: Decision, scope: Scope) -> int:
    interval_ms = scope.config.eval_interval_sec * 1000
    return (d.as_of_ms // interval_ms + 1) * interval_ms


def _hysteresis(d: Decision, scope: Scope) -> Found:
    return d.passes, PASSES_TO_OPEN, _next_evaluation(d, scope)


def _integrity(d: Decision, scope: Scope) -> Found:
    return None, None, _next_evaluation(d, scope)


def _trades_short(d: Decision, scope: Scope) -> Found:
    return d.evaluated_trades, d.min_trades, _next_evaluation(d, scope)


def _calmar_short(d: Decision, scope: Scope) -> Found:
    limit = upper_band(d.calmar_min, scope.buffer, CALMAR_UNIT)
    return d.evaluated_calmar, limit, _next_evaluation(d, scope)


def _pnl_short(d: Decision, scope: Scope) -> Found:
    limit = upper_band(d.pnl_min, scope.buffer, PNL_UNIT)
    return d.evaluated_pnl, limit, _next_evaluation(d, scope)


def _cooldown(d: Decision, scope: Scope) -> Found:
    return None, None, d.cooldown_until_ms


def _session(d: Decision, scope: Scope) -> Found:
    return None, None, d.session_change_ms


_FOUND: dict[str, Callable[[Decision, Scope], Found]] = {
    Reason.SIGNAL_STALE.value: _stale,
    Reason.HYSTERESIS_WAIT.value: _hysteresis,
    Reason.SPAN_INTEGRITY.value: _integrity,
    Reason.TRADES_BELOW_FLOOR.value: _trades_short,
    Reason.CALMAR_BELOW_FLOOR.value: _calmar_short,
    Reason.PNL_BELOW_FLOOR.value: _pnl_short,
    Reason.COOLDOWN.value: _cooldown,
    Reason.SESSION_CLOSED.value: _session,
    Reason.SESSION_NEAR_CLOSE.value: _session,
    Reason.MARKET_CLOSED.value: _session,
}
"""Reason other than a guard -> function for its value, limit and next change."""


def _number(value: float | None) -> float | None:
    return None if value is None else _known(float(value))


def _known(value: float) -> float | None:
    return value if value == value else None


def _time(at_ms: int) -> int | None:
    return None if at_ms == NEVER else at_ms
