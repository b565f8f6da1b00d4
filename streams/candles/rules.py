"""Which candles and watermarks enter: the checks every record passes before a stage acts on it.

What has no record yet, a row of a file, is refused by ``RowRefused``, its file by ``FileRefused``.
"""

from __future__ import annotations

import re
from math import isfinite
from typing import NamedTuple

from streams.instants import GRANULARITY_MS
from streams.records.events import WATERMARK_KEY, Candle, Ohlc, Watermark
from streams.records.reasons import Refusal

HOUR_MS = 3_600_000
END_MS = 4_102_444_800_000
"""2100-01-01: a time behind it is no time but a wrong unit, and calendars end somewhere."""
LOWEST_PRICE, HIGHEST_PRICE = 1e-12, 1e12
"""What the engine computes with; a price outside is no price of anything."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}", re.ASCII)


class RowRefused(Exception):
    """A row that is no candle; ``reason`` is a code, the text says what was found.

    An outcome of the data: it is listed with file and line, never raised to the user.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class FileRefused(Exception):
    """A row that shows that the file means something else than it would be read as.

    No row of the file is taken in, since the others would be read wrongly without a sign of it.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class CandleRefusal(NamedTuple):
    """Why a candle may not enter: the reason code, and what was found."""

    reason: Refusal
    detail: str


def bar_step_ms(length_ms: int) -> int:
    """Return what the starts of bars are multiples of; longer bars start by New York's clock."""
    return min(length_ms, HOUR_MS)


def candle_refusal(candle: Candle, key: bytes | None) -> CandleRefusal | None:
    """Return why a candle may not enter, None when it may.

    Parameters
    ----------
    candle
        The decoded candle.
    key
        The Kafka key it was found under.
    """
    problem = _candle_problem(candle, key)
    if problem:
        return CandleRefusal(Refusal.INVALID_CANDLE, problem)
    crossed = _crossed_quote(candle)
    return CandleRefusal(Refusal.CROSSED_QUOTE, crossed) if crossed else None


def _candle_problem(candle: Candle, key: bytes | None) -> str | None:
    if key != candle.instrument.encode():
        return f"the key {key!r} is not the instrument {candle.instrument!r}"
    if not NAME.fullmatch(candle.instrument):
        return f"the instrument {candle.instrument[:64]!r} is not a name such as EUR_USD"
    length = GRANULARITY_MS.get(candle.granularity)
    if length is None:
        return f"the granularity {candle.granularity!r} is not one of {', '.join(GRANULARITY_MS)}"
    if not candle.complete:
        return "the candle is not complete"
    if candle.as_of_ms != candle.bar_ms + length:
        return f"as_of_ms {candle.as_of_ms} is not bar_ms {candle.bar_ms} + {length}"
    if candle.bar_ms < 0 or candle.bar_ms % bar_step_ms(length):
        return f"bar_ms {candle.bar_ms} is not the start of a bar of {candle.granularity}"
    if candle.as_of_ms > END_MS:
        return f"bar_ms {candle.bar_ms} lies behind the year 2099"
    if candle.volume is not None and candle.volume < 0:
        return f"the volume {candle.volume} is negative"
    for side, prices in (("mid", candle.mid), ("bid", candle.bid), ("ask", candle.ask)):
        problem = None if prices is None else price_problem(prices)
        if problem:
            return f"{side}: {problem}"
    return None


def watermark_problem(watermark: Watermark, key: bytes | None) -> str | None:
    """Return what is wrong with a watermark in words, None when nothing is.

    Parameters
    ----------
    watermark
        The decoded watermark.
    key
        The Kafka key it was found under.
    """
    if key != WATERMARK_KEY:
        return f"the key {key!r} is not {WATERMARK_KEY!r}"
    if not 0 <= watermark.as_of_ms <= END_MS:
        return f"as_of_ms {watermark.as_of_ms} is not between 1970 and 2099"
    if watermark.control_offset < 0:
        return f"control_offset {watermark.control_offset} is negative"
    for name in (*watermark.instruments, *watermark.not_waited_for):
        if not NAME.fullmatch(name):
            return f"the instrument {name[:64]!r} is not a name such as EUR_USD"
    return None


def stamp_problem(as_of_ms: int, timestamp_ms: int) -> str | None:
    """Return what is wrong between a record's content and its Kafka time stamp, None when nothing.

    What is derived is stamped ``as_of_ms``, and brokers refuse stamps far ahead: a record that they
    let in under an earlier stamp must not make a stage write one that they refuse.
    """
    if as_of_ms > timestamp_ms:
        return f"as_of_ms {as_of_ms} lies after the record's time stamp {timestamp_ms}"
    return None


def _crossed_quote(candle: Candle) -> str | None:
    if candle.bid is None or candle.ask is None:
        return None
    for field, bid, ask in zip(Ohlc._fields, candle.bid, candle.ask, strict=True):
        if bid > ask:
            return f"{field}: the bid {bid!r} is over the ask {ask!r}"
    return None


def price_problem(prices: Ohlc) -> str | None:
    """Return what is wrong with one side of a candle in words, None when nothing is."""
    opened, high, low, close = prices
    if LOWEST_PRICE <= low <= opened <= high <= HIGHEST_PRICE and low <= close <= high:
        return None
    if not all(isfinite(price) and price > 0.0 for price in prices):
        return f"a price is not a positive finite number: {tuple(prices)}"
    if not all(LOWEST_PRICE <= price <= HIGHEST_PRICE for price in prices):
        return f"a price is outside {LOWEST_PRICE:g} to {HIGHEST_PRICE:g}: {tuple(prices)}"
    return f"open and close do not lie between low and high: {tuple(prices)}"
