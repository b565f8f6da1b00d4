"""The candles of one series, collected from files: sorted by time, without duplicates, as
arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from streams.candles.bulk_csv import Block, BulkFile
from streams.candles.columns import CandleColumns, SeriesKey, digest
from streams.candles.files import Refused
from streams.candles.load_report import FilesRead, LoadReport, Progress, no_progress
from streams.records.events import Candle


class Series:
    """The candles of one instrument and granularity, collected from files."""

    def __init__(self, key: SeriesKey) -> None:
        self.key = key
        self._blocks: list[Block] = []
        self._files: list[str] = []
        self._file_numbers: list[NDArray[np.int32]] = []
        self._whole = _joined(key, [])
        self._file: NDArray[np.int32] = np.zeros(0, np.int32)
        self._order: NDArray[np.int64] = np.zeros(0, np.int64)

    def add(self, block: Block, file: str) -> None:
        """Add candles of a file."""
        if not self._files or self._files[-1] != file:
            self._files.append(file)
        self._blocks.append(block)
        self._file_numbers.append(np.full(len(block.lines), len(self._files) - 1, np.int32))

    def close(self) -> tuple[list[Refused], int]:
        """Sort by time and drop duplicates; the first row of a bar is kept.

        Returns
        -------
        refused
            Rows with other numbers for a bar than an earlier row (``conflict``).
        duplicates
            Number of rows dropped because they equal an earlier row.
        """
        self._whole = _joined(self.key, self._blocks)
        self._file = np.concatenate([self._file, *self._file_numbers])
        self._blocks, self._file_numbers = [], []
        bars = self._whole.bar_ms
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
            self._refused(
                int(order[at]), "conflict", "an earlier row has other numbers for this bar"
            )
            for at in repeats[differs]
        ]
        self._order = order[first]
        return refused, int((~differs).sum())

    def _differ(self, one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.bool_]:
        # compare bits, as digests do, so that a side missing in both is equal; the mid counts only
        # where the source gave it
        prices = self._whole.prices.view(np.int64)
        volume, derived = self._whole.volume, self._whole.mid_derived
        found = (prices[4:, one] != prices[4:, other]).any(axis=0)
        mids = (prices[:4, one] != prices[:4, other]).any(axis=0)
        found |= mids & ~(derived[one] & derived[other])
        differ: NDArray[np.bool_] = found | (volume[one] != volume[other])
        return differ

    def bars(self) -> NDArray[np.int64]:
        """Return the remaining bar starts, ascending, epoch ms."""
        return self._whole.bar_ms[self._order]

    def columns(self) -> CandleColumns:
        """Return the remaining candles, ascending, as columns."""
        block = self._left()
        quoted = ~np.isnan(block.prices[4]) & ~np.isnan(block.prices[8])
        return CandleColumns(block.bar_ms, block.prices, quoted, block.volume)

    def _left(self) -> Block:
        if len(self._order) == len(self._whole.bar_ms) and (
            (self._order[1:] > self._order[:-1]).all()
        ):
            return self._whole
        return self._whole.where(self._order)

    def digests(self) -> NDArray[np.int64]:
        """Return the digests of the remaining candles, in the order of ``bars``."""
        return np.fromiter((digest(one) for one in self.candles()), np.int64, len(self))

    def keep(self, chosen: NDArray[np.bool_]) -> None:
        """Keep only the candles for which ``chosen`` (in the order of ``bars``) is true."""
        self._order = self._order[chosen]

    def refuse(self, chosen: NDArray[np.bool_], reason: str, detail: str) -> list[Refused]:
        """Return the refusals of the candles for which ``chosen`` is true."""
        return [self._refused(int(at), reason, detail) for at in self._order[chosen]]

    def candles(self) -> Iterator[Candle]:
        """Yield the remaining candles, ascending."""
        return self._left().candles()

    def __len__(self) -> int:
        return len(self._order)

    def _refused(self, at: int, reason: str, detail: str) -> Refused:
        file, line = self._files[self._file[at]], int(self._whole.lines[at])
        return Refused(file, line, reason, detail)


def read_series(
    paths: Sequence[str],
    instrument: str | None,
    granularity: str | None,
    report: LoadReport,
    now_ms: int,
    progress: Progress = no_progress,
) -> dict[SeriesKey, Series]:
    """Read files into series; refusals and duplicates go into ``report``.

    Raises
    ------
    Fatal
        A file cannot be read, or its contents do not match what was expected.
    """
    found: dict[SeriesKey, Series] = {}
    files = FilesRead(report)
    for path in paths:
        file = BulkFile(path, instrument, granularity, now_ms)
        check = files.begin(path, file.times)
        for chunk in file:
            report.read += chunk.read
            report.refused += chunk.refused
            for block in chunk.blocks:
                if block.key not in found:
                    found[block.key] = Series(block.key)
                found[block.key].add(block, path)
                check.add(block.key, block.bar_ms, block.prices, block.mid_derived)
            progress("reading", report.read, None)
        files.end()
    for key in sorted(found):
        refused, duplicates = found[key].close()
        report.refused += refused
        report.duplicates += duplicates
    files.close()
    progress("reading", report.read, None)
    return found


def _joined(key: SeriesKey, blocks: Sequence[Block]) -> Block:
    if not blocks:
        none = np.zeros(0, np.int64)
        return Block(key, none, np.zeros((12, 0)), none, np.zeros(0, np.bool_), none)
    return Block(
        key,
        np.concatenate([block.bar_ms for block in blocks]),
        np.concatenate([block.prices for block in blocks], axis=1),
        np.concatenate([block.volume for block in blocks]),
        np.concatenate([block.mid_derived for block in blocks]),
        np.concatenate([block.lines for block in blocks]),
    )
