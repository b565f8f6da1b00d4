"""Restarts a process that ended, with back-off, until it is told to stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from streams.errors import Fatal
from streams.process.child import Child
from streams.process.pausing import BackOff

BACK_OFF_S = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
STEADY_S = 60.0
"""After this long without ending a process counts as steady: the back-off begins anew."""


class Supervised:
    """A child and the rule by which it comes back.

    A process that ends because its input or settings are wrong (exit code 2) would end so again:
    it is not restarted.

    Parameters
    ----------
    child
        What is run.
    once
        A process that has done its work when it ends with code 0.
    done_codes
        Further codes with which it has done its work.
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
        """Whether it has done its work."""
        return self.child.returncode in self._done_codes

    @property
    def failed(self) -> bool:
        """Whether it ended in a way that a restart would not cure."""
        return self.child.returncode == Fatal.exit_code and not self.done

    @property
    def state(self) -> str:
        """One phrase for people."""
        if self.child.running:
            return "running"
        if self.done:
            return "done"
        why = f" ({self.child.last_words(1)})" if self.child.returncode is not None else ""
        if self._due_at is not None:
            left_s = max(0.0, self._due_at - self._clock())
            return f"ended with code {self.child.returncode}; restart in {left_s:.0f} s{why}"
        return f"ended with code {self.child.returncode}{why}"

    def poll(self) -> None:
        """Notice that the process ended; start it again when that is due."""
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
        """Do not start it again by itself."""
        self._due_at = None

    def stop(self) -> int | None:
        """End the process and do not start it again."""
        self.forget()
        return self.child.stop()
