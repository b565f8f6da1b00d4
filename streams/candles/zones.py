"""Time zones from the pinned ``tzdata`` package, independent of the system's."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import cache, lru_cache
from importlib import resources
from zoneinfo import ZoneInfo

NEW_YORK = "America/New_York"
AUCKLAND = "Pacific/Auckland"
WEEK_DAYS = 7


@cache
def zone(name: str) -> ZoneInfo:
    """Return a time zone from the ``tzdata`` package."""
    place = resources.files("tzdata.zoneinfo").joinpath(*name.split("/"))
    with place.open("rb") as rules:
        return ZoneInfo.from_file(rules, key=name)


def utc_ms(place: str, on: date, at: time) -> int:
    """Convert a local time to epoch ms UTC.

    Parameters
    ----------
    place
        IANA name of the time zone.
    """
    return int(datetime.combine(on, at, zone(place)).timestamp()) * 1000


def sunday_of(at_ms: int) -> date:
    """Return the last Sunday (New York) at or before ``at_ms`` (epoch ms UTC)."""
    return _sunday_of_hour(at_ms // 3_600_000)


@lru_cache(maxsize=4096)
def _sunday_of_hour(hour: int) -> date:
    # midnight in New York is a full hour in UTC
    local = datetime.fromtimestamp(hour * 3600, UTC).astimezone(zone(NEW_YORK))
    return local.date() - timedelta(days=(local.weekday() + 1) % WEEK_DAYS)
