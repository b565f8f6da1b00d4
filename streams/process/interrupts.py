"""Interrupts (Ctrl-C): delay them where they would do damage, deliver them where they are lost."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

AGAIN_S: Final = 0.05
"""Seconds after which a lost interrupt is delivered again."""


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


def redeliver_lost_interrupts() -> None:
    """Deliver SIGINT again when Python dropped its ``KeyboardInterrupt``.

    An exception raised in a finalizer (``__del__``, a garbage collector's callback) is printed and
    ignored; a command interrupted at that instant would go on to its end.
    """
    before = sys.unraisablehook

    def hook(lost: sys.UnraisableHookArgs) -> None:
        if lost.exc_type is not KeyboardInterrupt:
            before(lost)
            return
        # delayed: the finalizer has not ended yet; a signal to the thread also ends a wait
        main = threading.main_thread().ident
        again = threading.Timer(AGAIN_S, signal.pthread_kill, (main, signal.SIGINT))
        again.daemon = True
        again.start()

    sys.unraisablehook = hook
