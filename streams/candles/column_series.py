"""Many candles in columns without an object for each: what ``series`` and ``read_series`` make.

The same rows stay, the same are refused, in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.candles.bulk_csv import BulkFile
from streams.candles.columns import NO_VOLUME, CandleColumns
from streams.candles.files import Refused
from streams.candles.load_report import FilesRead, LoadReport, Progress, no_progress
from streams.candles.series import SeriesKey, digest
from streams.instants import GRANULARITY_MS
from streams.records.events import Candle, CandleSource, Ohlc


class SeriesColumns(NamedTuple):
    """Candles of one series, ascending.

    Attributes
    ----------
    bar_ms
        Starts of the bars, epoch ms.
    prices
        float64 [12, n]: mid, bid, ask; open, high, low, close each. NaN where a side is absent.
    volume
        Ticks, -1 where missing.
    mid_derived
        Whether mid was computed of bid and ask.
    """

    bar_ms: NDArray[np.int64]
    prices: NDArray[np.float64]
    volume: NDArray[np.int64]
    mid_derived: NDArray[np.bool_]


class _Part(NamedTuple):
    columns: SeriesColumns
    lines: NDArray[np.int64]
    files: NDArray[np.int32]


class ColumnSeries:
    """The candles of one instrument and granularity, as they are collected from files.

    Stands in for ``series.Series`` wherever one that is full is used.
    """

    def __init__(self, key: SeriesKey, source: CandleSource = "file") -> None:
        self.key = key
        self._source: CandleSource = source
        self._parts: list[_Part] = []
        self._files: list[str] = []
        self._whole = _joined([])
        self._order: NDArray[np.int64] = np.zeros(0, np.int64)

    def add(self, columns: SeriesColumns, file: str, lines: NDArray[np.int64]) -> None:
        """Collect candles and where they came from."""
        if not self._files or self._files[-1] != file:
            self._files.append(file)
        files = np.full(len(lines), len(self._files) - 1, np.int32)
        self._parts.append(_Part(columns, lines, files))

    def close(self) -> tuple[list[Refused], int]:
        """Sort by time and drop repeats; the first row of a bar stays.

        Returns
        -------
        refused
            Rows of a bar that came before with other numbers (``conflict``).
        duplicates
            Number of rows dropped because they said the same again.
        """
        self._whole = _joined(self._parts)
        self._parts = []
        bars = self._whole.columns.bar_ms
        if (bars[1:] > bars[:-1]).all():
            self._order = np.arange(len(bars))
            return [], 0
        order = np.argsort(bars, kind="stable")
        ordered = bars[order]
        first = np.ones(len(ordered), bool)
        first[1:] = ordered[1:] != ordered[:-1]
        repeats = np.flatnonzero(~first)
        kept = np.maximum.accumulate(np.where(first, np.arange(len(ordered)), 0))[repeats]
        differs = self._differ(order[repeats], order[kept])
        refused = [
            self._refused(int(order[at]), "conflict", "the bar came before with other numbers")
            for at in repeats[differs]
        ]
        self._order = order[first]
        return refused, int((~differs).sum())

    def _differ(self, one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.bool_]:
        # by their bits, as digests go, so that a side which neither has is the same in both; the
        # mid counts only where it is the source's
        prices = self._whole.columns.prices.view(np.int64)
        volume, derived = self._whole.columns.volume, self._whole.columns.mid_derived
        found = (prices[4:, one] != prices[4:, other]).any(axis=0)
        mids = (prices[:4, one] != prices[:4, other]).any(axis=0)
        found |= mids & ~(derived[one] & derived[other])
        differ: NDArray[np.bool_] = found | (volume[one] != volume[other])
        return differ

    def bars(self) -> NDArray[np.int64]:
        """Return the bar starts that are left, ascending (ms)."""
        return self._whole.columns.bar_ms[self._order]

    def columns(self) -> CandleColumns:
        """Return the candles that are left, ascending, as columns."""
        c = self.whole_columns()
        quoted = ~np.isnan(c.prices[4]) & ~np.isnan(c.prices[8])
        return CandleColumns(c.bar_ms, c.prices, quoted, c.volume)

    def whole_columns(self) -> SeriesColumns:
        """Return the candles that are left, ascending, with all that is known of them."""
        c = self._whole.columns
        if len(self._order) == len(c.bar_ms) and (self._order[1:] > self._order[:-1]).all():
            return c
        return _picked(c, self._order)

    def digests(self) -> NDArray[np.int64]:
        """Return the content digests that are left, in the order of ``bars``."""
        return np.fromiter((digest(one) for one in self.candles()), np.int64, len(self))

    def keep(self, chosen: NDArray[np.bool_]) -> None:
        """Keep only the candles for which ``chosen`` (in the order of ``bars``) is true."""
        self._order = self._order[chosen]

    def refuse(self, chosen: NDArray[np.bool_], reason: str, detail: str) -> list[Refused]:
        """Return refusals of the candles for which ``chosen`` is true."""
        return [self._refused(int(at), reason, detail) for at in self._order[chosen]]

    def candles(self) -> Iterator[Candle]:
        """Yield the candles that are left, ascending."""
        return candles_of(self.key, self.whole_columns(), self._source)

    def __len__(self) -> int:
        return len(self._order)

    def _refused(self, at: int, reason: str, detail: str) -> Refused:
        file, line = self._files[self._whole.files[at]], int(self._whole.lines[at])
        return Refused(file, line, reason, detail)


def candles_of(
    key: SeriesKey, columns: SeriesColumns, source: CandleSource = "file"
) -> Iterator[Candle]:
    """Yield the candles of columns in their order."""
    name, granularity = key
    length = GRANULARITY_MS[granularity]
    numbers = zip(
        columns.bar_ms.tolist(),
        columns.prices.T.tolist(),
        columns.volume.tolist(),
        columns.mid_derived.tolist(),
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
            source,
        )


def read_columns(
    paths: Sequence[str],
    instrument: str | None,
    granularity: str | None,
    report: LoadReport,
    now_ms: int,
    progress: Progress = no_progress,
) -> dict[SeriesKey, ColumnSeries]:
    """Read files into series; refusals and duplicates go into ``report``.

    Raises
    ------
    Fatal
        A file cannot be read at all, or is not what it was read as.
    """
    found: dict[SeriesKey, ColumnSeries] = {}
    files = FilesRead(report)
    for path in paths:
        file = BulkFile(path, instrument, granularity, now_ms)
        check = files.begin(path, file.times)
        for chunk in file:
            report.read += chunk.read
            report.refused += chunk.refused
            for block in chunk.blocks:
                if block.key not in found:
                    found[block.key] = ColumnSeries(block.key)
                columns = SeriesColumns(*block[1:5])
                found[block.key].add(columns, path, block.lines)
                check.add_columns(block.key, block.bar_ms, block.prices, block.mid_derived)
            progress("reading", report.read, None)
        files.end()
    for key in sorted(found):
        refused, duplicates = found[key].close()
        report.refused += refused
        report.duplicates += duplicates
    files.close()
    progress("reading", report.read, None)
    return found


def _joined(parts: Sequence[_Part]) -> _Part:
    if not parts:
        none = np.zeros(0, np.int64)
        columns = SeriesColumns(none, np.zeros((12, 0)), none, np.zeros(0, np.bool_))
        return _Part(columns, none, np.zeros(0, np.int32))
    columns = SeriesColumns(
        np.concatenate([part.columns.bar_ms for part in parts]),
        np.concatenate([part.columns.prices for part in parts], axis=1),
        np.concatenate([part.columns.volume for part in parts]),
        np.concatenate([part.columns.mid_derived for part in parts]),
    )
    return _Part(
        columns,
        np.concatenate([part.lines for part in parts]),
        np.concatenate([part.files for part in parts]),
    )


def _picked(columns: SeriesColumns, rows: NDArray[np.int64]) -> SeriesColumns:
    return SeriesColumns(
        columns.bar_ms[rows],
        np.take(columns.prices, rows, axis=1),
        columns.volume[rows],
        columns.mid_derived[rows],
    )
