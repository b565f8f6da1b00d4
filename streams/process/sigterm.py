"""What a process that goes on until it is told to stop does when it is told by SIGTERM."""

from __future__ import annotations

import os
import signal
import sys


def stop_when_told() -> None:
    """Let SIGTERM end this process with code 0, until its own handler takes the signal over.

    Compiling the core and asking the brokers takes seconds. A supervisor that stops a process in
    them is to see the same code as later: nothing is in hand yet.
    """
    signal.signal(signal.SIGTERM, _leave)


def _leave(*_: object) -> None:
    # at once: an exception that comes up in a callback of the compiler is lost
    sys.stderr.flush()
    os._exit(0)


class Told:
    """Whether SIGTERM has come; when it does, whatever is waited for ends with code 0 as well.

    Attributes
    ----------
    come
        Asked at every turn of the work, because an exception in a handler can be lost.
    """

    def __init__(self) -> None:
        self.come = False
        signal.signal(signal.SIGTERM, self._take)

    def _take(self, *_: object) -> None:
        self.come = True
        sys.exit(0)
