"""The rule in backtesting.py. Runs in a virtual environment of its own (tests/perf/peers.py)."""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import pandas as pd
from backtesting import Backtest, Strategy

LOOKBACK, THRESHOLD_BPS, STOP, TARGET, MAX_HOLD_BARS = 12, 2.0, 0.0125, 0.005, 30


class SlopeRule(Strategy):
    """In by the slope of the last closes; out by the opposite one, stop, target or time."""

    def init(self) -> None:
        close = np.asarray(self.data.Close)
        slope_bps = np.full(len(close), np.nan)
        slope_bps[LOOKBACK:] = 1e4 * (close[LOOKBACK:] / close[:-LOOKBACK] - 1)
        self.slope_bps = self.I(lambda: slope_bps, plot=False)
        self.held = False

    def next(self) -> None:
        slope = self.slope_bps[-1]
        direction = int(slope >= THRESHOLD_BPS) - int(slope <= -THRESHOLD_BPS)
        was_held, self.held = self.held, bool(self.trades)
        if self.held:
            trade = self.trades[0]
            held_bars = len(self.data) - 1 - trade.entry_bar
            if direction == (-1 if trade.is_long else 1) or held_bars >= MAX_HOLD_BARS:
                trade.close()
        elif direction and not was_held:  # a bar in which a fill happened decides no entry
            close = self.data.Close[-1]
            stop, target = close * (1 - direction * STOP), close * (1 + direction * TARGET)
            order = self.buy if direction > 0 else self.sell
            order(size=1, sl=stop, tp=target)


def main() -> None:
    """Run over the candles of a file and print what it took."""
    data = np.load(sys.argv[1])
    names = {"Open": "mid_o", "High": "mid_h", "Low": "mid_l", "Close": "mid_c"}
    frame = pd.DataFrame(
        {column: data[name] for column, name in names.items()} | {"Volume": data["volume"]},
        index=pd.to_datetime(data["bar_ms"], unit="ms"),
    )
    spread = float(np.mean((data["ask_c"] - data["bid_c"]) / data["mid_c"]))
    test = Backtest(frame, SlopeRule, cash=1e6, spread=spread)
    begun = time.perf_counter()
    found = test.run()
    seconds = time.perf_counter() - begun
    print(json.dumps({"bars": len(frame), "seconds": seconds, "trades": int(found["# Trades"])}))


if __name__ == "__main__":
    main()
