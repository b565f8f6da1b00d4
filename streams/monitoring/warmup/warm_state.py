"""The warm-up state of an instrument: missing history, and agreement of the mirror.

Pure. The needs are those of docs/spec/trading-loop.md 7.3: 129 bars for the first window, the
lookback more for a full window of repetitions, the span of the backtest's floors for the adaptive
gate.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from streams.config.settings import Config
from streams.mirror.probe import MirrorFacts

FIRST_WINDOW_BARS: Final = 129
DAY_MS: Final = 86_400_000
MINUTE_MS: Final = 60_000


class PairState(NamedTuple):
    """The state of one instrument in the log.

    Attributes
    ----------
    candles
        Number of candles its last manifold covers (``CANDLE_COUNT`` at most); without one, number
        in the log.
    first_bar_ms
        Start of its first candle.
    candle_ms, manifold_ms, decided_ms
        ``as_of_ms`` of its last candle, manifold and gate decision.
    engine
        Version of the core that derived the manifold.
    """

    instrument: str
    candles: int = 0
    first_bar_ms: int | None = None
    candle_ms: int | None = None
    manifold_ms: int | None = None
    decided_ms: int | None = None
    engine: str = ""


class Missing(NamedTuple):
    """History that an instrument still needs; complete where all is 0.

    Attributes
    ----------
    bars_to_first_window
        Candles until its first signal.
    bars_to_repetitions
        Candles until ``count_1h`` looks back over the whole lookback.
    days_to_floors
        Days until the backtest spans ``EVAL_SPAN_DAYS`` (adaptive mode only).
    """

    bars_to_first_window: int
    bars_to_repetitions: int
    days_to_floors: float

    def words(self) -> str:
        """Return the needs as text."""
        parts = []
        if self.bars_to_first_window:
            parts.append(f"{self.bars_to_first_window} bars to the first window")
        if self.bars_to_repetitions:
            parts.append(f"{self.bars_to_repetitions} bars to a full window of repetitions")
        if self.days_to_floors:
            parts.append(f"{self.days_to_floors:.1f} days to the backtest's span")
        return ", ".join(parts) or "nothing"


def missing(state: PairState, config: Config) -> Missing:
    """Return the history that an instrument still needs under a configuration."""
    lookback_bars = -(-config.echo_lookback_minutes * MINUTE_MS // config.granularity_ms)
    # a manifold covers at most CANDLE_COUNT candles, whatever precedes them
    most = config.candle_count
    span_days = config.eval_span_days if config.gate_mode == "adaptive" else 0
    known_days = 0.0
    if state.first_bar_ms is not None and state.candle_ms is not None:
        known_days = (state.candle_ms - state.first_bar_ms) / DAY_MS
    return Missing(
        max(0, FIRST_WINDOW_BARS - state.candles),
        max(0, min(most, FIRST_WINDOW_BARS + lookback_bars) - state.candles),
        max(0.0, span_days - known_days),
    )


def primed(state: PairState, engine: str) -> str | None:
    """Return why the derived records of an instrument do not match its candles; None if they do.

    Parameters
    ----------
    engine
        Version of the core of this installation.
    """
    if state.candle_ms is None:
        return "no candle in the log"
    if state.manifold_ms is None:
        if state.candles < FIRST_WINDOW_BARS:
            return None
        return "none of its candles has a manifold: see manifold status for dead letters"
    if state.manifold_ms != state.candle_ms:
        late_s = (state.candle_ms - state.manifold_ms) / 1000
        return (
            f"its last candle has no manifold ({late_s:.0f} s between them): it was refused, see "
            "manifold tail dead.letters"
        )
    if state.engine != engine:
        return f"its last manifold is of engine {state.engine}, here is {engine}"
    return None


def hydrated(state: PairState, mirror: MirrorFacts) -> list[str]:
    """Return the difference between Valkey and the log for one instrument; empty when equal."""
    name = state.instrument
    found = mirror.manifolds.get(name)
    pairs = (
        ("sep:signal_index", state.manifold_ms, mirror.signals.get(name)),
        ("ws:manifold:hist", state.manifold_ms, found.as_of_ms if found else None),
        ("opt:rolling:eligible", state.decided_ms, mirror.decided.get(name)),
        ("md:candles", state.candle_ms, mirror.candles.get(name)),
    )
    differs = [
        f"{key} is {_behind(there, wanted)}"
        for key, wanted, there in pairs
        if wanted is not None and there != wanted
    ]
    if found is not None and found.missing:
        differs.append(f"ws:last:manifold lacks {' '.join(found.missing)}")
    return differs


def _behind(there: int | None, wanted: int) -> str:
    if there is None:
        return "missing"
    return (
        f"{abs(wanted - there) / 1000:.0f} s {'behind' if there < wanted else 'ahead of'} the log"
    )


def pair_state_dict(state: PairState, config: Config) -> dict[str, Any]:
    """Return an instrument's state and needs for ``--json``."""
    return {**state._asdict(), "missing": missing(state, config)._asdict()}
