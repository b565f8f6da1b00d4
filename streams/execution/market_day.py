"""The market day (17:00 New York), and the worth of the account over it and over all time."""

from __future__ import annotations

import math
from datetime import UTC, datetime, time, timedelta

from streams.stages.zones import zone

DAY_BEGINS = time(17)


def day_start_ms(at_ms: int) -> int:
    """Return the last 17:00 New York that is not after ``at_ms`` (both epoch ms)."""
    place = zone("America/New_York")
    local = datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(place)
    day = local.date() if local.time() >= DAY_BEGINS else local.date() - timedelta(days=1)
    return int(datetime.combine(day, DAY_BEGINS, place).timestamp()) * 1000


class Worth:
    """The net asset value as it was observed; what the loss limits compare with.

    The value at a day's start is the last one observed before it, else the first one in it.
    """

    def __init__(self) -> None:
        self._day_ms: int | None = None
        self._last_ms = -1
        self.now: float | None = None
        self.at_day_start: float | None = None
        self.peak: float | None = None

    def observe(self, at_ms: int, nav: float) -> None:
        """Take in a net asset value; one that is no number, or older than the last, is no news."""
        if not math.isfinite(nav) or at_ms < self._last_ms:
            return
        day_ms = day_start_ms(at_ms)
        if self._day_ms != day_ms:
            self.at_day_start = nav if self.now is None else self.now
            self._day_ms = day_ms
        self._last_ms, self.now = at_ms, nav
        self.peak = nav if self.peak is None else max(self.peak, nav)

    def daily_loss(self, at_ms: int) -> float | None:
        """Return the loss since the day began, as a fraction of the value then; None if unknown."""
        if self.now is None or self.at_day_start is None or self._day_ms != day_start_ms(at_ms):
            return None
        return _fall(self.at_day_start, self.now)

    def drawdown(self) -> float | None:
        """Return the fall from the highest value, as a fraction of it; None if unknown."""
        return None if self.now is None or self.peak is None else _fall(self.peak, self.now)


def _fall(before: float, now: float) -> float | None:
    return max(0.0, (before - now) / before) if before > 0.0 else None
