"""Parse a candle from a row of text or JSON, in any supported layout.

Long and short names, flat (mid) or nested mid, bid and ask, numbers or strings; times as
``candle_times`` reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from streams.candles.mid_price import WrittenPrice, mid_prices
from streams.candles.rules import (
    FileRefused,
    RowRefused,
    bar_step_ms,
    candle_refusal,
)
from streams.candles.times import TIME_NAMES, TimeColumn
from streams.instants import GRANULARITY_MS, clock
from streams.instruments import decorated_pair, instrument_name
from streams.records.events import Candle, CandleSource, Ohlc
from streams.records.value_rules import price_problem

VOLUME_NAMES = ("volume", "v", "ticks")
COMPLETE_NAMES = ("complete", "iscomplete", "is_complete", "closed", "isclosed", "is_closed")
INSTRUMENT_NAMES = ("instrument", "symbol")
GRANULARITY_NAMES = ("granularity", "gran")
FIELDS = (("open", "o"), ("high", "h"), ("low", "l"), ("close", "c"))
SIDES = ("mid", "bid", "ask")


def known_columns() -> set[str]:
    """Return all column names of flat rows, in lower case."""
    flat = {name for pair in FIELDS for name in pair}
    sided = {f"{side}{join}{name}" for side in SIDES for join in ("_", ".") for name in flat}
    names = (TIME_NAMES, VOLUME_NAMES, COMPLETE_NAMES, INSTRUMENT_NAMES, GRANULARITY_NAMES)
    return flat | sided | {name for group in names for name in group}


def candle_from_row(
    row: Mapping[str, Any],
    instrument: str | None,
    granularity: str | None,
    source: CandleSource = "file",
    times: TimeColumn | None = None,
    line: int = 0,
) -> Candle:
    """Return the candle of a row.

    Parameters
    ----------
    row
        Names in lower case.
    instrument, granularity
        What the file is known to hold, where the row does not say.
    source
        Source of the candle.
    times
        The time column of the file; None without earlier rows.
    line
        Line of the file.

    Raises
    ------
    RowRefused
        The row is not a complete candle with usable numbers.
    FileRefused
        The row shows that the file cannot be read correctly.
    """
    instrument, granularity = series_names(row, instrument, granularity)
    if not instrument:
        raise RowRefused(
            "no_instrument", "neither the row, the file name nor --instrument contains one"
        )
    pair = decorated_pair(instrument)
    if pair is not None:
        raise RowRefused("bad_instrument", f"the instrument is {instrument!r}; write {pair}")
    if granularity not in GRANULARITY_MS:
        said = f"the granularity {granularity!r} is unknown" if granularity else "there is none"
        raise RowRefused("no_granularity", said)
    if not _flag(_first(row, COMPLETE_NAMES)):
        raise RowRefused("incomplete", "the candle is not complete")
    times = times or TimeColumn()
    bar_ms = times.read(row, line)
    if bar_ms % bar_step_ms(GRANULARITY_MS[granularity]):
        times.misaligned.append(bar_ms)
        raise RowRefused(
            "not_a_bar_start", f"{clock(bar_ms)} is not the start of a bar of {granularity}"
        )
    prices = _candle_prices(row)
    candle = Candle(
        instrument,
        granularity,
        bar_ms,
        bar_ms + GRANULARITY_MS[granularity],
        *prices,
        _volume(_first(row, VOLUME_NAMES)),
        source,
    )
    refusal = candle_refusal(candle, instrument.encode())
    if refusal:
        raise RowRefused(*refusal)
    return candle


def series_names(
    row: Mapping[str, Any], instrument: str | None, granularity: str | None
) -> tuple[str, str]:
    """Return the normalised instrument and granularity of a row; empty if unknown.

    Parameters
    ----------
    row
        Names in lower case.
    instrument, granularity
        What the file is known to hold, where the row does not say.
    """
    return (
        instrument_name(str(_first(row, INSTRUMENT_NAMES) or instrument or "")),
        str(_first(row, GRANULARITY_NAMES) or granularity or "").strip().upper(),
    )


def plain_float(text: str) -> float:
    """Parse a number in ASCII digits; Python's underscores are refused.

    Raises
    ------
    ValueError
        The text is not a number.
    """
    if "_" in text or not text.isascii():
        raise ValueError(text)
    return float(text)


def _first(row: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    """Return the value of a row under one of several names, None if there is none.

    Raises
    ------
    FileRefused
        The row has different values under two of the names.
    """
    filled = [name for name in names if row.get(name) not in (None, "")]
    if not filled:
        return None
    first = row[filled[0]]
    for other in filled[1:]:
        if str(row[other]).strip() != str(first).strip():
            raise FileRefused(
                "two_values",
                f"{filled[0]} ({str(first)[:32]!r}) and {other} ({str(row[other])[:32]!r}) are "
                "two values of one field; keep one of these columns",
            )
    return first


def _flag(value: Any) -> bool:
    return value is None or value is True or str(value).strip().lower() in ("1", "true", "yes")


class _Side(NamedTuple):
    """Open, high, low and close as in the row, and the nearest doubles."""

    written: tuple[WrittenPrice, ...]
    prices: Ohlc


def _candle_prices(row: Mapping[str, Any]) -> tuple[Ohlc, Ohlc | None, Ohlc | None, bool]:
    """Return mid, bid, ask, and whether the mid is derived from them (docs/mid-price.md)."""
    bid, ask = _side(row, "bid"), _side(row, "ask")
    if bid and ask:
        for name, side in (("bid", bid), ("ask", ask)):
            problem = price_problem(side.prices)
            if problem:
                raise RowRefused("invalid_candle", f"{name}: {problem}")
        return mid_prices(bid.written, ask.written), bid.prices, ask.prices, True
    mid = _mid(row)
    if mid is None:
        if bid or ask:
            there, missing = ("bid", "ask") if bid else ("ask", "bid")
            raise RowRefused(
                "one_sided",
                f"the row has only {there} prices: the mid price needs {missing} or mid",
            )
        raise RowRefused("no_prices", "neither mid nor both bid and ask")
    return mid.prices, bid and bid.prices, ask and ask.prices, False


def _mid(row: Mapping[str, Any]) -> _Side | None:
    return _only("mid", [_side(row, "mid"), _flat(row, "")])


def _side(row: Mapping[str, Any], side: str) -> _Side | None:
    nested = row.get(side)
    found = None
    if isinstance(nested, Mapping):
        found = _flat({str(k).lower(): v for k, v in nested.items()}, "")
    if found is None and nested is not None:
        raise RowRefused("no_prices", f"{side} lacks open, high, low or close")
    return _only(side, [found, _flat(row, f"{side}_"), _flat(row, f"{side}.")])


def _only(side: str, found: list[_Side | None]) -> _Side | None:
    """Return the prices of a side, which a row may have under several names."""
    there = [one for one in found if one is not None]
    if any(one.prices != there[0].prices for one in there):
        raise FileRefused(
            "two_values",
            f"the row has different {side} prices under two names; keep one of these columns",
        )
    return there[0] if there else None


def _flat(row: Mapping[str, Any], prefix: str) -> _Side | None:
    found = [_first(row, (prefix + long, prefix + short)) for long, short in FIELDS]
    if all(value is None for value in found):
        return None
    if any(value is None for value in found):
        raise RowRefused("no_prices", f"{prefix or 'mid '}prices are incomplete")
    return _Side(tuple(found), Ohlc(*(_number(value) for value in found)))


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str, Decimal)):
        raise RowRefused("bad_number", f"{value!r} is not a number")
    try:
        return plain_float(value) if isinstance(value, str) else float(value)
    except (ValueError, OverflowError):
        raise RowRefused("bad_number", f"{value!r} is not a number") from None


def _volume(value: Any) -> int | None:
    if value is None:
        return None
    number = _number(value)
    if 0 < number < 2**53 and number != int(number):
        raise FileRefused(
            "fractional_volume",
            f"the volume {str(value)!r} is not a whole number of ticks; scale the column to whole "
            "numbers, or omit it (ALLOW_MISSING_VOLUME=1)",
        )
    if not (number >= 0 and number < 2**62 and number == int(number)):
        raise RowRefused("bad_number", f"the volume {value!r} is not a whole number >= 0")
    return int(number)
