"""Validity rules for candles and watermarks, checked before a stage processes a record.

A row of a file that is no record yet is refused with ``RowRefused``, its whole file with
``FileRefused``.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from streams.instants import HOUR_MS, LATEST_MS
from streams.records.events import WATERMARK_KEY, Candle, Ohlc, Watermark
from streams.records.reasons import Refusal
from streams.records.validation import problem_of, stamp_problem

_SHOWN: Final = 64

END_MS = LATEST_MS
"""2100-01-01: a later time has a wrong unit, and calendars are limited."""


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
    """Why a candle or a watermark is refused: reason code and description."""

    reason: Refusal
    detail: str


def bar_step_ms(length_ms: int) -> int:
    """Return the step of bar starts in milliseconds; bars over one hour start in New York time."""
    return min(length_ms, HOUR_MS)


def input_refusal(
    event: Candle | Watermark, key: bytes | None, timestamp_ms: int
) -> CandleRefusal | None:
    """Return why a record of ``md.candles`` is refused for itself, None when it is not.

    Parameters
    ----------
    event
        The decoded record.
    key, timestamp_ms
        Its Kafka key and time stamp.
    """
    if isinstance(event, Watermark):
        problem = watermark_problem(event, key) or stamp_problem(event, timestamp_ms)
        return CandleRefusal(Refusal.INVALID_WATERMARK, problem) if problem else None
    refusal = candle_refusal(event, key)
    if refusal is not None:
        return refusal
    early = stamp_problem(event, timestamp_ms)
    return CandleRefusal(Refusal.INVALID_CANDLE, early) if early else None


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
        return f"the key {_shown(key)} is not the instrument {candle.instrument[:_SHOWN]!r}"
    return problem_of(candle)


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
        return f"the key {_shown(key)} is not {WATERMARK_KEY!r}"
    return problem_of(watermark)


def _shown(key: bytes | None) -> str:
    return repr(None if key is None else key[:_SHOWN])


def _crossed_quote(candle: Candle) -> str | None:
    if candle.bid is None or candle.ask is None:
        return None
    for field, bid, ask in zip(Ohlc._fields, candle.bid, candle.ask, strict=True):
        if bid > ask:
            return f"{field}: the bid {bid!r} is over the ask {ask!r}"
    return None
