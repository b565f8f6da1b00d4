"""Lists of half-open integer intervals [start, end), ascending and disjoint."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Interval = tuple[int, int]


def union(intervals: Iterable[Interval]) -> tuple[Interval, ...]:
    """Return the union of the intervals; adjacent intervals are merged."""
    found: list[Interval] = []
    for start, end in sorted(each for each in intervals if each[0] < each[1]):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return tuple(found)


def common(some: Sequence[Interval], others: Sequence[Interval]) -> tuple[Interval, ...]:
    """Return the intersection of two lists."""
    met = ((max(a, c), min(b, d)) for a, b in some for c, d in others)
    return union(met)


def without(some: Sequence[Interval], others: Sequence[Interval]) -> tuple[Interval, ...]:
    """Return the difference: the first list without the second."""
    left = list(some)
    for start, end in others:
        left = [
            piece
            for a, b in left
            for piece in ((a, min(b, start)), (max(a, end), b))
            if piece[0] < piece[1]
        ]
    return tuple(left)
