"""Processes that a command starts for a share of its work."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ended_with_this() -> Iterator[None]:
    """End every process of ours when what is inside ends before its time."""
    try:
        yield
    except BaseException:
        for child in multiprocessing.active_children():
            child.kill()
        raise
