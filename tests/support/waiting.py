"""Waiting for conditions: how long anything takes depends on the machine, not on the code."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_S = float(os.environ.get("MANIFOLD_TEST_PATIENCE_SEC", "300"))
"""Seconds after which a condition counts as never met: only a fault makes a test wait so long."""


def until(
    ready: Callable[[], T],
    otherwise: str | Callable[[], str] = "the condition was not met",
    every_s: float = 0.02,
) -> T:
    """Return what ``ready`` returns as soon as that is true.

    Parameters
    ----------
    ready
        Asked again and again.
    otherwise
        What the failure says.
    every_s
        Pause between two questions, in seconds.

    Raises
    ------
    AssertionError
        It was not true within ``PATIENCE_S``.
    """
    end = time.monotonic() + PATIENCE_S
    while not (found := ready()):
        if time.monotonic() > end:
            said = otherwise if isinstance(otherwise, str) else otherwise()
            raise AssertionError(f"not within {PATIENCE_S:.0f} s: {said}")
        time.sleep(every_s)
    return found
