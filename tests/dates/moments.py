"""The dates of ``make dates``: each an instant, a time zone and a language."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

ENGLISH, GERMAN, FRENCH = "C.UTF-8", "de_DE.UTF-8", "fr_FR.UTF-8"
LATIN = "de_DE.ISO-8859-1"
AUCKLAND, NEW_YORK = "Pacific/Auckland", "America/New_York"


class Moment(NamedTuple):
    """When, where and in which language something is run.

    Attributes
    ----------
    name
        What makes the instant special.
    at
        ISO-8601, UTC; empty for now.
    zone
        Time zone of the machine.
    language
        Its locale; German and French write decimals with a comma.
    """

    name: str
    at: str
    zone: str
    language: str

    def offset_s(self) -> int:
        """Return how many seconds the instant is off the machine's clock."""
        if not self.at:
            return 0
        at = datetime.fromisoformat(self.at).replace(tzinfo=UTC)
        return round((at - datetime.now(UTC)).total_seconds())


# All lie in the past, because a statically linked program keeps the machine's clock.
MOMENTS = {
    "today": Moment("today", "", "UTC", ENGLISH),
    "friday": Moment("Friday, a minute before the close", "2026-01-16T21:58", NEW_YORK, GERMAN),
    "saturday": Moment("Saturday noon", "2026-01-17T12:00", AUCKLAND, GERMAN),
    "sunday": Moment("Sunday, an hour before it opens", "2026-01-18T21:00", "UTC", FRENCH),
    "opening": Moment("Sunday, just open", "2026-01-18T22:10", AUCKLAND, ENGLISH),
    "ny-spring": Moment("New York goes to summer time", "2026-03-08T06:58", NEW_YORK, ENGLISH),
    "ny-monday": Moment("first Monday of its summer time", "2026-03-09T12:00", NEW_YORK, GERMAN),
    "ny-autumn": Moment("New York goes to winter time", "2025-11-02T05:58", NEW_YORK, GERMAN),
    "ldn-spring": Moment("London goes to summer time", "2026-03-29T00:58", "Europe/London", GERMAN),
    "ldn-autumn": Moment("London goes to winter time", "2026-10-25T00:58", "Europe/London", FRENCH),
    "christmas": Moment("25 December", "2025-12-25T12:00", AUCKLAND, GERMAN),
    "new-year": Moment("31 December to 1 January", "2025-12-31T23:58", AUCKLAND, FRENCH),
    "january": Moment("1 January", "2026-01-01T12:00", NEW_YORK, LATIN),
    "leap-day": Moment("29 February", "2024-02-29T23:57", NEW_YORK, GERMAN),
}

SHORT = ("saturday", "new-year")
"""What every change is tried at, besides today."""
