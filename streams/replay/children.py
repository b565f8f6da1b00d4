"""Processes that a command starts for a share of its work."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Let processes that are started inside never hear of Ctrl-C, which a terminal sends to all.

    It is the first process's business, which hears of it when this ends.
    """
    # what is blocked here stays blocked in a process that is started, from its first instant on
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def ended_with_this() -> Iterator[None]:
    """End every process of ours when what is inside ends before its time."""
    try:
        yield
    except BaseException:
        for child in multiprocessing.active_children():
            child.kill()
        raise
