"""Restart a process that ended, with back-off, until it is stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from streams.errors import Fatal
from streams.process.child import Child
from streams.process.pausing import BackOff

BACK_OFF_S = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
STEADY_S = 60.0
"""After running this long a process counts as stable: its back-off is reset."""


class Supervised:
    """A child process and its restart rule.

    A process that ends because of wrong input or settings (exit code 2) is not restarted, unless
    it was restarted before: the same settings have worked, so what it refuses may be passing, such
    as a port that another program has taken meanwhile.

    Parameters
    ----------
    child
        The child process.
    once
        Whether exit code 0 means that the work is done.
    done_codes
        Further exit codes that mean that the work is done.
    clock
        Monotonic seconds.
    """

    def __init__(
        self,
        child: Child,
        once: bool = False,
        clock: Callable[[], float] = time.monotonic,
        *,
        done_codes: Iterable[int] = (),
    ) -> None:
        self.child, self._clock = child, clock
        self._done_codes = frozenset(done_codes) | ({0} if once else set())
        self.restarts = 0
        self.started_at = 0.0
        self._back_off = BackOff(BACK_OFF_S)
        self._due_at: float | None = None

    def start(self) -> None:
        """Start the process."""
        self.child.start()
        self.started_at = self._clock()

    @property
    def done(self) -> bool:
        """Whether its work is done."""
        return self.child.returncode in self._done_codes

    @property
    def failed(self) -> bool:
        """Whether it ended with an error that a restart would not fix."""
        refused = self.child.returncode == Fatal.exit_code and not self.done
        return refused and not self.restarts

    @property
    def state(self) -> str:
        """The state as a short phrase."""
        if self.child.running:
            return "running"
        if self.done:
            return "done"
        why = f" ({self.child.last_output(1)})" if self.child.returncode is not None else ""
        if self._due_at is not None:
            left_s = max(0.0, self._due_at - self._clock())
            return f"ended with code {self.child.returncode}; restart in {left_s:.0f} s{why}"
        return f"ended with code {self.child.returncode}{why}"

    def poll(self) -> None:
        """Check whether the process has ended; restart it when due."""
        if self.child.running or self.done or self.failed:
            return
        now = self._clock()
        if self._due_at is None:
            if now - self.started_at > STEADY_S:
                self._back_off.reset()
            self._due_at = now + self._back_off.next_s()
        elif now >= self._due_at:
            self._due_at = None
            self.restarts += 1
            self.start()

    def forget(self) -> None:
        """Disable the automatic restart."""
        self._due_at = None

    def stop(self) -> int | None:
        """Stop the process without restarting it."""
        self.forget()
        return self.child.stop()
