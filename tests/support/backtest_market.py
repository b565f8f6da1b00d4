"""Made markets and rules for tests of the backtest: each from a few numbers that can be drawn.

A market is a list of stretches, each with its own trend, noise, spread and gaps; metrics are random
and hold for a while. Prices need not be likely, only possible: low <= open, close <= high, and
bid <= ask unless a spread is 0.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from streams.instants import GRANULARITY_MS
from streams.records.events import Ohlc
from tests.support.reference_backtest import Bar, Rules
from tests.support.reference_stages import ms

MINUTE_MS = 60_000
STARTS_MS = (
    ms(2024, 3, 4, 7),  # a Monday
    ms(2024, 3, 7, 22),  # runs into the weekend in which New York changes its clocks
    ms(2024, 3, 30, 20),  # London changes its clocks
    ms(2024, 11, 1, 12),  # a Friday, New York changes back
    ms(2024, 12, 31, 20),
)
GAP_MINUTES = (2, 3, 20, 61, 300, 1440, 2880, 6000)
PAIRS = ("EUR_USD", "USD_JPY", "NZD_USD", "EUR_GBP")


class Stretch(NamedTuple):
    """Bars of one character.

    Attributes
    ----------
    bars
        How many.
    drift_bps, noise_bps
        Mean and spread of the moves from open to close and from close to open.
    spread_bps
        Ask less bid, about.
    unquoted
        Share of bars without bid and ask.
    gaps
        Share of bars before which others are missing.
    """

    bars: int
    drift_bps: float
    noise_bps: float
    spread_bps: float
    unquoted: float
    gaps: float


STRETCHES: dict[str, tuple[Any, ...]] = {
    "bars": (15, 60, 150, 400),
    "drift_bps": (-2.0, -0.5, 0.0, 0.5, 2.0),
    "noise_bps": (0.0, 0.5, 3.0, 12.0),
    "spread_bps": (0.0, 0.2, 0.2, 1.0, 12.0),
    "unquoted": (0.0, 0.0, 0.1, 1.0),
    "gaps": (0.0, 0.005, 0.05),
}
RULES: dict[str, tuple[Any, ...]] = {
    "auto_direction_lookback": (1, 3, 12, 30),
    "auto_direction_mode": ("combined", "slope"),
    "auto_dir_threshold_bps": (0.5, 2.0, 8.0),
    "exit_pnl_enabled": (True, True, False),
    "exit_pnl_target_pct": (0.03, 0.1, 0.5),
    "exit_pnl_stop_pct": (0.03, 0.2, 1.25),
    "auto_tp_mode": ("pct", "atr"),
    "atr_stop_mult": (0.7, 1.8),
    "atr_bars": (2, 14),
    "auto_tp_rr": (0.5, 1.5),
    "exit_slope_enabled": (True, False),
    "pm_default_hold_seconds": (300, 1800, 14_400),
    "entry_cooldown_sec": (0, 60, 900),
    "exit_cooldown_sec": (0, 60, 600),
    "backtest_cost_bps": (0.0, 1.5, 4.0),
    "session_trading_enabled": (True, False, False),
    "session_exit_minutes": (0, 5, 45),
    "auto_min_coherence": (0.0, 0.2, 0.5),
    "guard_min_stability": (0.0, 0.2),
    "auto_max_entropy": (1.0, 0.8),
    "auto_max_rupture": (1.0, 0.9),
    "auto_max_hazard": (None, 0.9),
    "session_pattern_min_occurrences": (1, 2),
    "fresh_max_signal_age_sec": (60, 300, 3600),
    "eval_slices_days": ((1, 2, 3), (1, 3, 7), (2, 4), (14, 30, 60)),
    "eval_interval_sec": (60, 900, 3600, 7000),
    "eval_history_hours": (5, 24, 48, 720),
    "eval_min_trades": (0, 1, 5, 10),
    "eval_calmar_min": (0.0, 0.15, 1.0),
    "eval_pnl_min": (0.0, 0.001),
    "cooldown_sec": (300, 7200),
    "buffer": (0.01, 0.1, 0.3),
}


def rules(drawn: Mapping[str, Any], span: int = 0, params_id: str = "") -> Rules:
    """Return rules of values drawn from ``RULES``; ``span`` chooses among the slices."""
    days = drawn["eval_slices_days"]
    return Rules(**drawn, eval_span_days=days[span % len(days)], params_id=params_id)


def random_rules(rng: random.Random) -> Rules:
    """Return rules of a generator's choice."""
    return rules({name: rng.choice(values) for name, values in RULES.items()}, rng.randrange(3))


def random_stretches(rng: random.Random, number: int) -> list[Stretch]:
    """Return ``number`` stretches of a generator's choice."""
    return [
        Stretch(**{name: rng.choice(values) for name, values in STRETCHES.items()})
        for _ in range(number)
    ]


def market(
    stretches: Sequence[Stretch], granularity: str, start_ms: int, rng: random.Random
) -> list[Bar]:
    """Return the bars of a market.

    Parameters
    ----------
    stretches
        Its character, one after the other.
    granularity
        Length of the bars.
    start_ms
        Start of the first bar, a whole hour.
    rng
        Where everything random in it comes from.
    """
    length = GRANULARITY_MS[granularity]
    bar_ms, close = start_ms, 1.1
    metrics = _metrics(rng)
    made: list[Bar] = []
    for stretch in stretches:
        for _ in range(stretch.bars):
            if rng.random() < stretch.gaps:
                bar_ms += -(-rng.choice(GAP_MINUTES) * MINUTE_MS // length) * length
            if rng.random() < 0.3:
                metrics = _metrics(rng)
            mid = _candle(close, stretch, rng)
            bid = ask = None
            if rng.random() >= stretch.unquoted:
                half = mid.open * stretch.spread_bps * rng.uniform(0.5, 1.5) / 2e4
                bid = Ohlc(*(price - half for price in mid))
                ask = Ohlc(*(price + half for price in mid))
            made.append(Bar(bar_ms, bar_ms + length, mid, bid, ask, *metrics))
            close, bar_ms = mid.close, bar_ms + length
    return made


def _candle(before: float, stretch: Stretch, rng: random.Random) -> Ohlc:
    noise = stretch.noise_bps
    opened = before * (1 + rng.gauss(0, noise / 4) / 1e4)
    closed = opened * (1 + (stretch.drift_bps + rng.gauss(0, noise)) / 1e4)
    high = max(opened, closed) * (1 + abs(rng.gauss(0, noise)) / 1e4)
    low = min(opened, closed) * (1 - abs(rng.gauss(0, noise)) / 1e4)
    return Ohlc(opened, high, low, closed)


def _metrics(rng: random.Random) -> tuple[float, float, float, float, float, int]:
    return (*(rng.random() for _ in range(5)), rng.choice((1, 2, 3, 4)))  # type: ignore[return-value]
