"""The last minutes before the end of the market week: positions are closed, none is opened."""

from __future__ import annotations

from streams.candles.calendar import Calendar
from streams.candles.zones import sunday_of
from streams.instants import clock as instant_text

MINUTE_MS = 60_000


def week_end_ms(calendar: Calendar, at_ms: int) -> int | None:
    """Return the last market close in the week of ``at_ms``; None without one."""
    if calendar.continuous:
        return None
    parts = calendar.open_parts(sunday_of(at_ms))
    return parts[-1][1] if parts else None


def why_week_end(calendar: Calendar, at_ms: int, minutes: int) -> str:
    """Return the reason to close all positions; empty outside the last minutes of a week.

    Parameters
    ----------
    at_ms
        The venue's time.
    minutes
        WEEKEND_REDUCE_MINUTES; 0 for never.
    """
    end_ms = week_end_ms(calendar, at_ms)
    if end_ms is None or not 0 < end_ms - at_ms <= minutes * MINUTE_MS:
        return ""
    return f"the market week ends at {instant_text(end_ms)} UTC, WEEKEND_REDUCE_MINUTES {minutes}"
