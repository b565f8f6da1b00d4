"""Rate limit, circuit breaker and retry pauses of requests. No I/O."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

CONNECTION_PAUSE_S = 0.5
"""OANDA allows two new connections per second."""
LONGEST_PAUSE_S = 30.0


class Pace:
    """Rate limiter: slots at a fixed interval, with a burst.

    Parameters
    ----------
    distance_s
        Minimum time between two slots, seconds.
    burst
        Number of slots available at once after an idle period.
    """

    def __init__(self, distance_s: float, burst: int = 1) -> None:
        self._distance_s, self._ahead_s = distance_s, distance_s * (burst - 1)
        self._next_at: float | None = None

    def wait_s(self, now: float) -> float:
        """Take the next free slot; return the time until then, seconds."""
        free_at = self._free_at(now)
        self._next_at = free_at + self._distance_s
        return max(0.0, free_at - now)

    def left_s(self, now: float) -> float:
        """Return the time until the next free slot without taking it, seconds."""
        return max(0.0, self._free_at(now) - now)

    def hold(self, until: float) -> None:
        """Give no slot before ``until`` (monotonic seconds)."""
        self._next_at = max(self._next_at or until, until)

    def _free_at(self, now: float) -> float:
        rested_at = now - self._ahead_s
        return rested_at if self._next_at is None else max(self._next_at, rested_at)


class Breaker:
    """Circuit breaker: opens after consecutive failures; then lets one trial request through.

    Parameters
    ----------
    failures
        Number of consecutive failures that open it.
    reset_s
        How long it stays open, seconds.
    """

    def __init__(self, failures: int, reset_s: float) -> None:
        self._limit, self._reset_s = failures, reset_s
        self._failures = 0
        self._opened_at: float | None = None

    @property
    def open(self) -> bool:
        """Whether requests are blocked, except a trial."""
        return self._opened_at is not None

    def left_s(self, now: float) -> float:
        """Return the time until a request may be sent, seconds; 0 takes the trial if one is due."""
        if self._opened_at is None:
            return 0.0
        left = self._opened_at + self._reset_s - now
        if left > 0.0:
            return left
        self._opened_at = now  # the others wait for the result of this one
        return 0.0

    def succeeded(self) -> None:
        """Record a response."""
        self._failures, self._opened_at = 0, None

    def failed(self, now: float) -> None:
        """Record a request without a response."""
        self._failures += 1
        if self._failures >= self._limit:
            self._opened_at = now


def pause_s(base: float, attempt: int, asked_s: float | None = None) -> float:
    """Return the pause before retry ``attempt`` (1 is the first retry), seconds.

    ``base ** attempt`` and up to a quarter more, so that clients do not retry at the same time
    (docs/spec/trading-loop.md 5.5); at least ``asked_s``.

    Parameters
    ----------
    base
        OANDA_HTTP_BACKOFF.
    attempt
        Number of attempts so far.
    asked_s
        Wait requested by the server, seconds.
    """
    own = min(base ** min(attempt, 20), LONGEST_PAUSE_S)
    own *= 1.0 + random.random() / 4
    return max(own, min(asked_s or 0.0, LONGEST_PAUSE_S))


def retry_after_s(value: str | None) -> float | None:
    """Return the seconds of a Retry-After header, None if missing or invalid."""
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
