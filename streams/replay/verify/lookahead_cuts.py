"""The times at which an input is cut: a fixed set, and seeded random times."""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from streams.candles.calendar import Calendar
from streams.candles.sessions import session_intervals
from streams.errors import Fatal

FIRST_WINDOW = 128
HOUR_MS = 3_600_000


class Cut(NamedTuple):
    """A cut time, and the reason for it."""

    at_ms: int
    why: str


def pick_cuts(
    ends_ms: Sequence[int],
    bar_ms: int,
    instruments: Sequence[str],
    calendar: Calendar,
    count: int,
    seed: int,
    wanted_ms: Sequence[int] = (),
) -> list[Cut]:
    """Return the cuts, ascending; deterministic.

    Parameters
    ----------
    ends_ms
        Ends of the bars, ascending, distinct.
    bar_ms
        Length of a bar.
    instruments, calendar
        The instruments whose session boundaries are used, and the calendar of their market.
    count
        Number of random cuts: one third each at ends of bars, one millisecond before an end, and
        inside a bar.
    seed
        Seed of the random cuts.
    wanted_ms
        Requested times, epoch ms.

    Raises
    ------
    Fatal
        There are fewer than two bars, or a requested time is outside them.
    """
    outside = [at for at in wanted_ms if not ends_ms or not ends_ms[0] <= at < ends_ms[-1]]
    if outside:
        raise Fatal(
            f"{len(outside)} of the times of --at are not between the end of the first bar and "
            "the end of the last: a cut there removes nothing"
        )
    if len(ends_ms) < 2:
        raise Fatal("there are fewer than two bars: nothing can be cut")
    draw = random.Random(seed)
    found = {cut.at_ms: cut for cut in _drawn(draw, ends_ms, bar_ms, count)}
    found |= {cut.at_ms: cut for cut in _chosen(ends_ms, bar_ms, instruments, calendar)}
    found |= {at_ms: Cut(at_ms, "asked for") for at_ms in wanted_ms}
    # a cut at the last bar's end would remove nothing
    return [found[at] for at in sorted(found) if ends_ms[0] <= at < ends_ms[-1]]


def _drawn(draw: random.Random, ends_ms: Sequence[int], bar_ms: int, count: int) -> Iterator[Cut]:
    for number in range(count):
        end_ms = ends_ms[draw.randrange(len(ends_ms) - 1)]
        inside = draw.randrange(1, bar_ms - 1)
        shift, why = (
            (0, "drawn: end of a bar"),
            (-1, "drawn: just before an end"),
            (inside, "drawn: inside a bar"),
        )[number % 3]
        yield Cut(end_ms + shift, why)


def _chosen(
    ends_ms: Sequence[int], bar_ms: int, instruments: Sequence[str], calendar: Calendar
) -> Iterator[Cut]:
    first, middle = min(FIRST_WINDOW, len(ends_ms) - 2), len(ends_ms) // 2
    yield Cut(ends_ms[0], "end of the first bar")
    yield Cut(ends_ms[first] - 1, "just before the first window")
    yield Cut(ends_ms[first], "the first window")
    yield Cut(ends_ms[middle], "end of the middle bar")
    yield Cut(ends_ms[middle] + bar_ms // 2, "in the middle of a bar")
    yield Cut(ends_ms[-2], "end of the last bar but one")
    yield Cut(ends_ms[-1] - 1, "just before the end")
    hour_ms = -(-ends_ms[middle] // HOUR_MS) * HOUR_MS
    yield Cut(hour_ms, "a whole hour")
    gap = max(range(len(ends_ms) - 1), key=lambda at: ends_ms[at + 1] - ends_ms[at])
    if ends_ms[gap + 1] - ends_ms[gap] > bar_ms:
        yield Cut((ends_ms[gap] + ends_ms[gap + 1]) // 2, "inside the longest gap")
    for name in instruments[:2]:
        yield from _edges(name, ends_ms, first, calendar)


def _edges(
    instrument: str, ends_ms: Sequence[int], first: int, calendar: Calendar
) -> Iterator[Cut]:
    """Yield an opening and a close of an instrument's sessions with bars around them."""
    spans = session_intervals(calendar, instrument, ends_ms[first], ends_ms[-1])
    for place, what in ((0, "opens"), (1, "closes")):
        edges = [span[place] for span in spans]
        # from the middle outwards, so that there are bars on both sides and some history
        edges.sort(key=lambda at: abs(at - ends_ms[len(ends_ms) * 2 // 3]))
        for at_ms in edges:
            if bisect_right(ends_ms, at_ms) > first and bisect_left(ends_ms, at_ms) < len(ends_ms):
                yield Cut(at_ms, f"{instrument} {what}")
                break
