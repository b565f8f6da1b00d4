"""A monotonic clock, unaffected by changes of the wall clock."""

from __future__ import annotations

import time


def steady_ms() -> int:
    """Return milliseconds since boot, including time in suspend.

    It runs at the rate of the wall clock and is never set. Its zero point has no meaning.
    """
    # CLOCK_MONOTONIC stops while a machine is suspended
    kind = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime_ns(kind) // 1_000_000


def wall_less_steady_ms() -> int:
    """Return wall clock minus steady clock, ms; it changes when the wall clock is set."""
    return time.time_ns() // 1_000_000 - steady_ms()
