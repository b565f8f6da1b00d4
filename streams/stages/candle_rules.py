"""Which candles enter: the checks every candle of the log passes before the metrics see it."""

from __future__ import annotations

from math import isfinite

from streams.events import GRANULARITY_MS, Candle, Ohlc

HOUR_MS = 3_600_000


def candle_problem(candle: Candle, key: bytes | None) -> str | None:
    """Return what is wrong with a candle in words, None when nothing is.

    Parameters
    ----------
    candle
        The decoded candle.
    key
        The Kafka key it was found under.
    """
    if key != candle.instrument.encode():
        return f"the key {key!r} is not the instrument {candle.instrument!r}"
    length = GRANULARITY_MS.get(candle.granularity)
    if length is None:
        return f"the granularity {candle.granularity!r} is not one of {', '.join(GRANULARITY_MS)}"
    if not candle.complete:
        return "the candle is not complete"
    if candle.as_of_ms != candle.bar_ms + length:
        return f"as_of_ms {candle.as_of_ms} is not bar_ms {candle.bar_ms} + {length}"
    # longer bars start by New York's clock
    if candle.bar_ms < 0 or candle.bar_ms % min(length, HOUR_MS):
        return f"bar_ms {candle.bar_ms} is not the start of a bar of {candle.granularity}"
    if candle.volume is not None and candle.volume < 0:
        return f"the volume {candle.volume} is negative"
    for side, prices in (("mid", candle.mid), ("bid", candle.bid), ("ask", candle.ask)):
        problem = None if prices is None else _price_problem(prices)
        if problem:
            return f"{side}: {problem}"
    return None


def _price_problem(prices: Ohlc) -> str | None:
    opened, high, low, close = prices
    if 0.0 < low <= opened <= high and low <= close <= high and isfinite(high):
        return None
    if not all(isfinite(price) and price > 0.0 for price in prices):
        return f"a price is not a positive finite number: {tuple(prices)}"
    return f"open and close do not lie between low and high: {tuple(prices)}"
