"""Open-market time: the clock by which something is old.

The market is open from Sunday 17:05 to Friday 16:59 New York, with a pause from 16:59 to 17:05 on
the days between (core-trading-loop.md 7.2). What was fresh when the market closed is as fresh when
it opens again, so ages are counted in open-market time.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import NamedTuple

from streams.stages.sessions import WEEK_CLOSE, WEEK_DAYS, WEEK_OPEN, Interval, week_of, zone

PLACE = "America/New_York"
DAY_MS = 86_400_000
LONGEST_MS = 400 * DAY_MS
TRADING_DAYS = 5


class Market(NamedTuple):
    """Whether prices are made at an instant.

    Attributes
    ----------
    open
        Inside the market week and outside the daily pause.
    next_change_ms
        When it closes if it is open, when it opens if it is closed; epoch ms.
    closed_for
        ``weekend``, ``daily pause``, or empty when it is open.
    """

    open: bool
    next_change_ms: int
    closed_for: str


def market_at(at_ms: int) -> Market:
    """Return the state of the market at ``at_ms`` (epoch ms UTC)."""
    week = week_of(at_ms)
    for opened, closed in _open_intervals(week):
        if at_ms < opened:
            return Market(False, opened, "weekend" if opened == week[0] else "daily pause")
        if at_ms < closed:
            return Market(True, closed, "")
    following = week_of(week[0] + WEEK_DAYS * DAY_MS)
    return Market(False, following[0], "weekend")


def open_ms_between(from_ms: int, to_ms: int) -> int:
    """Return how many milliseconds of ``[from_ms, to_ms)`` the market was open.

    Nothing further back than ``LONGEST_MS`` is counted; 0 when ``from_ms`` is not before ``to_ms``.
    """
    total, start = 0, max(from_ms, to_ms - LONGEST_MS)
    while start < to_ms:
        week = week_of(start)
        following = week_of(week[0] + WEEK_DAYS * DAY_MS)[0]
        if start <= week[0] and to_ms >= following:
            total += _open_ms_of_week(week)
        else:
            total += sum(
                max(0, min(closed, to_ms) - max(opened, start))
                for opened, closed in _open_intervals(week)
            )
        start = max(following, start + 1)
    return total


@lru_cache(maxsize=512)
def _open_ms_of_week(week: Interval) -> int:
    return sum(closed - opened for opened, closed in _open_intervals(week))


@lru_cache(maxsize=512)
def _open_intervals(week: Interval) -> tuple[Interval, ...]:
    sunday = datetime.fromtimestamp(week[0] / 1000, UTC).astimezone(zone(PLACE)).date()
    return tuple(
        (
            _utc_ms(sunday + timedelta(days=day), WEEK_OPEN),
            _utc_ms(sunday + timedelta(days=day + 1), WEEK_CLOSE),
        )
        for day in range(TRADING_DAYS)
    )


def _utc_ms(on: date, at: time) -> int:
    return int(datetime.combine(on, at, zone(PLACE)).timestamp()) * 1000
