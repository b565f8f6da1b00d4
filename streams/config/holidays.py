"""Days on which the FX market has special hours, in New York time.

The table is OANDA's: the session that would trade on Christmas Day and the one that would trade on
New Year's Day are left out, so the market closes at the usual 16:59 on 24 and 31 December and opens
at the usual 17:05 on 25 December and 1 January. OANDA publishes these hours as announcements of
each season, not as a fixed rule; this is what those of 2024/25 and 2025/26 have in common
("Holiday trading hours", https://www.oanda.com/uk-en/trading/holiday-trading-hours: 24 and 31
December 2025 "Forex: close at 16:59", 25 December 2025 and 1 January 2026 "Forex: open at 17:05").
``docs/calendar.md`` describes the sources.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import date
from functools import lru_cache
from typing import Final, NamedTuple

from streams.intervals import Interval, common, union

HOLIDAYS_VERSION: Final = "2026.1"
"""Incremented with every change of ``OANDA_HOURS``; part of the configuration."""
FIRST_HOLIDAYS_VERSION: Final = "2026.1"
"""Version assumed for a configuration written before versions existed."""

OANDA_HOURS: Final[Mapping[str, str]] = {
    "12-24": "00:00-16:59",
    "12-25": "17:05-24:00",
    "12-31": "00:00-16:59",
    "01-01": "17:05-24:00",
}
"""Day of every year -> hours in which the market is open, as MARKET_HOLIDAYS takes them."""

DAY_MINUTES: Final = 1440
MOST_DATES, MOST_YEARLY = 400, 30

_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]|24):([0-5]\d)", re.ASCII)
_EXAMPLE = '{"12-25": "closed", "2026-12-24": "00:00-13:00"}'


class SpecialHours(NamedTuple):
    """Dates with special market hours.

    Attributes
    ----------
    dates
        Date (New York) -> open intervals, in minutes from midnight.
    yearly
        (month, day) -> open intervals of every year; an entry in ``dates`` takes precedence.
    """

    dates: Mapping[date, tuple[Interval, ...]]
    yearly: Mapping[tuple[int, int], tuple[Interval, ...]]

    def on(self, day: date) -> tuple[Interval, ...] | None:
        """Return the special hours of a date, None when it has the regular hours."""
        found = self.dates.get(day)
        return self.yearly.get((day.month, day.day)) if found is None else found


@lru_cache(maxsize=64)
def special_hours(holidays: str) -> SpecialHours:
    """Parse a value of MARKET_HOLIDAYS.

    Parameters
    ----------
    holidays
        ``oanda``, ``none``, or a JSON object: date (``2026-12-24``, or ``12-24`` for every year) ->
        ``closed``, or open hours ``HH:MM-HH:MM`` of that date (several with commas, to 24:00 at
        the latest), New York time. Outside the market week the market stays closed.

    Raises
    ------
    ValueError
        The value has none of these forms; the message says what is wrong.
    """
    if holidays == "none":
        return SpecialHours({}, {})
    given = OANDA_HOURS if holidays == "oanda" else _object(holidays)
    dates: dict[date, tuple[Interval, ...]] = {}
    yearly: dict[tuple[int, int], tuple[Interval, ...]] = {}
    for name, hours in given.items():
        day = _day(name)
        if isinstance(day, date):
            dates[day] = _hours(name, hours)
        else:
            yearly[day] = _hours(name, hours)
    if len(dates) > MOST_DATES or len(yearly) > MOST_YEARLY:
        raise ValueError(
            f"at most {MOST_DATES} dates and {MOST_YEARLY} days of every year, not "
            f"{len(dates)} and {len(yearly)}"
        )
    return SpecialHours(dates, yearly)


def _object(text: str) -> Mapping[str, object]:
    try:
        # read as pairs: a dict would drop a repeated date silently
        pairs = json.loads(text, object_pairs_hook=list) if text.lstrip().startswith("{") else None
    except (ValueError, RecursionError):
        pairs = None
    if pairs is None:
        raise ValueError(f"{text[:40]!r} is neither oanda nor none nor JSON such as {_EXAMPLE}")
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a date stands there twice")
    return found


def _day(name: str) -> date | tuple[int, int]:
    try:
        if re.fullmatch(r"\d\d-\d\d", name, re.ASCII):
            # a leap year, so that 02-29 is accepted
            day = date.fromisoformat(f"2000-{name}")
            return day.month, day.day
        if re.fullmatch(r"\d{4}-\d\d-\d\d", name, re.ASCII):
            return date.fromisoformat(name)
    except ValueError:
        pass
    raise ValueError(f"{name!r} is no date; write 2026-12-24, or 12-24 for every year")


def _hours(name: str, hours: object) -> tuple[Interval, ...]:
    if hours == "closed":
        return ()
    found: list[Interval] = []
    for part in hours.split(",") if isinstance(hours, str) else ():
        match = _HOURS.fullmatch(part.strip())
        if match is None:
            found.clear()
            break
        h1, m1, h2, m2 = map(int, match.groups())
        found.append((60 * h1 + m1, 60 * h2 + m2))
    whole = common(found, [(0, DAY_MINUTES)])
    if not found or union(found) != whole or any(start >= end for start, end in found):
        raise ValueError(f"the hours of {name} are {hours!r}; write closed, or 00:00-16:59")
    return whole
