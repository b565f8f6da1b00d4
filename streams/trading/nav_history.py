"""The net asset value of an account over the last week: one value an hour, without transfers."""

from __future__ import annotations

import math
from collections import deque
from typing import Final, NamedTuple

HOUR_MS: Final = 3_600_000
WEEK_MS: Final = 7 * 24 * HOUR_MS


class NavPoint(NamedTuple):
    """A net asset value as it was recorded; ``amount`` was moved into the account with it."""

    at_ms: int
    nav: float
    amount: float | None = None


class NavHistory:
    """The last value of every hour, back to the last one that is a week old.

    Deposits and withdrawals are neither gain nor loss: they change the scale of what was before.
    """

    def __init__(self) -> None:
        self._points: deque[tuple[int, float]] = deque()

    def observe(self, at_ms: int, nav: float) -> None:
        """Take in a net asset value; one that is no number, or older than the last, is no news."""
        points = self._points
        if not math.isfinite(nav) or (points and at_ms < points[-1][0]):
            return
        if points and points[-1][0] // HOUR_MS == at_ms // HOUR_MS:
            points.pop()
        points.append((at_ms, nav))
        while len(points) > 1 and points[1][0] <= at_ms - WEEK_MS:
            points.popleft()

    def transferred(self, before: float, after: float) -> None:
        """Take in a deposit or a withdrawal that took the net asset value from one to the other.

        An account that was empty begins anew.
        """
        if before <= 0.0 or after < 0.0:
            self._points.clear()
            return
        self._points = deque((at_ms, nav * after / before) for at_ms, nav in self._points)

    def recall(self, points: list[NavPoint]) -> None:
        """Take in what was recorded, in any order."""
        for at_ms, nav, amount in sorted(points, key=lambda p: (p.at_ms, p.amount is None)):
            if amount is not None:
                self.transferred(nav - amount, nav)
            self.observe(at_ms, nav)

    def change(self) -> float | None:
        """Return the change over a week, as a fraction of the value then.

        None while nothing is known that is a week old.
        """
        if not self._points:
            return None
        now_ms, now = self._points[-1]
        first_ms, first = self._points[0]
        if first_ms > now_ms - WEEK_MS or first <= 0.0:
            return None
        return now / first - 1.0
