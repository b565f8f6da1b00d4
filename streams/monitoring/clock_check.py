"""Compares this machine's clock with the servers' when a command starts, and while it runs.

A wrong clock cannot change a result: results depend on event time only. But it decides when bars
are written, the timestamps of operator commands, up to when files are read, and the ages shown. So
every command that reads the clock compares it: one that writes by it refuses, the others warn and
continue.
"""

from __future__ import annotations

import asyncio
import sys

from streams.config.runtime import Runtime
from streams.errors import Recoverable
from streams.monitoring.server_clocks import measure
from streams.process.clock_skew import KAFKA, SECOND_MS, length, now_ms, refusal, wrong_clock
from streams.process.steady_clock import wall_less_steady_ms


def require_clock(runtime: Runtime, *, by_log: bool = False) -> None:
    """Refuse to continue with a wrong clock.

    Parameters
    ----------
    runtime
        The deployment whose servers are queried.
    by_log
        As in ``refusal``.

    Raises
    ------
    Recoverable
        It is more than ``MAX_SKEW_MS`` off; the message names the server, the offset and the fix.
    """
    said = refusal(asyncio.run(measure(runtime)), now_ms(), by_log=by_log)
    if said:
        raise Recoverable(f"refusing to write with a wrong clock: {said}")


def warn_of_clock(runtime: Runtime) -> None:
    """Print a warning to stderr when a clock is wrong; continue in any case."""
    said = wrong_clock(asyncio.run(measure(runtime)), now_ms())
    if said:
        print(f"manifold: warning: {said}", file=sys.stderr, flush=True)


class ClockGuard:
    """Detects that the wall clock was set while a process uses it.

    Parameters
    ----------
    runtime
        The deployment whose servers are queried then.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._offset_ms = wall_less_steady_ms()

    def require(self) -> None:
        """Compare again when the clock was set since the last time.

        Raises
        ------
        Recoverable
            It was set and is wrong now; nothing may be written with it.
        """
        offset_ms = wall_less_steady_ms()
        moved_ms = offset_ms - self._offset_ms
        if abs(moved_ms) <= SECOND_MS:
            return
        self._offset_ms = offset_ms
        said = refusal(asyncio.run(measure(self._runtime)), now_ms(), by_log=True)
        if said:
            way = "ahead" if moved_ms > 0 else "back"
            raise Recoverable(f"the clock was set {way} by {length(moved_ms)}: {said}")


def brokers_now_ms(runtime: Runtime) -> int:
    """Return the brokers' current time; this machine's if they do not report it."""
    ahead = [one.ahead_ms for one in asyncio.run(measure(runtime)) if one.server == KAFKA]
    return now_ms() - sum(ahead)
