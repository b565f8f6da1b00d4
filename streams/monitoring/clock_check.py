"""Comparing this machine's clock where a command starts, and while it runs.

A clock that is wrong cannot change a result: results go by the time of events. But bars are written
when they are due, records carry the time at which a person spoke, files are read up to now, and
ages are told. So every command that reads the clock compares it: one that writes by it refuses,
the others say it and go on.
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
    """Refuse to go on by a clock that is wrong.

    Parameters
    ----------
    runtime
        Whose servers are asked.
    by_log
        As of ``refusal``.

    Raises
    ------
    Recoverable
        It is more than ``MAX_SKEW_MS`` off; says against what, by how much and what to do.
    """
    said = refusal(asyncio.run(measure(runtime)), now_ms(), by_log=by_log)
    if said:
        raise Recoverable(f"nothing is written by a wrong clock: {said}")


def warn_of_clock(runtime: Runtime) -> None:
    """Say on stderr when some clock is wrong; go on in any case."""
    said = wrong_clock(asyncio.run(measure(runtime)), now_ms())
    if said:
        print(f"manifold: warning: {said}", file=sys.stderr, flush=True)


class ClockGuard:
    """Notices that the wall clock was set while a process goes by it.

    Parameters
    ----------
    runtime
        Whose servers are asked then.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._offset_ms = wall_less_steady_ms()

    def require(self) -> None:
        """Compare again when the clock was set since the last time.

        Raises
        ------
        Recoverable
            It was set, and is wrong now; nothing may be written by it.
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
    """Return the brokers' time now; ours where they do not tell."""
    ahead = [one.ahead_ms for one in asyncio.run(measure(runtime)) if one.server == KAFKA]
    return now_ms() - sum(ahead)
