"""Candle files read one row at a time: what the reader in columns is compared with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from streams.candles.columns import SeriesKey, digest
from streams.candles.files import AHEAD_MS, Refused, in_the_future, read_candles
from streams.candles.load_report import FilesRead, LoadReport
from streams.candles.times import TimeColumn
from streams.records.events import Candle

_ABSENT = (np.nan,) * 4


class RowSeries:
    """The candles of one series as rows: in the order of the files, then sorted by ``close``."""

    def __init__(self) -> None:
        self._rows: list[tuple[Candle, str, int]] = []

    def add(self, candle: Candle, file: str, line: int) -> None:
        """Collect a candle and where it came from."""
        self._rows.append((candle, file, line))

    def close(self) -> tuple[list[Refused], int]:
        """Sort by time; return the conflicts, and the number of repeats."""
        kept: dict[int, tuple[Candle, str, int]] = {}
        refused, duplicates = [], 0
        for row in sorted(self._rows, key=lambda row: row[0].bar_ms):
            candle, file, line = row
            first = kept.setdefault(candle.bar_ms, row)
            if first is row:
                continue
            if digest(first[0]) == digest(candle):
                duplicates += 1
            else:
                detail = "an earlier row has other numbers for this bar"
                refused.append(Refused(file, line, "conflict", detail))
        self._rows = list(kept.values())
        return refused, duplicates

    def candles(self) -> list[Candle]:
        """Return the candles that are left, ascending."""
        return [candle for candle, _, _ in self._rows]

    def keep(self, chosen: NDArray[np.bool_]) -> None:
        """Keep only the candles for which ``chosen`` is true."""
        self._rows = [row for row, stays in zip(self._rows, chosen, strict=True) if stays]

    def refuse(self, chosen: NDArray[np.bool_], reason: str, detail: str) -> list[Refused]:
        """Return refusals of the candles for which ``chosen`` is true."""
        pairs = zip(self._rows, chosen, strict=True)
        return [Refused(file, line, reason, detail) for (_, file, line), there in pairs if there]


def read_rows(paths: Sequence[str], report: LoadReport, now_ms: int) -> dict[SeriesKey, RowSeries]:
    """Read files as ``streams.candles.series.read_series`` must."""
    found: dict[SeriesKey, RowSeries] = {}
    files = FilesRead(report)
    for path in paths:
        times = TimeColumn()
        check = files.begin(path, times)
        for key, candle, line in _accepted(path, times, report, now_ms):
            found.setdefault(key, RowSeries()).add(candle, path, line)
            prices = (*candle.mid, *(candle.bid or _ABSENT), *(candle.ask or _ABSENT))
            check.add(
                key,
                np.array([candle.bar_ms]),
                np.array(prices).reshape(12, 1),
                np.array([candle.mid_derived]),
            )
        files.end()
    for key in sorted(found):
        refused, duplicates = found[key].close()
        report.refused += refused
        report.duplicates += duplicates
    files.close()
    return found


def _accepted(
    path: str, times: TimeColumn, report: LoadReport, now_ms: int
) -> Iterator[tuple[SeriesKey, Candle, int]]:
    for line, row in read_candles(path, None, None, times):
        report.read += 1
        if isinstance(row, Refused):
            report.refused.append(row)
        elif row.as_of_ms > now_ms + AHEAD_MS:
            report.refused.append(in_the_future(path, line, row.as_of_ms, now_ms))
        else:
            yield SeriesKey(row.instrument, row.granularity), row, line
