"""Bulk reading of candle files into columns; same rows, refusals and order as ``read_candles``.

The core parses rows of the common form; all other rows, and files that are not plain CSV, go
through ``read_candles`` and its functions.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.candles.bulk_header import column_roles
from streams.candles.columns import NO_VOLUME, SeriesKey
from streams.candles.csv_header import check_header, header_names
from streams.candles.file_names import file_names
from streams.candles.files import (
    AHEAD_MS,
    STANDARD_INPUT,
    Refused,
    candle_of,
    csv_rows,
    in_the_future,
    read_candles,
)
from streams.candles.rows import series_names
from streams.candles.rules import END_MS, bar_step_ms
from streams.candles.text_blocks import PIECE_BYTES, LineSource
from streams.candles.times import TimeColumn, TimeForm
from streams.core.candle_lines import GRANULARITY, INSTRUMENT, PLAIN, LineReader, empty_columns
from streams.instants import EARLIEST_MS, GRANULARITY_MS, HOUR_MS
from streams.instruments import decorated_pair
from streams.records.events import Candle, Ohlc
from streams.records.value_rules import is_name

BLOCK_ROWS = 65_536
OBJECTS = 1_024
"""Rows that are made into objects at a time."""
LONGEST_HEADER = 16_384
_DROPPED = 2
_NO_SIDE = (np.nan,) * 4


class Block(NamedTuple):
    """Candles of one series in the order of the file, including duplicates.

    Attributes
    ----------
    key
        Instrument and granularity.
    bar_ms
        Starts of the bars, epoch ms.
    prices
        float64 [12, n]: mid, bid, ask; open, high, low, close each. NaN where a side is absent.
        Each of the 12 rows is contiguous.
    volume
        Ticks, -1 where missing.
    mid_derived
        Whether mid was computed from bid and ask.
    lines
        Line numbers in the file.
    """

    key: SeriesKey
    bar_ms: NDArray[np.int64]
    prices: NDArray[np.float64]
    volume: NDArray[np.int64]
    mid_derived: NDArray[np.bool_]
    lines: NDArray[np.int64]

    def where(self, chosen: NDArray[np.int64]) -> Block:
        """Return some of the candles."""
        return Block(
            self.key,
            self.bar_ms[chosen],
            np.take(self.prices, chosen, axis=1),
            self.volume[chosen],
            self.mid_derived[chosen],
            self.lines[chosen],
        )

    def candles(self) -> Iterator[Candle]:
        """Yield the candles as objects."""
        name, granularity = self.key
        length = GRANULARITY_MS[granularity]
        for start in range(0, len(self.bar_ms), OBJECTS):
            rows = slice(start, start + OBJECTS)
            numbers = zip(
                self.bar_ms[rows].tolist(),
                self.prices[:, rows].T.tolist(),
                self.volume[rows].tolist(),
                self.mid_derived[rows].tolist(),
                strict=True,
            )
            for bar_ms, p, volume, derived in numbers:
                yield Candle(
                    name,
                    granularity,
                    bar_ms,
                    bar_ms + length,
                    Ohlc(*p[:4]),
                    Ohlc(*p[4:8]) if p[4] == p[4] else None,
                    Ohlc(*p[8:]) if p[8] == p[8] else None,
                    derived,
                    None if volume == NO_VOLUME else volume,
                    "file",
                )


class Chunk(NamedTuple):
    """Contents of a part of a file.

    Attributes
    ----------
    read
        Number of rows, including refused rows.
    refused
        Refused rows in the order of the file.
    blocks
        The candles, one block per series.
    """

    read: int
    refused: list[Refused]
    blocks: list[Block]


class BulkFile:
    """The candles of a file, in chunks.

    Parameters
    ----------
    path
        The file; gzip is decompressed.
    instrument, granularity
        Used for rows that do not name them; taken from the file name when omitted.
    now_ms
        Candles that end more than ``load.AHEAD_MS`` after this are refused; None refuses none.
    rows
        Maximum number of rows per chunk.
    piece_bytes
        Bytes read at a time.

    Attributes
    ----------
    times
        Time format of the file, and the times read so far that are not the start of a bar.

    Notes
    -----
    Iterating raises Fatal as ``read_candles`` does, but an error inside the file (truncated gzip,
    invalid UTF-8) is raised after the chunks before it.
    """

    def __init__(
        self,
        path: str,
        instrument: str | None = None,
        granularity: str | None = None,
        now_ms: int | None = None,
        rows: int = BLOCK_ROWS,
        piece_bytes: int = PIECE_BYTES,
    ) -> None:
        self._path = path
        self.times = TimeColumn()
        self._instrument, self._granularity = file_names(path, instrument, granularity)
        self._now_ms = now_ms
        self._rows = rows
        self._piece_bytes = piece_bytes

    def __iter__(self) -> Iterator[Chunk]:
        """Yield the chunks from the start of the file."""
        rows = _Rows(self._path, self._rows, self._now_ms)
        # a pipe can be read only once
        if self._path != STANDARD_INPUT and Path(self._path).is_file():
            with closing(LineSource(self._path, self._piece_bytes)) as source:
                header = _plain_header(source)
                roles = None if header is None else column_roles(header)
                if header is not None and roles is not None:
                    check_header(self._path, header, self._instrument, self._granularity)
                    yield from self._scanned(rows, source, header, roles)
                    return
        given = (self._instrument, self._granularity)
        for line, item in read_candles(self._path, *given, self.times):
            rows.append(line, item)
            if rows.full:
                yield rows.take()
        if rows.read:
            yield rows.take()

    def _scanned(
        self, rows: _Rows, source: LineSource, header: Sequence[str], roles: bytes
    ) -> Iterator[Chunk]:
        reader, names = LineReader(roles), _SeriesIndex(rows, self._instrument, self._granularity)
        if not {INSTRUMENT, GRANULARITY}.intersection(roles):
            names.learn("", "")
        lines = 1
        reader.fill(rows.columns)
        while source.more():
            first = rows.count
            # row by row until the time format is known
            most = first + 1 if self.times.form is TimeForm.UNKNOWN else None
            reader.expect_time(self.times.form)
            found = reader.read(source.data, source.at, first, lines, most)
            source.at, lines, rows.count = found.offset, found.lines, found.rows
            names.learn_from(reader)
            for row in (first + np.flatnonzero(~names.settle(first))).tolist():
                line, start = int(rows.columns.line[row]), int(rows.columns.offset[row])
                alone = csv_rows(self._path, header, csv.reader([source.text(start)]), line - 1)
                for at, raw in alone:
                    rows.put(row, at, self._candle(at, raw))
            if not found.whole:
                record = csv.reader(source.lines())
                for at, raw in csv_rows(self._path, header, record, lines):
                    rows.append(at, self._candle(at, raw))
                    break
                lines += record.line_num
            if rows.full:
                yield rows.take()
                reader.fill(rows.columns)
        if rows.read:
            yield rows.take()

    def _candle(self, line: int, raw: dict[str, str] | Refused) -> Candle | Refused:
        return candle_of(self._path, line, raw, self._instrument, self._granularity, self.times)


def _plain_header(source: LineSource) -> list[str] | None:
    """Consume the header line of a CSV file and return its names; None for other files."""
    if not source.more():
        return None
    end = source.data.find(b"\n", source.at) + 1
    line = source.data[source.at : end]
    text = line.removesuffix(b"\n").removesuffix(b"\r")
    if len(text) > LONGEST_HEADER or not text.isascii() or b'"' in text or b"\r" in text:
        return None
    if text.strip()[:1] in (b"", b"{", b"["):
        return None
    source.at = end
    return header_names(text.decode("ascii").split(","))


class _Rows:
    """Collects rows for the next chunk."""

    def __init__(self, path: str, capacity: int, now_ms: int | None) -> None:
        self._path = path
        self._now_ms = now_ms
        self.keys: list[SeriesKey] = []
        self._places: dict[SeriesKey, int] = {}
        self._begin(capacity)

    def _begin(self, capacity: int) -> None:
        self.columns = empty_columns(capacity)
        self.key = np.zeros(capacity, np.int32)
        self.count = self.read = 0
        self._refused: list[tuple[int, Refused]] = []

    @property
    def full(self) -> bool:
        return self.count == self.columns.capacity

    def index_of(self, key: SeriesKey) -> int:
        if key not in self._places:
            self._places[key] = len(self.keys)
            self.keys.append(key)
        return self._places[key]

    def append(self, line: int, item: Candle | Refused) -> None:
        self.count += 1
        self.put(self.count - 1, line, item)

    def put(self, row: int, line: int, item: Candle | Refused) -> None:
        self.read += 1
        c = self.columns
        if isinstance(item, Refused):
            c.status[row] = _DROPPED
            self._refused.append((row, item))
            return
        self.key[row] = self.index_of(SeriesKey(item.instrument, item.granularity))
        c.status[row], c.line[row], c.bar_ms[row] = PLAIN, line, item.bar_ms
        c.prices[:, row] = (*item.mid, *(item.bid or _NO_SIDE), *(item.ask or _NO_SIDE))
        c.volume[row] = NO_VOLUME if item.volume is None else item.volume
        c.mid_derived[row] = item.mid_derived

    def take(self) -> Chunk:
        """Return the collected chunk and reset."""
        good = self.columns.status[: self.count] == PLAIN
        if self._now_ms is not None:
            self._refuse_future(good, self._now_ms)
        refused = [one for _, one in sorted(self._refused, key=lambda pair: pair[0])]
        chunk = Chunk(self.read, refused, self._blocks(good))
        self._begin(self.columns.capacity)
        return chunk

    def _refuse_future(self, good: NDArray[np.bool_], now_ms: int) -> None:
        if not self.keys:
            return
        c = self.columns
        lengths = np.array([GRANULARITY_MS[key.granularity] for key in self.keys])
        ends = c.bar_ms[: self.count] + lengths[self.key[: self.count]]
        for row in np.flatnonzero(good & (ends > now_ms + AHEAD_MS)):
            refused = in_the_future(self._path, int(c.line[row]), int(ends[row]), now_ms)
            self._refused.append((int(row), refused))
            good[row] = False

    def _blocks(self, good: NDArray[np.bool_]) -> list[Block]:
        if not self.keys:
            return []
        c, n = self.columns, self.count
        derived = c.mid_derived[:n].view(np.bool_)
        whole = Block(
            self.keys[0], c.bar_ms[:n], c.prices[:, :n], c.volume[:n], derived, c.line[:n]
        )
        if len(self.keys) == 1 and good.all():
            return [whole]
        blocks = []
        for place, key in enumerate(self.keys):
            rows = np.flatnonzero(good & (self.key[:n] == place))
            if len(rows):
                blocks.append(whole.where(rows)._replace(key=key))
        return blocks


class _SeriesIndex:
    """The series that plain rows belong to, and whether their times fit them."""

    def __init__(self, rows: _Rows, instrument: str | None, granularity: str | None) -> None:
        self._rows = rows
        self._told = (instrument, granularity)
        self._place: list[int] = []
        self._step: list[int] = []
        self._latest: list[int] = []

    def learn_from(self, reader: LineReader) -> None:
        """Register the instruments and granularities seen so far."""
        for instrument, granularity in reader.pairs(len(self._place)):
            self.learn(instrument, granularity)

    def learn(self, instrument: str, granularity: str) -> None:
        """Register a pair of cells; empty where the file has no such column."""
        row = {"instrument": instrument, "granularity": granularity}
        name, length_name = series_names(row, *self._told)
        length = GRANULARITY_MS.get(length_name)
        if length is None or not is_name(name) or decorated_pair(name) is not None:
            # no row has a time this early, so all rows of this series are left to the full parser
            place, length, latest = 0, HOUR_MS, EARLIEST_MS - 1
        else:
            place, latest = self._rows.index_of(SeriesKey(name, length_name)), END_MS - length
        self._place.append(place)
        self._step.append(bar_step_ms(length))
        self._latest.append(latest)

    def settle(self, first: int) -> NDArray[np.bool_]:
        """Assign series to the rows from ``first`` on; return which rows are valid as parsed.

        All other rows are marked as dropped until the full parser has stored them.
        """
        c, rows = self._rows.columns, slice(first, self._rows.count)
        opened, status = c.bar_ms[rows], c.status[rows]
        if not self._place:
            good = np.zeros(len(status), np.bool_)
        elif len(self._place) == 1:
            self._rows.key[rows] = self._place[0]
            good = (opened % self._step[0] == 0) & (opened <= self._latest[0])
        else:
            pair = c.pair[rows]
            self._rows.key[rows] = np.array(self._place, np.int32)[pair]
            good = opened % np.array(self._step)[pair] == 0
            good &= opened <= np.array(self._latest)[pair]
        good &= status == PLAIN
        status[~good] = _DROPPED
        self._rows.read += int(good.sum())
        return good
