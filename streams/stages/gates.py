"""``opt.gates`` from ``sep.manifolds``: may this instrument be traded at this bar, and if not, why.

Every reason that applies is given, not the first. Guards are inclusive (coherence >= its minimum,
entropy <= its maximum).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from streams.codec import Codec
from streams.control import ControlLog
from streams.events import (
    Floors,
    GateDecision,
    GateMetrics,
    Manifold,
    Watermark,
)
from streams.settings import Config
from streams.stages.processor import (
    ControlledStep,
    Derived,
    LoadControl,
    LogStage,
    dead_letter,
    read_row,
    write_row,
)
from streams.stages.reasons import Reason, Refusal
from streams.stages.sessions import SessionState, session_state
from streams.stages.step import RowChanges, Rows, SourceRecord
from streams.topics import DEAD_LETTERS, GATES, MANIFOLDS

STAGE = "gates"


class Verdict(NamedTuple):
    """What a backtest says of an instrument at a bar. Here is the place of the rolling backtest.

    The static and the echo gate have none: no floors, no counters, no run to follow.
    """

    reasons: tuple[Reason, ...] = ()
    floors: Floors | None = None
    passes: int = 0
    fails: int = 0
    misses: int = 0
    cooldown_until_ms: int | None = None
    direction: int = 0
    position: int = 0


NO_BACKTEST = Verdict()


def score(metrics: GateMetrics, config: Config) -> float:
    """Return the allocator's score (core-trading-loop.md 4.1).

    ``w_c * C + w_stab * S + w_rup * (1 - R) + w_ent * (1 - H)``, less ``w_haz * hazard`` when
    that weight is set; added in this order.
    """
    total = (
        config.alloc_score_weight_coherence * metrics.coherence
        + config.alloc_score_weight_stability * metrics.stability
        + config.alloc_score_weight_rupture * (1.0 - metrics.rupture)
        + config.alloc_score_weight_entropy * (1.0 - metrics.entropy)
    )
    if config.alloc_score_weight_hazard is not None:
        total -= config.alloc_score_weight_hazard * metrics.lambda_hazard
    return total


def guard_reasons(metrics: GateMetrics, config: Config) -> list[Reason]:
    """Return the guards that the metrics of a window do not pass (core-trading-loop.md 3.8, 6)."""
    found = []
    if config.gate_mode == "echo":
        if metrics.count_1h < config.echo_min_repetitions:
            found.append(Reason.REPETITIONS_SHORT)
        if metrics.lambda_hazard > config.echo_hazard_max:
            found.append(Reason.HAZARD_ABOVE_MAX)
        return found
    if metrics.coherence < config.auto_min_coherence:
        found.append(Reason.COHERENCE_BELOW_MIN)
    if metrics.stability < config.guard_min_stability:
        found.append(Reason.STABILITY_BELOW_MIN)
    if metrics.entropy > config.auto_max_entropy:
        found.append(Reason.ENTROPY_ABOVE_MAX)
    if metrics.rupture > config.auto_max_rupture:
        found.append(Reason.RUPTURE_ABOVE_MAX)
    if config.auto_max_hazard is not None and metrics.lambda_hazard > config.auto_max_hazard:
        found.append(Reason.HAZARD_ABOVE_MAX)
    if metrics.count_1h < config.session_pattern_min_occurrences:
        found.append(Reason.REPETITIONS_SHORT)
    return found


def session_reasons(session: SessionState) -> list[Reason]:
    """Return what sessions and the market week forbid."""
    found = []
    if not session.market_open:
        found.append(Reason.MARKET_CLOSED)
    if not session.open:
        found.append(Reason.SESSION_CLOSED)
    if session.near_close:
        found.append(Reason.SESSION_NEAR_CLOSE)
    return found


class _Last(NamedTuple):
    """The last signal of an instrument, and the last bar it was decided for."""

    decided_ms: int
    signal_bar_ms: int | None
    signal_as_of_ms: int | None
    metrics: GateMetrics | None


NEVER = _Last(-1, None, None, None)


class GatesStep(ControlledStep):
    """The fold of one partition of ``sep.manifolds``; one row per instrument, under its name."""

    def __init__(self, control: ControlLog, rows: Rows) -> None:
        super().__init__(control, rows)
        self._last: dict[str, _Last] = {}
        self._dirty_names: dict[str, None] = {}
        for key, content in rows.items():
            if not key.startswith(b"~"):
                self._last[key.decode()] = _read_last(read_row(content))

    def step(self, event: Manifold | Watermark, at: SourceRecord) -> list[Derived]:
        """Take in a manifold or a watermark; return the decisions it brings about."""
        config = self.state.config
        if isinstance(event, Watermark):
            return self._watermark(event)
        if config is None:
            detail = "no watermark with a configuration before it"
            return [(DEAD_LETTERS, dead_letter(at, Refusal.NO_CONFIG, detail, STAGE))]
        metrics = GateMetrics(
            event.coherence,
            event.stability,
            event.entropy,
            event.rupture,
            event.lambda_hazard,
            event.count_1h,
            event.lambda_,
            event.sigma_eff,
        )
        name = event.instrument
        decided_ms = self._last.get(name, NEVER).decided_ms
        last = _Last(max(decided_ms, event.as_of_ms), event.bar_ms, event.as_of_ms, metrics)
        if event.late or event.as_of_ms <= decided_ms:
            # the verdict of that bar stands; the next one knows this signal
            self._keep(name, last._replace(decided_ms=decided_ms))
            return []
        self._keep(name, last)
        return [(GATES, self._decide(name, event.bar_ms, event.as_of_ms, config, no_candle=False))]

    def changes(self) -> RowChanges:
        """Return the rows that changed since the last call."""
        changed = self.own_changes()
        for name in self._dirty_names:
            changed[name.encode()] = _write_last(self._last[name])
        self._dirty_names.clear()
        return changed

    def _keep(self, name: str, last: _Last) -> None:
        self._last[name] = last
        self._dirty_names[name] = None

    def _watermark(self, watermark: Watermark) -> list[Derived]:
        self.follow(watermark)
        derived: list[Derived] = []
        config = self.state.config
        if config is not None and watermark.granularity == config.candle_gran:
            bar_ms = watermark.as_of_ms - config.granularity_ms
            for name in watermark.instruments:
                last = self._last.get(name, NEVER)
                if last.decided_ms < watermark.as_of_ms:
                    self._keep(name, last._replace(decided_ms=watermark.as_of_ms))
                    decision = self._decide(
                        name, bar_ms, watermark.as_of_ms, config, no_candle=True
                    )
                    derived.append((GATES, decision))
        derived.append((GATES, watermark))
        return derived

    def _decide(
        self, name: str, bar_ms: int, as_of_ms: int, config: Config, *, no_candle: bool
    ) -> GateDecision:
        last, verdict = self._last[name], NO_BACKTEST
        session = session_state(name, as_of_ms, config.session_exit_minutes)
        reasons = list(verdict.reasons)
        if config.session_trading_enabled:
            reasons += session_reasons(session)
        if last.metrics is None or last.signal_as_of_ms is None:
            reasons.append(Reason.WARMING)
        else:
            reasons += guard_reasons(last.metrics, config)
            if as_of_ms - last.signal_as_of_ms > config.fresh_max_signal_age_sec * 1000:
                reasons.append(Reason.SIGNAL_STALE)
        return GateDecision(
            name,
            config.candle_gran,
            bar_ms,
            as_of_ms,
            self.state.config_id,
            self.state.offset,
            not reasons,
            tuple(sorted(reason.value for reason in reasons)),
            last.metrics,
            no_candle,
            verdict.floors,
            config.buffer(name),
            verdict.passes,
            verdict.fails,
            verdict.misses,
            verdict.cooldown_until_ms,
            session.open,
            session.near_close,
            verdict.direction,
            verdict.position,
            _next_change_ms(reasons, session),
            last.signal_bar_ms,
            None if last.metrics is None else score(last.metrics, config),
            config.gate_mode,  # type: ignore[arg-type]  # one of GateMode by Config's check
        )


_BY_TIME = (Reason.MARKET_CLOSED, Reason.SESSION_CLOSED, Reason.SESSION_NEAR_CLOSE)


def _next_change_ms(reasons: list[Reason], session: SessionState) -> int | None:
    """Return when the reasons that only time can lift change next; None when there is none."""
    return session.next_change_ms if any(reason in _BY_TIME for reason in reasons) else None


def _write_last(last: _Last) -> bytes:
    return write_row(last._asdict())


def _read_last(content: dict[str, Any]) -> _Last:
    metrics = content.pop("metrics")
    return _Last(**content, metrics=metrics and GateMetrics(*metrics))


def gates_stage(
    codec: Codec, control: ControlLog, load_control: LoadControl | None = None
) -> LogStage:
    """Return the stage ``gates``: ``sep.manifolds`` to ``opt.gates``."""
    return LogStage(STAGE, MANIFOLDS, (GATES,), codec, control, GatesStep, load_control)
