"""One candle from a row of text or JSON, in any of the shapes candles come in.

Long and short names, flat (mid) or nested mid, bid and ask, numbers or strings, ISO-8601 times with
offsets or epoch seconds, milliseconds, microseconds or nanoseconds (told apart by magnitude).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from streams.events import GRANULARITY_MS, Candle, CandleSource, Ohlc
from streams.mid_price import WrittenPrice, mid_prices
from streams.stages.candle_rules import candle_refusal, price_problem

TIME_NAMES = ("time", "t", "timestamp", "ts", "bar_ms", "date", "datetime")
VOLUME_NAMES = ("volume", "v", "ticks")
COMPLETE_NAMES = ("complete",)
INSTRUMENT_NAMES = ("instrument", "symbol")
GRANULARITY_NAMES = ("granularity", "gran")
FIELDS = (("open", "o"), ("high", "h"), ("low", "l"), ("close", "c"))
SIDES = ("mid", "bid", "ask")


class RowRefused(Exception):
    """A row that is no candle; ``reason`` is a code, the text says what was found.

    An outcome of the data: it is listed with file and line, never raised to the user.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def known_columns() -> set[str]:
    """Return every column name a flat row may have, in lower case."""
    flat = {name for pair in FIELDS for name in pair}
    sided = {f"{side}{join}{name}" for side in SIDES for join in ("_", ".") for name in flat}
    names = (TIME_NAMES, VOLUME_NAMES, COMPLETE_NAMES, INSTRUMENT_NAMES, GRANULARITY_NAMES)
    return flat | sided | {name for group in names for name in group} | set(SIDES)


def candle_from_row(
    row: Mapping[str, Any],
    instrument: str | None,
    granularity: str | None,
    source: CandleSource = "file",
) -> Candle:
    """Return the candle of a row.

    Parameters
    ----------
    row
        Names in lower case.
    instrument, granularity
        What the file is known to hold, where the row does not say.
    source
        Where the candle comes from.

    Raises
    ------
    RowRefused
        The row is not a complete candle with usable numbers.
    """
    instrument, granularity = names_of(row, instrument, granularity)
    if not instrument:
        raise RowRefused("no_instrument", "neither row, file name nor --instrument names one")
    if granularity not in GRANULARITY_MS:
        raise RowRefused("no_granularity", f"the granularity {granularity!r} is not known")
    if not _flag(_first(row, COMPLETE_NAMES)):
        raise RowRefused("incomplete", "the candle is not complete")
    bar_ms = time_ms(_first(row, TIME_NAMES))
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


def names_of(
    row: Mapping[str, Any], instrument: str | None, granularity: str | None
) -> tuple[str, str]:
    """Return the instrument and granularity of a row, spelt our way; empty where nothing says.

    Parameters
    ----------
    row
        Names in lower case.
    instrument, granularity
        What the file is known to hold, where the row does not say.
    """
    return (
        str(_first(row, INSTRUMENT_NAMES) or instrument or "").upper().replace("/", "_"),
        str(_first(row, GRANULARITY_NAMES) or granularity or "").upper(),
    )


def time_ms(value: Any) -> int:
    """Return epoch milliseconds from a number or a text.

    Raises
    ------
    RowRefused
        Neither an ISO-8601 time nor a number, or not a whole millisecond.
    """
    text = str(value).strip() if value is not None else ""
    if not text:
        raise RowRefused("bad_time", "the row has no time")
    try:
        number = plain_float(text)
    except ValueError:
        return _iso_ms(text)
    if not abs(number) < 1e20:
        raise RowRefused("bad_time", f"{text!r} is not a time")
    # integers are kept exact: a nanosecond stamp does not fit a float
    whole = int(text) if text.lstrip("+-").isdigit() else None
    for limit, multiply, divide in ((1e11, 1000, 1), (1e14, 1, 1), (1e17, 1, 1000)):
        if abs(number) < limit:
            return _scaled(text, whole, number, multiply, divide)
    return _scaled(text, whole, number, 1, 1_000_000)


def plain_float(text: str) -> float:
    """Return the number that ``text`` is in ASCII digits; Python's underscores are refused.

    Raises
    ------
    ValueError
        It is none.
    """
    if "_" in text or not text.isascii():
        raise ValueError(text)
    return float(text)


def _scaled(text: str, whole: int | None, number: float, multiply: int, divide: int) -> int:
    if whole is not None:
        scaled, rest = divmod(whole * multiply, divide)
    else:
        value = number * multiply / divide
        scaled, rest = round(value), int(abs(value - round(value)) > 1e-6)
    if rest:
        raise RowRefused("bad_time", f"{text!r} is not a whole millisecond")
    return scaled


def _iso_ms(text: str) -> int:
    # OANDA writes nanoseconds; datetime reads at most six digits
    head, dot, tail = text.partition(".")
    if dot:
        digits = len(tail) - len(tail.lstrip("0123456789"))
        text = f"{head}.{tail[:digits][:6]}{tail[digits:]}"
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise RowRefused("bad_time", f"{text!r} is not a time") from None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    micros = (at - datetime(1970, 1, 1, tzinfo=UTC)) // _MICROSECOND
    if micros % 1000:
        raise RowRefused("bad_time", f"{text!r} is not a whole millisecond")
    return micros // 1000


_MICROSECOND = timedelta(microseconds=1)


def _first(row: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    for name in names:
        value = row.get(name)
        if value is not None and value != "":
            return value
    return None


def _flag(value: Any) -> bool:
    return value is None or value is True or str(value).strip().lower() in ("1", "true", "yes")


class _Side(NamedTuple):
    """Open, high, low and close as the row has them, and the doubles nearest to them."""

    written: tuple[WrittenPrice, ...]
    prices: Ohlc


def _candle_prices(row: Mapping[str, Any]) -> tuple[Ohlc, Ohlc | None, Ohlc | None, bool]:
    """Return mid, bid, ask, and whether the mid is that of bid and ask (docs/mid-price.md)."""
    bid, ask = _side(row, "bid"), _side(row, "ask")
    if bid and ask:
        for name, side in (("bid", bid), ("ask", ask)):
            problem = price_problem(side.prices)
            if problem:
                raise RowRefused("invalid_candle", f"{name}: {problem}")
        return mid_prices(bid.written, ask.written), bid.prices, ask.prices, True
    mid = _side(row, "mid") or _flat(row, "")
    if mid is None:
        if bid or ask:
            there, missing = ("bid", "ask") if bid else ("ask", "bid")
            raise RowRefused(
                "one_sided",
                f"the row has {there} prices only: without {missing} or mid there is no mid price",
            )
        raise RowRefused("no_prices", "neither mid nor both bid and ask")
    return mid.prices, bid and bid.prices, ask and ask.prices, False


def _side(row: Mapping[str, Any], side: str) -> _Side | None:
    nested = row.get(side)
    if isinstance(nested, Mapping):
        found = _flat({str(k).lower(): v for k, v in nested.items()}, "")
        if found is None:
            raise RowRefused("no_prices", f"{side} has no open, high, low and close")
        return found
    return _flat(row, f"{side}_") or _flat(row, f"{side}.")


def _flat(row: Mapping[str, Any], prefix: str) -> _Side | None:
    found = [_first(row, (prefix + long, prefix + short)) for long, short in FIELDS]
    if all(value is None for value in found):
        return None
    if any(value is None for value in found):
        raise RowRefused("no_prices", f"{prefix or 'mid '}prices are not all there")
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
    if not (number >= 0 and number < 2**62 and number == int(number)):
        raise RowRefused("bad_number", f"the volume {value!r} is not a whole number >= 0")
    return int(number)
