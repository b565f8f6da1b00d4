"""A seeded market as columns, a million bars in a moment: what the backtest is measured on."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from streams.candles.calendar import FX
from streams.candles.columns import CandleColumns
from streams.candles.sessions import session_states
from streams.config.settings import Config
from streams.pipeline.instrument_fold import Watermarks

MINUTE_MS = 60_000
START_MS = 1_577_919_600_000
"""Wednesday 2020-01-01 23:00 UTC."""
POINT = 1e-5
FIRST_POINTS, REACH_POINTS = 110_000, 20_000
JUMPS = 1 / 3_000
"""Share of bars that news move by up to 1.6 %: what reaches stops and targets."""
LOOSE = {
    "AUTO_MIN_COHERENCE": "0",
    "GUARD_MIN_STABILITY": "0",
    "AUTO_MAX_ENTROPY": "1",
    "AUTO_MAX_RUPTURE": "1",
    "SESSION_PATTERN_MIN_OCCURRENCES": "1",
}
"""Settings under which every bar passes the static guards: trades come often."""


def config_of(**settings: str) -> Config:
    """Return the configuration of the measurements: loose guards, and ``settings``."""
    return Config.from_env(LOOSE | settings)


def market_columns(bars: int, seed: int, *, weekends: bool = False) -> CandleColumns:
    """Return candles of a seeded market with bid and ask, all of whole points.

    Parameters
    ----------
    bars
        How many.
    seed
        What everything random follows from.
    weekends
        Whether there are bars outside the market week too.
    """
    rng = np.random.default_rng(seed)
    bar_ms = START_MS + MINUTE_MS * np.arange(bars if weekends else bars * 3 // 2 + 10_000)
    if not weekends:
        bar_ms = bar_ms[session_states(FX, "EUR_USD", bar_ms, 0).market_open][:bars]
    # folded between two bounds: a walk of a million steps would leave every plausible price
    jumps = np.where(rng.random(bars) < JUMPS, rng.integers(-1_800, 1_801, bars), 0)
    walk = np.cumsum(rng.integers(-14, 15, bars) + _drift(bars, rng) + jumps)
    reach = REACH_POINTS
    close = FIRST_POINTS + np.abs((walk + reach) % (4 * reach) - 2 * reach) - reach
    opened = np.concatenate([close[:1], close[:-1]]) + rng.integers(-2, 3, bars)
    high = np.maximum(opened, close) + rng.integers(0, 10, bars)
    low = np.minimum(opened, close) - rng.integers(0, 10, bars)
    half = rng.integers(3, 9, bars)
    mid = np.stack([opened, high, low, close])
    bid, ask = (mid - half) * POINT, (mid + half) * POINT
    prices = np.concatenate([(bid + ask) / 2, bid, ask]).round(7)
    return CandleColumns(bar_ms, prices, np.ones(bars, bool), rng.integers(1, 80, bars))


def _drift(bars: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return points a bar that hold for some hours: trends are what the rule trades."""
    count = bars // 60 + 1
    lengths = rng.integers(60, 400, count)
    drifts: NDArray[np.int64] = np.repeat(rng.integers(-2, 3, count), lengths)[:bars]
    return drifts


def marks_of(candles: CandleColumns) -> Watermarks:
    """Return a watermark after every candle, as a feed writes them."""
    ends = candles.bar_ms + MINUTE_MS
    return Watermarks(ends, np.arange(1, len(ends) + 1))


def part_of(candles: CandleColumns, begin: int, end: int) -> CandleColumns:
    """Return the candles [begin, end)."""
    return candles.where(np.s_[begin:end])


CSV_HEADER = "time,volume," + ",".join(f"{s}_{p}" for s in ("bid", "ask") for p in "ohlc")


def csv_text(candles: CandleColumns) -> str:
    """Return candles as the text of a CSV file, times in epoch ms."""
    columns: list[list[float]] = [candles.bar_ms.tolist(), candles.volume.tolist()]
    columns += [candles.prices[place].tolist() for place in range(4, 12)]
    line = "%d,%d" + ",%.5f" * 8
    lines = [line % row for row in zip(*columns, strict=True)]
    return "\n".join([CSV_HEADER, *lines, ""])


def saved(candles: CandleColumns) -> Mapping[str, NDArray[np.float64]]:
    """Return what a peer's runner reads: one array a column, named as in a CSV file."""
    names = [f"{side}_{price}" for side in ("mid", "bid", "ask") for price in "ohlc"]
    found = dict(zip(names, candles.prices, strict=True))
    return {"bar_ms": candles.bar_ms, "volume": candles.volume} | found
