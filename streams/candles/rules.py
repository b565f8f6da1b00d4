"""Validity rules for candles and watermarks, checked before a stage processes a record.

A row of a file that is no record yet is refused with ``RowRefused``, its whole file with
``FileRefused``.
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
"""2100-01-01: a later time has a wrong unit, and calendars are limited."""
LOWEST_PRICE, HIGHEST_PRICE = 1e-12, 1e12
"""Price range of the engine; no real price is outside."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}", re.ASCII)


class RowRefused(Exception):
    """A row of a file is not a valid candle.

    ``reason`` is the code, the text describes the row. It is listed with file and line and never
    ends a command.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class FileRefused(Exception):
    """A row shows that the file would be read with the wrong meaning.

    The whole file is refused, because its other rows would be read wrongly without an error.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class CandleRefusal(NamedTuple):
    """Why a candle is refused: reason code and description."""

    reason: Refusal
    detail: str


def bar_step_ms(length_ms: int) -> int:
    """Return the step of bar starts in milliseconds; bars over one hour start in New York time."""
    return min(length_ms, HOUR_MS)


def candle_refusal(candle: Candle, key: bytes | None) -> CandleRefusal | None:
    """Return why a candle is refused, None when it is valid.

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
    # longer bars start in New York time
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
    """Return why a watermark is invalid, None when it is valid.

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
    """Return why content and Kafka time stamp of a record are inconsistent, None when they are not.

    Derived records get ``as_of_ms`` as time stamp, and brokers refuse time stamps far in the
    future: a record accepted with an earlier time stamp must not make a stage write one that is
    refused.
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
    """Return why one price side of a candle is invalid, None when it is valid."""
    opened, high, low, close = prices
    if LOWEST_PRICE <= low <= opened <= high <= HIGHEST_PRICE and low <= close <= high:
        return None
    if not all(isfinite(price) and price > 0.0 for price in prices):
        return f"a price is not a positive finite number: {tuple(prices)}"
    if not all(LOWEST_PRICE <= price <= HIGHEST_PRICE for price in prices):
        return f"a price is outside {LOWEST_PRICE:g} to {HIGHEST_PRICE:g}: {tuple(prices)}"
    return f"open and close do not lie between low and high: {tuple(prices)}"
