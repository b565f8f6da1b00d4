"""Ctrl-C kept away from what cannot take it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hold_interrupts() -> Iterator[None]:
    """Let SIGINT take effect when this ends; a process that is started inside never receives it.

    A terminal sends SIGINT to every process of its group. One that comes while the compiler of the
    core runs its helpers makes the compilation fail, and a ``KeyboardInterrupt`` that is raised
    where the compiler calls Python is lost.
    """
    held: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    # handlers run in the main thread; the others that are in use set a flag and raise nothing
    raises = (
        before is signal.default_int_handler
        and threading.current_thread() is threading.main_thread()
    )
    # what is blocked here stays blocked in a process that is started, from its first instant on
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    if raises:
        # another thread may receive the signal: the handler runs here all the same
        signal.signal(signal.SIGINT, lambda number, _: held.append(number))
    try:
        yield
    finally:
        if raises:
            signal.signal(signal.SIGINT, before)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if held:
            signal.raise_signal(signal.SIGINT)
