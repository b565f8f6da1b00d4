"""Candles of one series as arrays."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

NO_VOLUME = -1


class CandleColumns(NamedTuple):
    """Candles of one instrument and granularity; arrays [n].

    Attributes
    ----------
    bar_ms
        Starts, epoch ms.
    prices
        [12, n]: open, high, low, close of mid, bid, ask; bid and ask are used only where
        ``quoted``.
    quoted
        Whether bid and ask were quoted by the market.
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
