"""Whether bars have the length that they are called by: from the distances between their starts.

A market that is quiet leaves bars out, so a distance may be any multiple of the length, and one bar
alone says nothing. But bars that come out of a series of one length at random do not keep to a
multiple of it for long. The run that is asked for has a chance of ``CHANCE`` at most in a series of
that many bars, whatever share of them is left out.
"""

from __future__ import annotations

from math import ceil, log
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.candles.rules import HOUR_MS
from streams.instants import GRANULARITY_MS

CHANCE = 1e-9
LEAST_SHORT = 3
"""Bars that overlap the one before, from which on they are not called by their length."""
LEAST_RUN = 4
"""Equal distances in a row that are no multiple of the length."""
_BY_LENGTH = {length: name for name, length in GRANULARITY_MS.items()}


class Spacing(NamedTuple):
    """Bars of another length: their distance, and the first of them (both ms)."""

    distance_ms: int
    from_ms: int


def other_spacing(bars: NDArray[np.int64], length_ms: int) -> Spacing | None:
    """Return the distance of bars that are not of the length, None when all may be.

    Parameters
    ----------
    bars
        Starts, epoch ms, ascending, each once.
    length_ms
        What the bars are said to be.
    """
    steps = np.diff(bars)
    short = np.flatnonzero(steps < length_ms - HOUR_MS)  # an hour: clocks change inside a bar
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
    """Return a distance that is kept to in a row and is no multiple of the length.

    Parameters
    ----------
    bars
        Ascending, each once, those that are no start of a bar of this length among them.
    length_ms
        What the bars are said to be.
    """
    steps = np.diff(bars)
    same = (steps[1:] == steps[:-1]) & (steps[1:] % length_ms != 0)
    start, count = _longest(same)
    if count < LEAST_RUN:
        return None
    return Spacing(int(steps[start]), int(bars[start]))


def spacing_words(distance_ms: int) -> str:
    """Return a distance as a bar length, or in seconds where there is none."""
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
    """Return how many in a row of so many bars are too many, each with this chance."""
    return ceil((log(max(count, 1)) - log(CHANCE)) / -log(chance))


def _mode(steps: NDArray[np.int64]) -> int:
    values, counts = np.unique(steps, return_counts=True)
    return int(values[np.argmax(counts)])


def _longest(flags: NDArray[np.bool_]) -> tuple[int, int]:
    """Return where the longest run of true flags begins, and its length."""
    if not flags.any():
        return 0, 0
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(np.int8)))
    starts, ends = edges[::2], edges[1::2]
    at = int(np.argmax(ends - starts))
    return int(starts[at]), int(ends[at] - starts[at])
