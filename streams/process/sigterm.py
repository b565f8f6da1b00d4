"""Handling of SIGTERM in long-running processes."""

from __future__ import annotations

import os
import signal
import sys


def exit_on_sigterm() -> None:
    """Exit with code 0 on SIGTERM, until the process installs its own handler.

    Start-up (compiling the core, connecting to the brokers) takes seconds. A supervisor that stops
    the process during start-up gets the same exit code as later; no work is in progress yet.
    """
    signal.signal(signal.SIGTERM, _leave)


def _leave(*_: object) -> None:
    # exit at once: an exception raised in a callback from the compiler is lost
    sys.stderr.flush()
    os._exit(0)


class SigtermFlag:
    """Records whether SIGTERM was received, and interrupts a wait with exit code 0.

    Attributes
    ----------
    received
        Check it in every iteration, because an exception raised in a handler can be lost.
    """

    def __init__(self) -> None:
        self.received = False
        signal.signal(signal.SIGTERM, self._take)

    def _take(self, *_: object) -> None:
        self.received = True
        sys.exit(0)
