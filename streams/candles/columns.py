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
        [12, n]: open, high, low, close of mid, of bid, of ask; those of bid and ask count only
        where ``quoted``.
    quoted
        Where bid and ask are the market's own.
    volume
        Ticks, ``NO_VOLUME`` where there is none.
    """

    bar_ms: NDArray[np.int64]
    prices: NDArray[np.float64]
    quoted: NDArray[np.bool_]
    volume: NDArray[np.int64]

    def where(self, chosen: Any) -> CandleColumns:
        """Return some of the candles."""
        return CandleColumns(
            self.bar_ms[chosen],
            np.ascontiguousarray(self.prices[:, chosen]),
            self.quoted[chosen],
            self.volume[chosen],
        )
