"""Open-market time, in which ages are measured.

It stops while no prices are quoted: at weekends, on holidays and in daily pauses
(``streams.candles.calendar``). A value that was fresh at the close is still fresh at the next
opening.
"""

from __future__ import annotations

from datetime import date
from functools import lru_cache
from typing import NamedTuple

from streams.candles.calendar import WEEK, Calendar, week_span, week_start_ms
from streams.candles.zones import sunday_of

DAY_MS = 86_400_000
LONGEST_MS = 400 * DAY_MS


class Market(NamedTuple):
    """State of the market at an instant.

    Attributes
    ----------
    open
        The market is open and not in a daily pause.
    next_change_ms
        Next close if open, next opening if closed; epoch ms. None: never.
    closed_for
        ``weekend``, ``holiday``, ``daily pause``, ``daily pause of NZD pairs``, or empty when open.
    """

    open: bool
    next_change_ms: int | None
    closed_for: str


def market_at(calendar: Calendar, at_ms: int, instrument: str = "") -> Market:
    """Return the state of the market at ``at_ms`` (epoch ms UTC).

    Parameters
    ----------
    instrument
        Instrument whose pauses count; by default only pauses of all pairs.
    """
    if calendar.continuous:
        return Market(True, None, "")
    nzd, sunday = _is_nzd(instrument), sunday_of(at_ms)
    while True:
        for opened, closed in calendar.trading_parts(sunday, nzd=nzd):
            if at_ms < opened:
                return Market(False, opened, _closed_for(calendar, at_ms))
            if at_ms < closed:
                return Market(True, closed, "")
        sunday += WEEK


def open_ms_between(calendar: Calendar, from_ms: int, to_ms: int, instrument: str = "") -> int:
    """Return the open-market time in ``[from_ms, to_ms)``, ms.

    At most the last ``LONGEST_MS`` are counted; 0 when ``from_ms`` is not before ``to_ms``.

    Parameters
    ----------
    instrument
        As in ``market_at``.
    """
    start = max(from_ms, to_ms - LONGEST_MS)
    if calendar.continuous or start >= to_ms:
        return max(0, to_ms - start)
    nzd, sunday, total = _is_nzd(instrument), sunday_of(start), 0
    while week_start_ms(sunday) < to_ms:
        if start <= week_start_ms(sunday) and week_start_ms(sunday + WEEK) <= to_ms:
            total += _open_ms_of_week(calendar, sunday, nzd)
        else:
            total += sum(
                max(0, min(closed, to_ms) - max(opened, start))
                for opened, closed in calendar.trading_parts(sunday, nzd=nzd)
            )
        sunday += WEEK
    return total


def _is_nzd(instrument: str) -> bool:
    return "NZD" in instrument.split("_")


def _closed_for(calendar: Calendar, at_ms: int) -> str:
    sunday = sunday_of(at_ms)
    opened, closed = week_span(sunday)
    if not opened <= at_ms < closed:
        return "weekend"
    if not calendar.is_open(at_ms):
        return "holiday"
    common = calendar.trading_parts(sunday, nzd=False)
    in_all = any(start <= at_ms < end for start, end in common)
    return "daily pause of NZD pairs" if in_all else "daily pause"


@lru_cache(maxsize=1024)
def _open_ms_of_week(calendar: Calendar, sunday: date, nzd: bool) -> int:
    return sum(closed - opened for opened, closed in calendar.trading_parts(sunday, nzd=nzd))
