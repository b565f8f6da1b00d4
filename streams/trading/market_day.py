"""The market day (from 17:00 New York), and the account's NAV over it and over all time."""

from __future__ import annotations

import math
from datetime import UTC, datetime, time, timedelta
from typing import NamedTuple

from streams.candles.zones import zone

DAY_BEGINS = time(17)


def trading_day_start_ms(at_ms: int) -> int:
    """Return the last 17:00 New York that is not after ``at_ms`` (both epoch ms)."""
    place = zone("America/New_York")
    local = datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(place)
    day = local.date() if local.time() >= DAY_BEGINS else local.date() - timedelta(days=1)
    return int(datetime.combine(day, DAY_BEGINS, place).timestamp()) * 1000


class Marks(NamedTuple):
    """Reference values of the loss limits: the highest NAV, the day, and the NAV at its start."""

    peak: float
    day_ms: int
    day_start: float


class Worth:
    """The observed NAV, and the reference values of the loss limits.

    The value at a day's start is the last one observed before it, else the first one in it.
    Deposits and withdrawals are neither gain nor loss: they rescale the earlier values.
    """

    def __init__(self) -> None:
        self._day_ms: int | None = None
        self._last_ms = -1
        self.now: float | None = None
        self.at_day_start: float | None = None
        self.peak: float | None = None

    @property
    def marks(self) -> Marks | None:
        """The reference values of the limits; None before the first observation."""
        if self.peak is None or self._day_ms is None or self.at_day_start is None:
            return None
        return Marks(self.peak, self._day_ms, self.at_day_start)

    def observe(self, at_ms: int, nav: float) -> None:
        """Add a NAV; one that is not a number, or older than the last, is ignored."""
        if not math.isfinite(nav) or at_ms < self._last_ms:
            return
        day_ms = trading_day_start_ms(at_ms)
        if self._day_ms != day_ms:
            self.at_day_start = nav if self.now is None else self.now
            self._day_ms = day_ms
        self._last_ms, self.now = at_ms, nav
        self.peak = nav if self.peak is None else max(self.peak, nav)

    def transferred(self, before: float, after: float) -> None:
        """Apply a deposit or withdrawal that changed the NAV from one value to the other.

        An account that was empty starts again.
        """

        def scaled(value: float | None) -> float | None:
            if value is None:
                return None
            return value * max(after, 0.0) / before if before > 0.0 else after

        self.now, self.peak = scaled(self.now), scaled(self.peak)
        self.at_day_start = scaled(self.at_day_start)

    def reset_peak(self) -> None:
        """Reset the drawdown: the highest NAV becomes the current one."""
        self.peak = self.now

    def restore(self, at_ms: int, nav: float, marks: Marks) -> None:
        """Restore the recorded state."""
        self._last_ms, self.now = at_ms, nav
        self.peak, self._day_ms, self.at_day_start = marks

    def daily_loss(self, at_ms: int) -> float | None:
        """Return the loss since the start of the day, as a fraction of the NAV then; None if
        unknown."""
        if (
            self.now is None
            or self.at_day_start is None
            or self._day_ms != trading_day_start_ms(at_ms)
        ):
            return None
        return _fall(self.at_day_start, self.now)

    def drawdown(self) -> float | None:
        """Return the drawdown from the highest NAV, as a fraction of it; None if unknown."""
        return None if self.now is None or self.peak is None else _fall(self.peak, self.now)


def _fall(before: float, now: float) -> float | None:
    return max(0.0, (before - now) / before) if before > 0.0 else None
