"""Candle files for tests: a seeded synthetic market as CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from streams.feeds.synthetic import MarketRates, synthetic_market
from streams.records.events import Candle, Ohlc

START_MS = 1_709_535_600_000
"""Monday 2024-03-04 07:00 UTC."""
HEADER = "time,instrument,granularity,bid_o,bid_h,bid_l,bid_c,ask_o,ask_h,ask_l,ask_c,volume"


def market(pairs: Sequence[str], bars: int, seed: int = 7) -> list[Candle]:
    """Return the candles of a market with quiet minutes, but none late or double, by time."""
    rates = MarketRates(quiet=20, late=0, duplicate=0)
    return [c for bar in synthetic_market(seed, pairs, START_MS, bars, rates=rates) for c in bar[1]]


def csv_line(candle: Candle) -> str:
    """Return a candle as a line of ``HEADER``."""
    bid, ask = candle.bid or Ohlc(0, 0, 0, 0), candle.ask or Ohlc(0, 0, 0, 0)
    cells = (candle.bar_ms, candle.instrument, candle.granularity, *bid, *ask, candle.volume)
    return ",".join(map(str, cells))


def write_csv(path: Path, candles: Sequence[Candle], *more: str) -> str:
    """Write candles (and further lines after them) as CSV; return the path."""
    lines = [HEADER, *map(csv_line, candles), *more]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)
