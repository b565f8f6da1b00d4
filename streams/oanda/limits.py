"""How often to ask, when to stop asking, and how long to wait before asking again. No I/O."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

CONNECTION_PAUSE_S = 0.5
"""OANDA allows two new connections a second."""
LONGEST_PAUSE_S = 30.0


class Pace:
    """Gives out the instants at which something may be done, a fixed distance apart.

    Parameters
    ----------
    distance_s
        Least time between two.
    burst
        How many may come at once after a rest.
    """

    def __init__(self, distance_s: float, burst: int = 1) -> None:
        self._distance_s, self._ahead_s = distance_s, distance_s * (burst - 1)
        self._next_at: float | None = None

    def wait_s(self, now: float) -> float:
        """Take the next free instant; return how long it is until then (monotonic seconds)."""
        free_at = self._free_at(now)
        self._next_at = free_at + self._distance_s
        return max(0.0, free_at - now)

    def left_s(self, now: float) -> float:
        """Return how long it is until the next free instant, and leave it."""
        return max(0.0, self._free_at(now) - now)

    def hold(self, until: float) -> None:
        """Give out nothing before ``until`` (monotonic seconds)."""
        self._next_at = max(self._next_at or until, until)

    def _free_at(self, now: float) -> float:
        rested_at = now - self._ahead_s
        return rested_at if self._next_at is None else max(self._next_at, rested_at)


class Breaker:
    """Stops asking after failures in a row; lets one request through to try again.

    Parameters
    ----------
    failures
        How many in a row open it.
    reset_s
        How long it stays open.
    """

    def __init__(self, failures: int, reset_s: float) -> None:
        self._limit, self._reset_s = failures, reset_s
        self._failures = 0
        self._opened_at: float | None = None

    @property
    def open(self) -> bool:
        """Whether nothing is sent, but for a trial."""
        return self._opened_at is not None

    def left_s(self, now: float) -> float:
        """Return how long nothing may be sent yet; 0 takes the trial if there is one to take."""
        if self._opened_at is None:
            return 0.0
        left = self._opened_at + self._reset_s - now
        if left > 0.0:
            return left
        self._opened_at = now  # the others wait for what this one finds
        return 0.0

    def succeeded(self) -> None:
        """Note an answer."""
        self._failures, self._opened_at = 0, None

    def failed(self, now: float) -> None:
        """Note a request without an answer."""
        self._failures += 1
        if self._failures >= self._limit:
            self._opened_at = now


def pause_s(base: float, attempt: int, asked_s: float | None = None) -> float:
    """Return how long to wait before attempt ``attempt`` (1 is the first repetition).

    ``base ** attempt`` and up to a quarter more, so that many do not come back at once
    (docs/spec/trading-loop.md 5.5); never less than what the other side asked for.

    Parameters
    ----------
    base
        OANDA_HTTP_BACKOFF.
    attempt
        How many attempts there were.
    asked_s
        What the other side asked to wait.
    """
    own = min(base ** min(attempt, 20), LONGEST_PAUSE_S)
    own *= 1.0 + random.random() / 4
    return max(own, min(asked_s or 0.0, LONGEST_PAUSE_S))


def retry_after_s(value: str | None) -> float | None:
    """Return the seconds of a Retry-After header, None when it has none that can be read."""
    if value is None:
        return None
    if value.strip().isascii() and value.strip().isdigit():
        return float(value.strip())
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    aware = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (aware - datetime.now(UTC)).total_seconds())
