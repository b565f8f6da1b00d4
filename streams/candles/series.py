"""Many candles in columns: sorted by time, free of duplicates, small enough for years of them."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from hashlib import blake2b
from struct import Struct
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from streams.candles.columns import NO_VOLUME, CandleColumns
from streams.candles.files import Refused
from streams.instants import GRANULARITY_MS
from streams.records.events import Candle, CandleSource, Ohlc

_PACKED = Struct("<12dq")
_NO_SIDE = (0.0, 0.0, 0.0, 0.0)


def digest(candle: Candle) -> int:
    """Return 64 bits that tell what a source said of a candle (prices, volume) from all else.

    Where bid and ask are there the mid is theirs, however it was computed when the candle was
    written: it does not count, so that a log of an older engine holds the same candles.
    """
    volume = NO_VOLUME if candle.volume is None else candle.volume
    quoted = candle.bid is not None and candle.ask is not None
    mid = _NO_SIDE if quoted else candle.mid
    packed = _PACKED.pack(*mid, *(candle.bid or _NO_SIDE), *(candle.ask or _NO_SIDE), volume)
    return int.from_bytes(blake2b(packed, digest_size=8).digest(), "little", signed=True)


class SeriesKey(NamedTuple):
    """What a series is: the candles of one instrument and bar length."""

    instrument: str
    granularity: str


class Series:
    """The candles of one instrument and granularity, as they are collected from rows."""

    def __init__(self, key: SeriesKey, source: CandleSource) -> None:
        self.key = key
        self._source: CandleSource = source
        self._bars = array("q")
        self._prices = array("d")
        self._volumes = array("q")
        self._derived = array("b")
        self._digests = array("q")
        self._files: list[str] = []
        self._file_numbers = array("l")
        self._lines = array("l")
        self._order: npt.NDArray[np.int64] = np.zeros(0, np.int64)

    def add(self, candle: Candle, file: str, line: int) -> None:
        """Collect a candle and where it came from."""
        self._bars.append(candle.bar_ms)
        self._prices.extend((*candle.mid, *(candle.bid or _NO_SIDE), *(candle.ask or _NO_SIDE)))
        self._volumes.append(NO_VOLUME if candle.volume is None else candle.volume)
        self._derived.append(candle.mid_derived)
        self._digests.append(digest(candle))
        if not self._files or self._files[-1] != file:
            self._files.append(file)
        self._file_numbers.append(len(self._files) - 1)
        self._lines.append(line)

    def close(self) -> tuple[list[Refused], int]:
        """Sort by time and drop repeats; the first row of a bar stays.

        Returns
        -------
        refused
            Rows of a bar that came before with other numbers (``conflict``).
        duplicates
            Number of rows dropped because they said the same again.
        """
        bars = np.frombuffer(self._bars, np.int64)
        order = np.argsort(bars, kind="stable")
        ordered, digests = bars[order], np.frombuffer(self._digests, np.int64)[order]
        first = np.ones(len(ordered), bool)
        first[1:] = ordered[1:] != ordered[:-1]
        kept = np.maximum.accumulate(np.where(first, np.arange(len(ordered)), 0))
        differs = ~first & (digests != digests[kept])
        refused = [
            self._refused(int(order[at]), "conflict", "the bar came before with other numbers")
            for at in np.flatnonzero(differs)
        ]
        self._order = order[first]
        return refused, int((~first & ~differs).sum())

    def bars(self) -> npt.NDArray[np.int64]:
        """Return the bar starts that are left, ascending (ms)."""
        return np.frombuffer(self._bars, np.int64)[self._order]

    def digests(self) -> npt.NDArray[np.int64]:
        """Return the content digests that are left, in the order of ``bars``."""
        return np.frombuffer(self._digests, np.int64)[self._order]

    def keep(self, chosen: npt.NDArray[np.bool_]) -> None:
        """Keep only the candles for which ``chosen`` (in the order of ``bars``) is true."""
        self._order = self._order[chosen]

    def refuse(self, chosen: npt.NDArray[np.bool_], reason: str, detail: str) -> list[Refused]:
        """Return refusals of the candles for which ``chosen`` is true."""
        return [self._refused(int(at), reason, detail) for at in self._order[chosen]]

    def candles(self) -> Iterator[Candle]:
        """Yield the candles that are left, ascending."""
        name, granularity = self.key
        length = GRANULARITY_MS[granularity]
        for at in self._order.tolist():
            p = self._prices[at * 12 : at * 12 + 12]
            bar_ms, volume = self._bars[at], self._volumes[at]
            yield Candle(
                name,
                granularity,
                bar_ms,
                bar_ms + length,
                Ohlc(p[0], p[1], p[2], p[3]),
                Ohlc(p[4], p[5], p[6], p[7]) if p[4] else None,
                Ohlc(p[8], p[9], p[10], p[11]) if p[8] else None,
                bool(self._derived[at]),
                None if volume == NO_VOLUME else volume,
                self._source,
            )

    def columns(self) -> CandleColumns:
        """Return the candles that are left, ascending, as columns."""
        prices = np.frombuffer(self._prices, np.float64).reshape(-1, 12)[self._order]
        return CandleColumns(
            self.bars(),
            np.ascontiguousarray(prices.T),
            (prices[:, 4] != 0.0) & (prices[:, 8] != 0.0),
            np.frombuffer(self._volumes, np.int64)[self._order],
        )

    def __len__(self) -> int:
        return len(self._order)

    def _refused(self, at: int, reason: str, detail: str) -> Refused:
        return Refused(self._files[self._file_numbers[at]], self._lines[at], reason, detail)
