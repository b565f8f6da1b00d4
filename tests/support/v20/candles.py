"""Candles: exactly what the ticks of their span make, and the rules of the two endpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tests.support.v20.amounts import parse_time, rfc3339
from tests.support.v20.market import MINUTE_MS, Market, Tick

LENGTH_MS: dict[str, int] = {
    **{f"S{n}": n * 1000 for n in (5, 10, 15, 30)},
    **{f"M{n}": n * MINUTE_MS for n in (1, 2, 4, 5, 10, 15, 30)},
    **{f"H{n}": n * 60 * MINUTE_MS for n in (1, 2, 3, 4, 6, 8, 12)},
    "D": 1440 * MINUTE_MS,
    "W": 7 * 1440 * MINUTE_MS,
    "M": 30 * 1440 * MINUTE_MS,
}
"""Granularity -> length; a month's is only its usual length."""

MOST = 5000
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


class BadQuery(Exception):
    """A parameter that OANDA answers with 400."""


class Bar(NamedTuple):
    """One candle in points; the middle is twice its points, so that it stays whole."""

    start_ms: int
    end_ms: int
    bid: tuple[int, int, int, int]
    ask: tuple[int, int, int, int]
    mid2: tuple[int, int, int, int]
    volume: int
    complete: bool


class Alignment(NamedTuple):
    """Where days and weeks begin."""

    hour: int = 17
    zone: str = "America/New_York"
    weekday: str = "Friday"


def bar_of(ticks: list[Tick], start_ms: int, end_ms: int, complete: bool) -> Bar | None:
    """Return the candle that ticks make; None when there are none."""
    if not ticks:
        return None
    sides = ([t.bid for t in ticks], [t.ask for t in ticks], [t.bid + t.ask for t in ticks])
    bid, ask, mid2 = ((s[0], max(s), min(s), s[-1]) for s in sides)
    return Bar(start_ms, end_ms, bid, ask, mid2, len(ticks), complete)


def span(granularity: str, time_ms: int, align: Alignment) -> tuple[int, int]:
    """Return start and end of the candle that covers an instant."""
    length = LENGTH_MS[granularity]
    if granularity not in ("D", "W", "M") and length <= 60 * MINUTE_MS:
        start = time_ms - time_ms % length
        return start, start + length
    zone = ZoneInfo(align.zone)
    local = datetime.fromtimestamp(time_ms / 1000, UTC).astimezone(zone)
    day = local.date() if local.hour >= align.hour else local.date() - timedelta(days=1)
    if granularity == "W":
        back = (day.weekday() - WEEKDAYS.index(align.weekday)) % 7
        day -= timedelta(days=back)
        return _edge(day, align, zone), _edge(day + timedelta(days=7), align, zone)
    if granularity == "M":
        first = (day + timedelta(days=1)).replace(day=1)
        following = (first + timedelta(days=32)).replace(day=1)
        one = timedelta(days=1)
        return _edge(first - one, align, zone), _edge(following - one, align, zone)
    start, end = _edge(day, align, zone), _edge(day + timedelta(days=1), align, zone)
    if granularity == "D":
        return start, end
    inside = start + (time_ms - start) // length * length
    return inside, min(inside + length, end)


def _edge(day: date, align: Alignment, zone: ZoneInfo) -> int:
    local = datetime(day.year, day.month, day.day, align.hour, tzinfo=zone)
    return int(local.timestamp()) * 1000


class CandleQuery(NamedTuple):
    """What was asked for, checked."""

    instrument: str
    granularity: str
    sides: str
    most: int
    from_ms: int | None
    to_ms: int | None
    include_first: bool
    align: Alignment


def parse_query(instrument: str, query: Mapping[str, str], now_ms: int) -> CandleQuery:
    """Check a request's parameters as OANDA does.

    Raises
    ------
    BadQuery
        With OANDA's sentence.
    """
    sides = query.get("price", "M")
    if not sides or set(sides) - set("MBA"):
        raise BadQuery("Invalid value specified for 'price'")
    granularity = query.get("granularity", "S5")
    if granularity not in LENGTH_MS:
        raise BadQuery("Invalid value specified for 'granularity'")
    count = _count(query)
    from_ms, to_ms = _instant(query, "from", now_ms), _instant(query, "to", now_ms)
    if count is not None and from_ms is not None and to_ms is not None:
        raise BadQuery("'count' cannot be specified when 'to' and 'from' are set")
    if from_ms is not None and to_ms is not None:
        if from_ms > to_ms:
            raise BadQuery("Invalid value specified for 'to'. Time range is invalid")
        if (to_ms - from_ms) // LENGTH_MS[granularity] > MOST:
            raise BadQuery("Maximum value for 'count' exceeded")
    return CandleQuery(
        instrument,
        granularity,
        sides,
        MOST if from_ms is not None and to_ms is not None else count or 500,
        from_ms,
        to_ms,
        _flag(query, "includeFirst", True),
        _alignment(query),
    )


def _count(query: Mapping[str, str]) -> int | None:
    text = query.get("count")
    if text is None:
        return None
    if not text.isdigit() or int(text) < 1:
        raise BadQuery("Invalid value specified for 'count'")
    if int(text) > MOST:
        raise BadQuery("Maximum value for 'count' exceeded")
    return int(text)


def _instant(query: Mapping[str, str], name: str, now_ms: int) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    try:
        found = -(-parse_time(text) // 1_000_000)
    except ValueError:
        raise BadQuery(f"Invalid value specified for '{name}'") from None
    if found > now_ms:
        raise BadQuery(f"Invalid value specified for '{name}'. Time is in the future")
    return found


def _flag(query: Mapping[str, str], name: str, default: bool) -> bool:
    text = query.get(name)
    if text is None:
        return default
    if text.lower() not in ("true", "false", "0", "1"):
        raise BadQuery(f"Invalid value specified for '{name}'")
    return text.lower() in ("true", "1")


def _alignment(query: Mapping[str, str]) -> Alignment:
    hour = query.get("dailyAlignment", "17")
    if not hour.isdigit() or int(hour) > 23:
        raise BadQuery("Invalid value specified for 'dailyAlignment'")
    zone, weekday = query.get("alignmentTimezone", Alignment().zone), query.get("weeklyAlignment")
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError):
        raise BadQuery("Invalid value specified for 'alignmentTimezone'") from None
    if weekday is not None and weekday not in WEEKDAYS:
        raise BadQuery("Invalid value specified for 'weeklyAlignment'")
    return Alignment(int(hour), zone, weekday or Alignment().weekday)


def bars(market: Market, query: CandleQuery, now_ms: int) -> list[Bar]:
    """Return the candles asked for, oldest first; spans without a tick have none."""
    if query.from_ms is not None:
        return list(_forward(market, query, now_ms))
    end = query.to_ms if query.to_ms is not None else now_ms + 1
    found: list[Bar] = []
    at, oldest = end - 1, end - 1 - (query.most + 5000) * 3 * LENGTH_MS[query.granularity]
    while len(found) < query.most and at > oldest:
        start, stop = span(query.granularity, at, query.align)
        bar = one_bar(market, query.instrument, start, stop, now_ms)
        if bar is not None:
            found.append(bar)
        at = start - 1
    return found[::-1]


def _forward(market: Market, query: CandleQuery, now_ms: int) -> Iterator[Bar]:
    assert query.from_ms is not None
    end = query.to_ms if query.to_ms is not None else now_ms + 1
    start, stop = span(query.granularity, query.from_ms, query.align)
    if not query.include_first:
        start, stop = span(query.granularity, stop, query.align)
    given = 0
    while start < end and given < query.most:
        bar = one_bar(market, query.instrument, start, stop, now_ms)
        if bar is not None:
            given += 1
            yield bar
        start, stop = span(query.granularity, stop, query.align)


def one_bar(market: Market, name: str, start_ms: int, end_ms: int, now_ms: int) -> Bar | None:
    """Return the candle of a span as far as it has come."""
    ticks = list(market.ticks(name, start_ms - 1, min(end_ms - 1, now_ms)))
    return bar_of(ticks, start_ms, end_ms, market.is_complete(name, end_ms, now_ms))


def candle_json(bar: Bar, sides: str, text: Callable[[int], str]) -> dict[str, Any]:
    """Return a candle as OANDA writes it; ``text`` writes points as a price."""
    made: dict[str, Any] = {
        "complete": bar.complete,
        "volume": bar.volume,
        "time": rfc3339(bar.start_ms * 1_000_000),
    }
    middle = tuple((price + 1) // 2 for price in bar.mid2)
    for letter, name, prices in (
        ("B", "bid", bar.bid),
        ("A", "ask", bar.ask),
        ("M", "mid", middle),
    ):
        if letter in sides:
            made[name] = dict(zip("ohlc", map(text, prices), strict=True))
    return made
