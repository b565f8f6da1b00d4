"""Detect a wrong bar length from the distances between bar starts.

A quiet market has missing bars, so a distance may be any multiple of the length. With randomly
missing bars the same multiple does not repeat for long. The required run has a probability of at
most ``CHANCE`` in a series of that many bars, whatever the share of missing bars.
"""

from __future__ import annotations

from math import ceil, log
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.instants import GRANULARITY_MS, HOUR_MS

CHANCE = 1e-9
LEAST_SHORT = 3
"""Number of overlapping bars from which the bar length counts as wrong."""
LEAST_RUN = 4
"""Number of consecutive equal distances that are not a multiple of the length."""
_BY_LENGTH = {length: name for name, length in GRANULARITY_MS.items()}


class Spacing(NamedTuple):
    """Bars of another length: their distance and the start of the first, both ms."""

    distance_ms: int
    from_ms: int


def other_spacing(bars: NDArray[np.int64], length_ms: int) -> Spacing | None:
    """Return the distance of bars that do not have the given length, None when all may have it.

    Parameters
    ----------
    bars
        Distinct starts, epoch ms, ascending.
    length_ms
        Expected bar length, ms.
    """
    steps = np.diff(bars)
    short = np.flatnonzero(
        steps < length_ms - HOUR_MS
    )  # up to an hour shorter: a clock change inside a bar
    if len(short) >= LEAST_SHORT:
        return Spacing(_mode(steps[short]), int(bars[short[0]]))
    # shorter bars are on the grid of their length or are refused one by one; of hours any is
    uneven = uneven_spacing(bars, length_ms) if length_ms > HOUR_MS else None
    if uneven is not None:
        return uneven
    usual = np.flatnonzero(steps == length_ms)
    ends = np.concatenate(([-1], usual, [len(steps)]))
    least = _needed(len(bars), 1 / (length_ms + 1))
    for place in np.flatnonzero(np.diff(ends) > least).tolist():
        first, last = int(ends[place]) + 1, int(ends[place + 1])
        found = _kept_to(bars[first : last + 1], steps[first:last], length_ms, len(bars))
        if found is not None:
            return found
    return None


def uneven_spacing(bars: NDArray[np.int64], length_ms: int) -> Spacing | None:
    """Return a repeated distance that is not a multiple of the length.

    Parameters
    ----------
    bars
        Distinct starts, ascending, including times that are not the start of a bar of this length.
    length_ms
        Expected bar length, ms.
    """
    steps = np.diff(bars)
    same = (steps[1:] == steps[:-1]) & (steps[1:] % length_ms != 0)
    start, count = _longest(same)
    if count < LEAST_RUN:
        return None
    return Spacing(int(steps[start]), int(bars[start]))


def spacing_words(distance_ms: int) -> str:
    """Format a distance as a bar length, or in seconds."""
    name = _BY_LENGTH.get(distance_ms)
    seconds = f"{distance_ms / 1000:g} s"
    return f"{seconds} ({name})" if name else seconds


def _kept_to(
    bars: NDArray[np.int64], steps: NDArray[np.int64], length_ms: int, count: int
) -> Spacing | None:
    mode = _mode(steps)
    times = mode // length_ms
    if times < 2 or mode % length_ms:
        return None
    phase = bars % mode
    start, run = _longest(phase[1:] == phase[:-1])
    if run >= _needed(count, 1 / times):
        return Spacing(mode, int(bars[start]))
    start, run = _longest(steps == mode)
    if run >= _needed(count, (1 / times) * (1 - 1 / times) ** (times - 1)):
        return Spacing(mode, int(bars[start]))
    return None


def _needed(count: int, chance: float) -> int:
    """Return the run length that is too improbable for this number of bars and probability."""
    return ceil((log(max(count, 1)) - log(CHANCE)) / -log(chance))


def _mode(steps: NDArray[np.int64]) -> int:
    values, counts = np.unique(steps, return_counts=True)
    return int(values[np.argmax(counts)])


def _longest(flags: NDArray[np.bool_]) -> tuple[int, int]:
    """Return start and length of the longest run of true flags."""
    if not flags.any():
        return 0, 0
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(np.int8)))
    starts, ends = edges[::2], edges[1::2]
    at = int(np.argmax(ends - starts))
    return int(starts[at]), int(ends[at] - starts[at])
