"""The rule in vectorbt. Runs in a virtual environment of its own (tests/perf/peers.py)."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import vectorbt as vbt
from numba import njit

LOOKBACK, THRESHOLD_BPS, STOP, TARGET, MAX_HOLD_BARS = 12, 2.0, 0.0125, 0.005, 30


@njit
def signals_nb(c: Any, direction: Any, entered: Any, met: Any) -> tuple[bool, bool, bool, bool]:
    """Return long entry, long exit, short entry, short exit for the open of bar ``c.i``."""
    wanted = direction[c.i - 1] if c.i > 0 else 0
    before, was_held = met[0], met[1]
    held = c.position_now != 0
    met[0], met[1] = c.i, held
    if held:
        expired = c.i - 1 - entered[0] >= MAX_HOLD_BARS
        long, short = c.position_now > 0, c.position_now < 0
        return False, long and (expired or wanted < 0), False, short and (expired or wanted > 0)
    # a bar in which a fill happened decides no entry; this is not called in the bar of a stop
    if wanted == 0 or was_held or before != c.i - 1:
        return False, False, False, False
    entered[0] = c.i
    return wanted > 0, False, wanted < 0, False


def backtest(data: Mapping[str, Any]) -> int:
    """Run the rule; return the number of trades."""
    close = data["mid_c"]
    slope_bps = np.zeros(len(close))
    slope_bps[LOOKBACK:] = 1e4 * (close[LOOKBACK:] / close[:-LOOKBACK] - 1)
    up, down = slope_bps >= THRESHOLD_BPS, slope_bps <= -THRESHOLD_BPS
    direction = up.astype(np.int64) - down.astype(np.int64)
    portfolio = vbt.Portfolio.from_signals(
        close,
        signal_func_nb=signals_nb,
        signal_args=(direction, np.zeros(1, np.int64), np.full(2, -1, np.int64)),
        price=data["mid_o"],
        open=data["mid_o"],
        high=data["mid_h"],
        low=data["mid_l"],
        slippage=(data["ask_o"] - data["mid_o"]) / data["mid_o"],
        sl_stop=STOP,
        tp_stop=TARGET,
        stop_exit_price="stopmarket",
        size=1.0,
        init_cash=1e6,
    )
    return int(portfolio.trades.closed.count())


def main() -> None:
    """Run over the candles of a file and print what it took, without compiling."""
    data = dict(np.load(sys.argv[1]))
    backtest({name: column[:2000] for name, column in data.items()})
    begun = time.perf_counter()
    trades = backtest(data)
    seconds = time.perf_counter() - begun
    print(json.dumps({"bars": len(data["bar_ms"]), "seconds": seconds, "trades": trades}))


if __name__ == "__main__":
    main()
