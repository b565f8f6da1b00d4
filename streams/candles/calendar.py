"""The trading calendar, shared by gates, bars, feeds and the market clock.

``fx`` is the week of OANDA's FX products, Sunday 17:05 to Friday 16:59 New York, minus holidays
("Hours of operation", https://www.oanda.com/uk-en/trading/hours-of-operation/;
``docs/calendar.md``). ``continuous`` never closes; it is for the synthetic market. A calendar is
determined by MARKET_CALENDAR and MARKET_HOLIDAYS alone.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import date, time, timedelta
from functools import lru_cache
from typing import Final

from streams.candles.zones import AUCKLAND, NEW_YORK, WEEK_DAYS, sunday_of, utc_ms
from streams.config.holidays import DAY_MINUTES, SpecialHours, special_hours
from streams.config.settings import Config
from streams.intervals import Interval, common, union, without

WEEK_OPEN, WEEK_CLOSE = time(17, 5), time(16, 59)
NZD_PAUSE = (time(6, 59), time(7, 5))
"""Daily pause of OANDA's NZD pairs, six minutes, Auckland time."""
WEEK: Final = timedelta(days=WEEK_DAYS)
MARKET_DAYS: Final = 6
FUTURE: Final = 1 << 62


class Calendar:
    """Trading hours of a market.

    A week is Sunday to Saturday, New York time.

    Parameters
    ----------
    continuous
        Always open; special hours are ignored.
    special
        Days with special hours.
    """

    def __init__(self, *, continuous: bool, special: SpecialHours) -> None:
        self.continuous = continuous
        self._special = special
        self.open_parts = lru_cache(maxsize=1024)(self._open_parts)
        self.trading_parts = lru_cache(maxsize=1024)(self._trading_parts)

    def _open_parts(self, sunday: date) -> tuple[Interval, ...]:
        """Return the open intervals of a week, including daily pauses; epoch ms, ascending."""
        if self.continuous:
            return ((week_start_ms(sunday), week_start_ms(sunday + WEEK)),)
        week = (week_span(sunday),)
        days = [sunday + timedelta(days=each) for each in range(MARKET_DAYS)]
        if all(self._special.on(day) is None for day in days):
            return week
        hours = [(day, self._special.on(day)) for day in days]
        parts = [
            (_minute_ms(day, start), _minute_ms(day, end))
            for day, special in hours
            for start, end in (((0, DAY_MINUTES),) if special is None else special)
        ]
        return common(week, union(parts))

    def _trading_parts(self, sunday: date, *, nzd: bool) -> tuple[Interval, ...]:
        """Return the trading intervals of a week, without daily pauses; epoch ms, ascending.

        Parameters
        ----------
        nzd
            Whether to exclude the pause of NZD pairs.
        """
        if self.continuous:
            return self._open_parts(sunday)
        days = [sunday + timedelta(days=each) for each in range(WEEK_DAYS + 1)]
        pauses = [
            (utc_ms(NEW_YORK, day, WEEK_CLOSE), utc_ms(NEW_YORK, day, WEEK_OPEN)) for day in days
        ]
        if nzd:
            start, end = NZD_PAUSE
            pauses += [(utc_ms(AUCKLAND, day, start), utc_ms(AUCKLAND, day, end)) for day in days]
        return without(self._open_parts(sunday), pauses)

    def is_open(self, at_ms: int) -> bool:
        """Return whether the market is open at ``at_ms`` (epoch ms); daily pauses count as open."""
        if self.continuous:
            return True
        parts = self.open_parts(sunday_of(at_ms))
        place = bisect_right(parts, (at_ms, FUTURE)) - 1
        return place >= 0 and at_ms < parts[place][1]

    def missing_bars(self, before_ms: int, bar_ms: int, granularity_ms: int) -> int:
        """Return the number of bars in open hours between the starts of two candles, both excluded.

        A bar counts when the market is open at its start.
        """
        start = before_ms + granularity_ms
        if bar_ms <= start:
            return 0
        if self.continuous:
            return -(-(bar_ms - start) // granularity_ms)
        count, sunday = 0, sunday_of(start)
        while week_start_ms(sunday) < bar_ms:
            for opened, closed in self.open_parts(sunday):
                first = _bar_from(start, opened, granularity_ms)
                count += max(0, -(-(min(bar_ms, closed) - first) // granularity_ms))
            sunday += WEEK
        return count

    def first_bar_ms(self, bar_ms: int, length_ms: int) -> int:
        """Return the first bar at or after ``bar_ms`` at whose start the market is open.

        Parameters
        ----------
        bar_ms
            Start of a bar.
        length_ms
            Bar length.
        """
        if self.continuous:
            return bar_ms
        sunday = sunday_of(bar_ms)
        while True:
            for opened, closed in self.open_parts(sunday):
                first = _bar_from(bar_ms, opened, length_ms)
                if first < closed:
                    return first
            sunday += WEEK

    def start_of_last_bars_ms(self, now_ms: int, bars: int, length_ms: int) -> int:
        """Return the start of the first of the last ``bars`` completed bars in open hours."""
        bar_ms = now_ms - now_ms % length_ms - length_ms
        if self.continuous:
            return bar_ms - (bars - 1) * length_ms
        left, sunday = bars, sunday_of(bar_ms)
        while True:
            for opened, closed in reversed(self.open_parts(sunday)):
                last = min(bar_ms, closed - 1) // length_ms * length_ms
                first = -(-opened // length_ms) * length_ms
                there = max(0, (last - first) // length_ms + 1)
                if there >= left:
                    return last - (left - 1) * length_ms
                left -= there
            sunday -= WEEK

    def last_bar_end_ms(self, now_ms: int, length_ms: int) -> int:
        """Return the end of the last bar in open hours that ended by ``now_ms``."""
        return self.start_of_last_bars_ms(now_ms, 1, length_ms) + length_ms


def calendar_of(config: Config) -> Calendar:
    """Return the calendar of a configuration; cached by settings."""
    return _calendar(config.market_calendar, config.market_holidays)


@lru_cache(maxsize=64)
def _calendar(name: str, holidays: str) -> Calendar:
    return Calendar(continuous=name == "continuous", special=special_hours(holidays))


FX: Final = _calendar("fx", "oanda")
"""The calendar of the default settings."""


@lru_cache(maxsize=4096)
def week_span(sunday: date) -> Interval:
    """Return the market week of a Sunday [open, close), ignoring holidays; epoch ms."""
    friday = sunday + timedelta(days=5)
    return utc_ms(NEW_YORK, sunday, WEEK_OPEN), utc_ms(NEW_YORK, friday, WEEK_CLOSE)


@lru_cache(maxsize=4096)
def week_start_ms(sunday: date) -> int:
    """Return midnight (New York) of a Sunday; epoch ms."""
    return utc_ms(NEW_YORK, sunday, time())


def _minute_ms(day: date, minute: int) -> int:
    days, left = divmod(minute, DAY_MINUTES)
    return utc_ms(NEW_YORK, day + timedelta(days=days), time(left // 60, left % 60))


def _bar_from(bar_ms: int, from_ms: int, length_ms: int) -> int:
    """Return the first bar at or after both times, on the grid of ``bar_ms``."""
    return bar_ms + max(0, -(-(from_ms - bar_ms) // length_ms)) * length_ms
