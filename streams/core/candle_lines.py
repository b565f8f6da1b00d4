"""Fast path for CSV: the core parses lines of the common form into columns of candles."""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.core.columns import address_of
from streams.core.loader import core
from streams.errors import Fatal

PRICE_COLUMNS = 12
"""Mid, bid, ask; open, high, low, close each."""
PLAIN, SLOW = 0, 1
"""Status of a row: parsed by the fast path, or left to the full parser."""
MOST_CELLS = 64
IGNORED, TIME, VOLUME, COMPLETE, INSTRUMENT, GRANULARITY, FIRST_PRICE = range(7)
"""Role of a column of a file; cpp/io/line_form.hpp."""


class LineColumns(NamedTuple):
    """Columns that a reader fills; all have the same length (the capacity).

    Attributes
    ----------
    bar_ms
        Start of the bar, epoch ms; int64.
    prices
        float64 [12, capacity]: mid, bid, ask; open, high, low, close each. NaN where absent.
    volume
        Ticks, -1 where missing; int64.
    mid_derived
        Whether mid was computed from bid and ask; uint8.
    status
        ``PLAIN`` or ``SLOW``; in a slow row only line and offset are valid. uint8.
    pair
        Index of the row's instrument and granularity in ``LineReader.pairs``, 0 where the file has
        no such columns; int32.
    line
        Line of the file, counted from 1; int64.
    offset
        Byte offset of the line in the block it was read from; int64.
    """

    bar_ms: NDArray[np.int64]
    prices: NDArray[np.float64]
    volume: NDArray[np.int64]
    mid_derived: NDArray[np.uint8]
    status: NDArray[np.uint8]
    pair: NDArray[np.int32]
    line: NDArray[np.int64]
    offset: NDArray[np.int64]

    @property
    def capacity(self) -> int:
        """Number of rows that fit."""
        return len(self.bar_ms)


class LinesRead(NamedTuple):
    """How far a reader got.

    Attributes
    ----------
    rows
        Rows of the columns that are filled.
    lines
        Lines of the file read, empty ones included.
    offset
        Byte offset at which reading stopped.
    whole
        False when reading stopped at a line that may continue on the next line (a quote) or contain
        another line end (a single carriage return).
    """

    rows: int
    lines: int
    offset: int
    whole: bool


def empty_columns(capacity: int) -> LineColumns:
    """Return uninitialised columns for ``capacity`` rows."""
    return LineColumns(
        np.empty(capacity, np.int64),
        np.empty((PRICE_COLUMNS, capacity), np.float64),
        np.empty(capacity, np.int64),
        np.empty(capacity, np.uint8),
        np.empty(capacity, np.uint8),
        np.empty(capacity, np.int32),
        np.empty(capacity, np.int64),
        np.empty(capacity, np.int64),
    )


class LineReader:
    """Reads the lines of one file.

    Parameters
    ----------
    roles
        Role of each column of the file, one byte each.

    Raises
    ------
    Fatal
        The file has no or too many columns, or the core cannot be loaded.
    """

    def __init__(self, roles: bytes) -> None:
        self._handle = core().make_lines()
        if not self._handle:
            raise Fatal("out of memory: candle files cannot be read")
        self._handle.__python_owns__ = True
        columns = np.frombuffer(roles or b"\0", np.uint8)
        if not self._handle.describe(address_of(columns), len(roles)):
            raise Fatal(f"{len(roles)} columns cannot be read, 1 to {MOST_CELLS} can")
        self._columns: LineColumns | None = None

    def fill(self, columns: LineColumns) -> None:
        """Write rows into ``columns`` from now on."""
        self._columns = columns  # the handle stores only the addresses: keep the arrays alive
        c = columns
        candles = core().candle_columns(
            *(address_of(c.bar_ms), address_of(c.prices), c.capacity, address_of(c.volume)),
            *(address_of(c.mid_derived), address_of(c.status)),
        )
        self._handle.fill(candles, address_of(c.pair), address_of(c.line), address_of(c.offset))

    def expect_time(self, form: int) -> None:
        """Accept rows whose time is written in ``form`` (``candle_times.TimeForm``); 0: none."""
        self._handle.expect_time(form)

    def read(
        self, data: bytes, start: int, rows: int, lines: int, most: int | None = None
    ) -> LinesRead:
        """Read lines until the columns are full or the data ends.

        Parameters
        ----------
        data
            Complete lines; only the last line of the file may lack a line end.
        start
            Byte offset in ``data`` at which to begin.
        rows, lines
            Number of rows already filled and of lines already read.
        most
            Maximum number of filled rows; the capacity by default.
        """
        if self._columns is None or not 0 <= start < len(data):
            return LinesRead(rows, lines, start, True)
        # a bytes object ends with a zero byte, which the core may read
        address = address_of(np.frombuffer(data, np.uint8))
        capacity = self._columns.capacity if most is None else most
        whole = bool(self._handle.read(address, start, len(data), rows, capacity, lines))
        return LinesRead(
            int(self._handle.rows()), int(self._handle.lines()), int(self._handle.offset()), whole
        )

    def pairs(self, known: int) -> list[tuple[str, str]]:
        """Return the instruments and granularities seen in rows, from index ``known`` on."""
        return [_pair(self._handle, place) for place in range(known, int(self._handle.pairs()))]


def _pair(handle: Any, place: int) -> tuple[str, str]:
    address, length = int(handle.pair_address(place)), int(handle.pair_length(place))
    instrument, _, granularity = ctypes.string_at(address, length).decode("ascii").partition(",")
    return instrument, granularity
