"""Sums per time cell, in bounded memory for any number of rows and years.

Rows are first summed into cells of one minute. A table that would need more than ``MOST_CELLS``
rows is summed into the next coarser cells, each a multiple of the former, so that only resolution
is lost: two weeks have minutes, a year has hours. A cell contains the rows in ``(start, end]``: a
bar that ends at midnight belongs to the day before.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from streams.errors import Fatal

Int64s = npt.NDArray[np.int64]

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
CELLS_MS = (MINUTE_MS, 5 * MINUTE_MS, 15 * MINUTE_MS, HOUR_MS, 4 * HOUR_MS, DAY_MS)
MOST_CELLS = 16_384
MOST_BUCKETS = 500
BUCKETS_MS = tuple(
    [n * MINUTE_MS for n in (1, 2, 5, 10, 15, 20, 30)]
    + [n * HOUR_MS for n in (1, 2, 3, 4, 6, 8, 12)]
    + [n * DAY_MS for n in (1, 2, 7, 14, 28)]
)
LAST_MS = 253_402_300_800_000  # the end of the year 9999, the limit of datetime


@dataclass(frozen=True, slots=True)
class Buckets:
    """The grid of all charts: ``count`` buckets of ``bucket_ms`` from ``start_ms`` on."""

    start_ms: int
    bucket_ms: int
    count: int

    def index(self, at_ms: Int64s) -> Int64s:
        """Return the bucket of each time; the end of a bucket belongs to it."""
        return (at_ms - 1 - self.start_ms) // self.bucket_ms


def buckets_for(first_ms: int, last_ms: int, cell_ms: int = MINUTE_MS) -> Buckets:
    """Return the finest grid of at most ``MOST_BUCKETS`` buckets over ``[first_ms, last_ms]``.

    ``bucket_ms`` is a round length of time, and a multiple of ``cell_ms``.
    """
    lengths = [n for n in BUCKETS_MS if n % cell_ms == 0]
    while True:
        for length in lengths:
            start = (first_ms - 1) // length
            count = (last_ms - 1) // length - start + 1
            if count <= MOST_BUCKETS:
                return Buckets(start * length, length, count)
        lengths = [max([*lengths, cell_ms]) * 2]


class TimeCells:
    """A table of sums: one row per time cell, one column per counted quantity.

    Parameters
    ----------
    columns
        Number of columns.
    dtype
        Data type of the sums.

    Attributes
    ----------
    cell_ms
        Current length of a cell; it only grows.
    """

    def __init__(self, columns: int, dtype: npt.DTypeLike) -> None:
        self.cell_ms = CELLS_MS[0]
        self._table: npt.NDArray[Any] = np.zeros((0, columns), dtype)
        self._first = 0
        self._since, self._until = LAST_MS, 0

    def add(self, at_ms: Int64s, columns: Iterable[npt.NDArray[Any]]) -> None:
        """Add rows to the cells of their times.

        Parameters
        ----------
        at_ms
            Epoch milliseconds, shape [n], ascending.
        columns
            One array of shape [n] for each column of the table.

        Raises
        ------
        Fatal
            An instant before 1970 or after the year 9999.
        """
        if not len(at_ms):
            return
        if at_ms[0] < 0 or at_ms[-1] > LAST_MS:
            wrong = at_ms[0] if at_ms[0] < 0 else at_ms[-1]
            raise Fatal(f"a record is stamped {wrong} ms, which is not between 1970 and 9999")
        self._cover(int(at_ms[0]), int(at_ms[-1]))
        cells = (at_ms - 1) // self.cell_ms
        starts = np.concatenate(([0], np.flatnonzero(np.diff(cells)) + 1))
        rows = cells[starts] - self._first
        for column, values in enumerate(columns):
            sums = np.add.reduceat(values, starts, dtype=self._table.dtype)
            self._table[rows, column] += sums

    def coarsen(self, cell_ms: int) -> None:
        """Coarsen the cells to ``cell_ms``, a multiple of the current length."""
        if cell_ms == self.cell_ms:
            return
        if len(self._table):
            cells = (self._first + np.arange(len(self._table))) * self.cell_ms // cell_ms
            made = np.zeros((cells[-1] - cells[0] + 1, self._table.shape[1]), self._table.dtype)
            np.add.at(made, cells - cells[0], self._table)
            self._table, self._first = made, int(cells[0])
        self.cell_ms = cell_ms

    def totals(self) -> npt.NDArray[Any]:
        """Return the sum of each column."""
        sums: npt.NDArray[Any] = self._table.sum(axis=0)
        return sums

    def bucketed(self, buckets: Buckets) -> npt.NDArray[Any]:
        """Return the sums per bucket, shape [buckets, columns]; rows outside are ignored."""
        made = np.zeros((buckets.count, self._table.shape[1]), self._table.dtype)
        starts = (self._first + np.arange(len(self._table))) * self.cell_ms
        index = (starts - buckets.start_ms) // buckets.bucket_ms
        inside = (index >= 0) & (index < buckets.count)
        np.add.at(made, index[inside], self._table[inside])
        return made

    def _cover(self, first_ms: int, last_ms: int) -> None:
        """Allocate the cells of ``[first_ms, last_ms]``.

        The length of a cell depends on the whole range only, not on the order of rows.
        """
        self._since = min(self._since, first_ms)
        self._until = max(self._until, last_ms)
        while True:
            low = (self._since - 1) // self.cell_ms
            high = (self._until - 1) // self.cell_ms + 1
            if high - low <= MOST_CELLS:
                break
            self.coarsen(next((n for n in CELLS_MS if n > self.cell_ms), self.cell_ms * 2))
        have = len(self._table)
        if have and self._first <= low and high <= self._first + have:
            return
        # spare rows, so that small blocks do not copy the table each time
        spare = high - low if have else 0
        before = min(low, self._first) if have else low
        after = max(high + spare, self._first + have)
        made = np.zeros((after - before, self._table.shape[1]), self._table.dtype)
        if have:
            at = self._first - before
            made[at : at + have] = self._table
        self._table, self._first = made, before
