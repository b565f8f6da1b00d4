"""Decoded candles of ``md.candles`` as columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.candles.columns import NO_SIDE, NO_VOLUME, CandleColumns
from streams.records.events import Candle


class CandleFrames(NamedTuple):
    """The candles in a batch of records; arrays [n], in log order.

    Attributes
    ----------
    at
        Indices in the batch.
    instrument, granularity
        Indices into ``names`` and ``granularities``.
    candles
        Times, prices and volumes.
    """

    at: NDArray[np.int64]
    instrument: NDArray[np.int64]
    granularity: NDArray[np.int64]
    names: list[str]
    granularities: list[str]
    candles: CandleColumns

    def granularity_is(self, name: str) -> NDArray[np.bool_]:
        """Return a mask of the candles with this bar length."""
        known = self.granularities
        found: NDArray[np.bool_]
        found = self.granularity == (known.index(name) if name in known else -1)
        return found

    def columns(self, chosen: NDArray[np.int64]) -> CandleColumns:
        """Return the chosen candles."""
        return self.candles.where(chosen)

    def with_candles(self, found: Sequence[tuple[int, Candle]]) -> CandleFrames:
        """Merge candles that were decoded one by one into these, in log order."""
        if not found:
            return self
        names, granularities = list(self.names), list(self.granularities)
        for _, candle in found:
            if candle.instrument not in names:
                names.append(candle.instrument)
            if candle.granularity not in granularities:
                granularities.append(candle.granularity)
        at = np.concatenate([self.at, [place for place, _ in found]])
        instrument = [names.index(candle.instrument) for _, candle in found]
        granularity = [granularities.index(candle.granularity) for _, candle in found]
        prices = [(*c.mid, *(c.bid or NO_SIDE), *(c.ask or NO_SIDE)) for _, c in found]
        volume = [NO_VOLUME if c.volume is None else c.volume for _, c in found]
        quoted = [c.bid is not None and c.ask is not None for _, c in found]
        mine = self.candles
        order = np.argsort(at, kind="stable")
        joined = CandleColumns(
            np.concatenate([mine.bar_ms, [candle.bar_ms for _, candle in found]]),
            np.concatenate([mine.prices, np.array(prices).T], axis=1),
            np.concatenate([mine.quoted, np.array(quoted, bool)]),
            np.concatenate([mine.volume, volume]),
        )
        return CandleFrames(
            at[order],
            np.concatenate([self.instrument, instrument])[order],
            np.concatenate([self.granularity, granularity])[order],
            names,
            granularities,
            joined.where(order),
        )
