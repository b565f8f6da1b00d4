"""What a row of the table is, and how figures are summed up: the same for every part and peer."""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

Row = dict[str, Any]
ROUNDS = 3


def row(
    key: str,
    name: str,
    value: float | None,
    unit: str,
    measure: str,
    *,
    ratios: Mapping[str, float] | None = None,
    note: str = "",
) -> Row:
    """Return a row of the table.

    Parameters
    ----------
    key
        ``<part>.<figure>``: what the table of docs/performance.md asks for.
    name, unit
        What is measured, and in what.
    value
        The figure; None for what could not be measured (``note`` says why).
    measure
        What is divided by what, or from when to when; how many times, and which of them is taken.
    ratios
        Peer -> our rate / its rate (above 1: ours is faster), both of the same work on the same
        cores in the same run.
    note
        What a peer does and does not do; sizes; targets.
    """
    return {
        "key": key,
        "name": name,
        "value": value,
        "unit": unit,
        "measure": measure,
        "ratios": dict(ratios or {}),
        "note": note,
    }


def median_seconds(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Return the median wall time of some runs, the same number for ours and for every peer."""
    took = []
    for _ in range(rounds):
        begun = time.perf_counter()
        work()
        took.append(time.perf_counter() - begun)
    return statistics.median(took)


def at_rank(values: Sequence[float], share: float) -> float:
    """Return the nearest-rank quantile: the least value that ``share`` of all do not exceed."""
    return sorted(values)[max(0, math.ceil(len(values) * share) - 1)]


@contextmanager
def one_core() -> Iterator[None]:
    """Keep this process, and what is started inside, on one core."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
