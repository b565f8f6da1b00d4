"""Worker processes of a command."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def kill_children_on_error() -> Iterator[None]:
    """Kill all child processes when the body raises."""
    try:
        yield
    except BaseException:
        for child in multiprocessing.active_children():
            child.kill()
        raise
