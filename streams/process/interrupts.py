"""Delay Ctrl-C where an interrupt would do damage."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hold_interrupts() -> Iterator[None]:
    """Delay SIGINT until the body ends; child processes started inside never receive it.

    A terminal sends SIGINT to its whole process group. During compilation of the core it would make
    the compiler's child processes fail, and a ``KeyboardInterrupt`` raised in a callback from the
    compiler is lost.
    """
    held: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    # handlers run in the main thread; other handlers in use only set a flag
    raises = (
        before is signal.default_int_handler
        and threading.current_thread() is threading.main_thread()
    )
    # a child process inherits the blocked signals from its start
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    if raises:
        # another thread may receive the signal: the handler still runs in this thread
        signal.signal(signal.SIGINT, lambda number, _: held.append(number))
    try:
        yield
    finally:
        if raises:
            signal.signal(signal.SIGINT, before)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if held:
            signal.raise_signal(signal.SIGINT)
