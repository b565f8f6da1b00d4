"""The NAV of an account over the last week: one value an hour, adjusted for transfers."""

from __future__ import annotations

import math
from collections import deque
from typing import Final, NamedTuple

HOUR_MS: Final = 3_600_000
WEEK_MS: Final = 7 * 24 * HOUR_MS


class NavPoint(NamedTuple):
    """A recorded NAV; ``amount`` was moved into the account with it."""

    at_ms: int
    nav: float
    amount: float | None = None


class NavHistory:
    """The last NAV of every hour, back to the last one that is a week old.

    Deposits and withdrawals are neither gain nor loss: they rescale the earlier values.
    """

    def __init__(self) -> None:
        self._points: deque[tuple[int, float]] = deque()

    def observe(self, at_ms: int, nav: float) -> None:
        """Add a NAV; one that is not a number, or older than the last, is ignored."""
        points = self._points
        if not math.isfinite(nav) or (points and at_ms < points[-1][0]):
            return
        if points and points[-1][0] // HOUR_MS == at_ms // HOUR_MS:
            points.pop()
        points.append((at_ms, nav))
        while len(points) > 1 and points[1][0] <= at_ms - WEEK_MS:
            points.popleft()

    def transferred(self, before: float, after: float) -> None:
        """Apply a deposit or withdrawal that changed the NAV from one value to the other.

        An account that was empty starts again.
        """
        if before <= 0.0 or after < 0.0:
            self._points.clear()
            return
        self._points = deque((at_ms, nav * after / before) for at_ms, nav in self._points)

    def recall(self, points: list[NavPoint]) -> None:
        """Add the recorded values, in any order."""
        for at_ms, nav, amount in sorted(points, key=lambda p: (p.at_ms, p.amount is None)):
            if amount is not None:
                self.transferred(nav - amount, nav)
            self.observe(at_ms, nav)

    def change(self) -> float | None:
        """Return the change over a week, as a fraction of the earlier value.

        None while there is no value that is a week old.
        """
        if not self._points:
            return None
        now_ms, now = self._points[-1]
        first_ms, first = self._points[0]
        if first_ms > now_ms - WEEK_MS or first <= 0.0:
            return None
        return now / first - 1.0
