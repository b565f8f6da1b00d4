"""Sessions and the market week, compiled to UTC intervals from the pinned time zone rules.

Local hours are half-open; a pair is open in the union of its two currencies' sessions inside the
market week, Sunday 17:05 to Friday 16:59 New York (records.md, "Sessions and the market week").
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, date, datetime, time, timedelta
from functools import cache, lru_cache
from importlib import resources
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

HOURS: dict[str, tuple[str, int, int]] = {
    "London": ("Europe/London", 8, 16),
    "New York": ("America/New_York", 8, 17),
    "Tokyo": ("Asia/Tokyo", 8, 16),
    "Sydney": ("Australia/Sydney", 7, 15),
}
"""Session -> (IANA zone, first local hour, local hour of the close)."""

CURRENCY_SESSIONS: dict[str, tuple[str, ...]] = {
    "EUR": ("London",),
    "GBP": ("London",),
    "CHF": ("London",),
    "USD": ("New York",),
    "CAD": ("New York",),
    "JPY": ("Tokyo",),
    "AUD": ("Sydney",),
    "NZD": ("Sydney",),
}
OTHER_CURRENCY_SESSIONS = ("London", "New York")

WEEK_OPEN, WEEK_CLOSE = time(17, 5), time(16, 59)
MINUTE_MS, WEEK_DAYS = 60_000, 7

Interval = tuple[int, int]


class SessionState(NamedTuple):
    """What holds at an instant.

    Attributes
    ----------
    open
        A session of the pair is open, inside the market week.
    near_close
        Open, and the end of the union or of the market week is no further than the exit minutes.
    market_open
        Inside the market week.
    next_change_ms
        When the pair opens next if it is closed, when it closes if it is open.
    """

    open: bool
    near_close: bool
    market_open: bool
    next_change_ms: int


@cache
def zone(name: str) -> ZoneInfo:
    """Return a time zone from the ``tzdata`` package, whatever the system has."""
    place = resources.files("tzdata.zoneinfo").joinpath(*name.split("/"))
    with place.open("rb") as rules:
        return ZoneInfo.from_file(rules, key=name)


def sessions_of(instrument: str) -> tuple[str, ...]:
    """Return the sessions of a pair such as ``EUR_USD``, sorted."""
    names: set[str] = set()
    for currency in instrument.split("_"):
        names.update(CURRENCY_SESSIONS.get(currency, OTHER_CURRENCY_SESSIONS))
    return tuple(sorted(names))


def session_state(instrument: str, at_ms: int, exit_minutes: int) -> SessionState:
    """Return the session state of ``instrument`` at ``at_ms`` (epoch ms UTC)."""
    week = week_of(at_ms)
    opens = _open_intervals(_sessions_of(instrument), week)
    market_open = week[0] <= at_ms < week[1]
    place = bisect_right(opens, (at_ms, 1 << 62)) - 1
    if place >= 0 and at_ms < opens[place][1]:
        end = opens[place][1]
        return SessionState(True, end - at_ms <= exit_minutes * MINUTE_MS, market_open, end)
    if place + 1 < len(opens):
        return SessionState(False, False, market_open, opens[place + 1][0])
    following = _open_intervals(_sessions_of(instrument), week_of(week[0] + WEEK_DAYS * 86_400_000))
    return SessionState(False, False, market_open, following[0][0])


def session_intervals(instrument: str, from_ms: int, to_ms: int) -> list[Interval]:
    """Return when a pair is open, [open, close), in the market weeks from ``from_ms`` to ``to_ms``.

    Ascending; each lies in one market week, so that its end is a close.
    """
    found: list[Interval] = []
    week = week_of(from_ms)
    while week[0] <= to_ms:
        found += _open_intervals(_sessions_of(instrument), week)
        week = week_of(week[0] + WEEK_DAYS * 86_400_000)
    return found


class SessionStates(NamedTuple):
    """``SessionState`` at many instants, as arrays of one length."""

    open: NDArray[np.bool_]
    near_close: NDArray[np.bool_]
    market_open: NDArray[np.bool_]
    next_change_ms: NDArray[np.int64]


def session_states(instrument: str, at_ms: NDArray[np.int64], exit_minutes: int) -> SessionStates:
    """Return what ``session_state`` says at each of many instants, in any order.

    Parameters
    ----------
    at_ms
        Epoch ms UTC, [n].
    """
    if not len(at_ms):
        none = np.zeros(0, bool)
        return SessionStates(none, none, none, np.zeros(0, np.int64))
    week, last = week_of(int(at_ms.min())), int(at_ms.max())
    weeks: list[Interval] = []
    opens: list[Interval] = []
    while True:
        weeks.append(week)
        opens += _open_intervals(_sessions_of(instrument), week)
        if week[0] > last:
            break
        week = week_of(week[0] + WEEK_DAYS * 86_400_000)
    starts, ends = np.array(opens, np.int64).T
    place = np.searchsorted(starts, at_ms, "right") - 1
    end = np.where(place >= 0, ends[place], -1)
    is_open = at_ms < end
    opened, closed = np.array(weeks, np.int64).T
    in_week = np.searchsorted(opened, at_ms, "right") - 1
    market = (in_week >= 0) & (at_ms < closed[in_week])
    near = is_open & (end - at_ms <= exit_minutes * MINUTE_MS)
    return SessionStates(is_open, near, market, np.where(is_open, end, starts[place + 1]))


def missing_bars(before_ms: int, bar_ms: int, granularity_ms: int) -> int:
    """Return how many bars of market hours lie between two candles' starts, both excluded.

    A bar counts when it starts inside the market week.
    """
    count, start = 0, before_ms + granularity_ms
    while start < bar_ms:
        opened, closed = week_of(start)
        end = min(bar_ms, closed)
        if start < opened:
            start += -(-(opened - start) // granularity_ms) * granularity_ms
        if start < end:
            bars = -(-(end - start) // granularity_ms)
            count += bars
            start += bars * granularity_ms
        if start >= closed:
            following = week_of(opened + WEEK_DAYS * 86_400_000)[0]
            start += max(0, -(-(following - start) // granularity_ms)) * granularity_ms
    return count


def week_of(at_ms: int) -> Interval:
    """Return the market week [open, close) whose Sunday (New York) is the last not after ``at_ms``.

    Before 17:05 on a Sunday that is the week about to open.
    """
    return _week_of_hour(at_ms // 3_600_000)


@lru_cache(maxsize=4096)
def _week_of_hour(hour: int) -> Interval:
    # time zone offsets and weeks never change within a UTC hour of New York's midnight
    local = datetime.fromtimestamp(hour * 3600, UTC).astimezone(zone("America/New_York"))
    sunday = local.date() - timedelta(days=(local.weekday() + 1) % WEEK_DAYS)
    return (
        _utc_ms("America/New_York", sunday, WEEK_OPEN),
        _utc_ms("America/New_York", sunday + timedelta(days=5), WEEK_CLOSE),
    )


@cache
def _sessions_of(instrument: str) -> tuple[str, ...]:
    return sessions_of(instrument)


@lru_cache(maxsize=4096)
def _open_intervals(sessions: tuple[str, ...], week: Interval) -> tuple[Interval, ...]:
    first = datetime.fromtimestamp(week[0] / 1000, UTC).date() - timedelta(days=1)
    found = []
    for name in sessions:
        place, start, end = HOURS[name]
        for day in range(WEEK_DAYS + 2):
            on = first + timedelta(days=day)
            opened = max(_utc_ms(place, on, time(start)), week[0])
            closed = min(_utc_ms(place, on, time(end)), week[1])
            if opened < closed:
                found.append((opened, closed))
    return _merged(found)


def _merged(intervals: list[Interval]) -> tuple[Interval, ...]:
    merged: list[Interval] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)


def _utc_ms(place: str, on: date, at: time) -> int:
    return int(datetime.combine(on, at, zone(place)).timestamp()) * 1000
