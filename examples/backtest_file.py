"""Backtest candle files from Python: the engine of the live system, no broker.

python examples/backtest_file.py EUR_USD-M1.csv.gz NZD_USD-M1.csv.gz
"""

from __future__ import annotations

import sys

from streams.instants import clock
from streams.replay.jobs import FileJob

# any setting can be changed; the others come from the environment or have their default
SETTINGS = {
    "GATE_MODE": "static",
    "AUTO_MIN_COHERENCE": "0.45",
    "AUTO_MAX_ENTROPY": "0.95",
    "SESSION_PATTERN_MIN_OCCURRENCES": "1",
}


def main(files: list[str]) -> None:
    job = FileJob(from_ms=None, to_ms=None, instruments=(), settings=SETTINGS, files=tuple(files))
    for candles in job.columns():  # runs the backtest; yields the number of candles of each step
        print(f"{candles:,} candles", file=sys.stderr)
    report = job.report(interrupted=False)
    print(f"{job.candles:,} candles, {job.signals:,} signals")
    for row in report["table"]:
        figures = row["figures"]
        print(
            f"{row['instrument']}: {figures['trades']:,} trades, {figures['pnl_bps']:.1f} bps, "
            f"drawdown {figures['max_drawdown_bps']:.1f} bps, eligible {row['eligible_share']:.1%}"
        )
    trades = report["trades"]["columns"]
    for exit_ms, pnl_bps in list(zip(trades["as_of_ms"], trades["pnl_bps"], strict=True))[-5:]:
        print(f"  closed {clock(exit_ms)}: {pnl_bps:+.1f} bps")


if __name__ == "__main__":
    main(sys.argv[1:] or sys.exit(__doc__))
