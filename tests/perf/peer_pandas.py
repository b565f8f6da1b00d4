"""The metrics of every window with pandas: counts by its rolling sums, the path by numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from tests.perf.peer_numpy import PAIRS, WINDOW_BITS, metrics_of


def run_with_pandas(candles: Any) -> Any:
    """Return the metrics of every window, a row each."""
    frame = pd.DataFrame(candles._asdict())
    spread = frame.high - frame.low
    wider = (spread >= spread.shift()) | (frame.volume >= frame.volume.shift())
    bit = ((frame.close >= frame.close.shift()) & wider).iloc[1:].astype(np.int8)
    before = bit.shift(fill_value=0)

    def counts(of: pd.Series, width: int) -> Any:
        return of.rolling(width).sum().to_numpy()[WINDOW_BITS - 1 :].astype(np.int64)

    flips, ruptures = counts(bit ^ before, PAIRS), counts(bit & before, PAIRS)
    return metrics_of(counts(bit, WINDOW_BITS), flips, ruptures, bit.to_numpy().astype(bool))
