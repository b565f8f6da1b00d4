"""The broker's clock: real time, faster or slower, or moved by hand."""

from __future__ import annotations

import time

NS = 1_000_000_000


class BrokerClock:
    """An instant that moves.

    Parameters
    ----------
    start_ns
        Instant at which it starts; None: now.
    speed
        Seconds of the broker per second of the machine; 0: it moves only by ``advance``.
    """

    def __init__(self, start_ns: int | None = None, speed: float = 1.0) -> None:
        self._base = time.time_ns() if start_ns is None else start_ns
        self._since = time.monotonic_ns()
        self._follows_wall = start_ns is None and speed == 1.0
        self._ahead = 0
        self._last = 0
        self.speed = speed

    def now_ns(self) -> int:
        """Return the instant; it never goes back."""
        if self._follows_wall:
            now = time.time_ns() + self._ahead
        else:
            passed = time.monotonic_ns() - self._since
            now = self._base + int(passed * self.speed)
        self._last = max(self._last, now)
        return self._last

    def advance(self, ns: int) -> int:
        """Move it forward at once; return the new instant."""
        if ns < 0:
            raise ValueError("the clock does not go back")
        self._base += ns
        self._ahead += ns
        return self.now_ns()

    def set_speed(self, speed: float) -> None:
        """Go on from here at another speed."""
        now = self.now_ns()
        self._follows_wall = False
        self._base, self._since, self.speed = now, time.monotonic_ns(), speed
