"""Candles of one series as arrays, and a 64-bit digest of a candle."""

from __future__ import annotations

from hashlib import blake2b
from struct import Struct
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.records.events import Candle

NO_VOLUME = -1
NO_SIDE = (0.0, 0.0, 0.0, 0.0)
_PACKED = Struct("<12dq")


class SeriesKey(NamedTuple):
    """Key of a series: the candles of one instrument and bar length."""

    instrument: str
    granularity: str


class CandleColumns(NamedTuple):
    """Candles of one instrument and granularity; arrays [n].

    Attributes
    ----------
    bar_ms
        Starts of the bars, epoch ms.
    prices
        [12, n]: open, high, low, close of mid, bid, ask; bid and ask are used only where
        ``quoted``.
    quoted
        Whether the source has bid and ask.
    volume
        Ticks, ``NO_VOLUME`` where missing.
    """

    bar_ms: NDArray[np.int64]
    prices: NDArray[np.float64]
    quoted: NDArray[np.bool_]
    volume: NDArray[np.int64]

    def where(self, chosen: Any) -> CandleColumns:
        """Return the chosen candles."""
        return CandleColumns(
            self.bar_ms[chosen],
            np.ascontiguousarray(self.prices[:, chosen]),
            self.quoted[chosen],
            self.volume[chosen],
        )


def digest(candle: Candle) -> int:
    """Return a 64-bit digest of a candle's prices and volume as given by the source.

    With bid and ask, the mid is derived from them and not part of the digest, so that candles
    written by an older engine, which rounds the mid differently, have the same digest.
    """
    volume = NO_VOLUME if candle.volume is None else candle.volume
    quoted = candle.bid is not None and candle.ask is not None
    mid = NO_SIDE if quoted else candle.mid
    packed = _PACKED.pack(*mid, *(candle.bid or NO_SIDE), *(candle.ask or NO_SIDE), volume)
    return int.from_bytes(blake2b(packed, digest_size=8).digest(), "little", signed=True)
