"""A clock that nobody sets: for what must not jump with the wall clock."""

from __future__ import annotations

import time


def steady_ms() -> int:
    """Return milliseconds since the machine was started, its sleep included.

    Seconds of it are as long as those of the wall clock, and it is never set. Its zero means
    nothing.
    """
    # CLOCK_MONOTONIC stands still while a machine sleeps
    kind = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime_ns(kind) // 1_000_000


def wall_less_steady_ms() -> int:
    """Return the wall clock less the steady one: it changes when the wall clock is set."""
    return time.time_ns() // 1_000_000 - steady_ms()
