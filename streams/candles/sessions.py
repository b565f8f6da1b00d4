"""Sessions of currency pairs, compiled to UTC intervals from the pinned time zone rules.

Local hours are half-open; a pair is open in the union of its two currencies' sessions while the
market is (docs/spec/records.md, "Sessions and the market week"; ``streams.candles.calendar``).
Where the market is continuous, sessions keep their hours on all seven days.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import date, time, timedelta
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.candles.calendar import FUTURE, WEEK, Calendar, week_start_ms
from streams.candles.zones import WEEK_DAYS, sunday_of, utc_ms
from streams.intervals import Interval, common, union

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

MINUTE_MS = 60_000


class SessionState(NamedTuple):
    """Session state at an instant.

    Attributes
    ----------
    open
        A session of the pair and the market are open.
    near_close
        Open, and the end of the session or of the market is at most the exit minutes away.
    market_open
        The market is open; a daily pause counts as open.
    next_change_ms
        Next close if open, next opening if closed; epoch ms.
    """

    open: bool
    near_close: bool
    market_open: bool
    next_change_ms: int


def sessions_of(instrument: str) -> tuple[str, ...]:
    """Return the sessions of a pair such as ``EUR_USD``, sorted."""
    names: set[str] = set()
    for currency in instrument.split("_"):
        names.update(CURRENCY_SESSIONS.get(currency, OTHER_CURRENCY_SESSIONS))
    return tuple(sorted(names))


def session_state(
    calendar: Calendar, instrument: str, at_ms: int, exit_minutes: int
) -> SessionState:
    """Return the session state of ``instrument`` at ``at_ms`` (epoch ms UTC)."""
    sessions, sunday = _sessions_of(instrument), sunday_of(at_ms)
    opens = _around(calendar, sessions, sunday)
    place = bisect_right(opens, (at_ms, FUTURE)) - 1
    if place >= 0 and at_ms < opens[place][1]:
        end = opens[place][1]
        return SessionState(True, end - at_ms <= exit_minutes * MINUTE_MS, True, end)
    while place + 1 >= len(opens):
        sunday, place = sunday + WEEK, -1
        opens = _open_intervals(calendar, sessions, sunday)
    return SessionState(False, False, calendar.is_open(at_ms), opens[place + 1][0])


def session_intervals(
    calendar: Calendar, instrument: str, from_ms: int, to_ms: int
) -> list[Interval]:
    """Return when a pair is open, [open, close), in the weeks from ``from_ms`` to ``to_ms``.

    Ascending; the end of each is a close.
    """
    found: list[Interval] = []
    sunday = sunday_of(from_ms)
    while week_start_ms(sunday) <= to_ms:
        found += _open_intervals(calendar, _sessions_of(instrument), sunday)
        sunday += WEEK
    return found


class SessionStates(NamedTuple):
    """``SessionState`` at many instants, as arrays of one length."""

    open: NDArray[np.bool_]
    near_close: NDArray[np.bool_]
    market_open: NDArray[np.bool_]
    next_change_ms: NDArray[np.int64]


def session_states(
    calendar: Calendar, instrument: str, at_ms: NDArray[np.int64], exit_minutes: int
) -> SessionStates:
    """Return ``session_state`` at many instants, in any order.

    Parameters
    ----------
    at_ms
        Epoch ms UTC, [n].
    """
    if not len(at_ms):
        none = np.zeros(0, bool)
        return SessionStates(none, none, none, np.zeros(0, np.int64))
    first, last = int(at_ms.min()), int(at_ms.max())
    sessions, sunday = _sessions_of(instrument), sunday_of(first)
    opens = [*_around(calendar, sessions, sunday)]
    while not opens or opens[-1][0] <= last:
        sunday += WEEK
        opens += _open_intervals(calendar, sessions, sunday)
    place, is_open = _inside(opens, at_ms)
    starts, ends = np.array(opens, np.int64).T
    end = ends[place]
    near = is_open & (end - at_ms <= exit_minutes * MINUTE_MS)
    change = np.where(is_open, end, starts[np.minimum(place + 1, len(starts) - 1)])
    return SessionStates(is_open, near, _market_open(calendar, at_ms, first, last), change)


def _market_open(
    calendar: Calendar, at_ms: NDArray[np.int64], first: int, last: int
) -> NDArray[np.bool_]:
    if calendar.continuous:
        return np.ones(len(at_ms), bool)
    parts: list[Interval] = []
    sunday = sunday_of(first)
    while week_start_ms(sunday) <= last:
        parts += calendar.open_parts(sunday)
        sunday += WEEK
    return _inside(parts, at_ms)[1] if parts else np.zeros(len(at_ms), bool)


def _inside(
    intervals: list[Interval], at_ms: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the last interval started at each instant (-1: none), and whether it contains it."""
    starts, ends = np.array(intervals, np.int64).T
    place = np.searchsorted(starts, at_ms, "right") - 1
    return place, (place >= 0) & (at_ms < ends[place])


@cache
def _sessions_of(instrument: str) -> tuple[str, ...]:
    return sessions_of(instrument)


@lru_cache(maxsize=4096)
def _around(calendar: Calendar, sessions: tuple[str, ...], sunday: date) -> tuple[Interval, ...]:
    """Return the intervals of a week and the one before, whose last session may extend into it."""
    before = _open_intervals(calendar, sessions, sunday - WEEK) if calendar.continuous else ()
    return before + _open_intervals(calendar, sessions, sunday)


@lru_cache(maxsize=4096)
def _open_intervals(
    calendar: Calendar, sessions: tuple[str, ...], sunday: date
) -> tuple[Interval, ...]:
    """Return the open sessions in the market hours of a week, or (continuous) starting in it."""
    days = [sunday + timedelta(days=each) for each in range(-2, WEEK_DAYS + 2)]
    hours = [HOURS[name] for name in sessions]
    found = union(
        (utc_ms(place, day, time(start)), utc_ms(place, day, time(end)))
        for place, start, end in hours
        for day in days
    )
    if not calendar.continuous:
        return common(calendar.open_parts(sunday), found)
    begins, ends = week_start_ms(sunday), week_start_ms(sunday + WEEK)
    return tuple(each for each in found if begins <= each[0] < ends)
