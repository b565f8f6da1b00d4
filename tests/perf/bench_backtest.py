"""The backtest and the gate: their rate, what history costs them, their state, and peers' rates.

Ours computes the metrics of every window, the whole rule of the backtest with bid and ask, an
evaluation every 15 minutes and a decision per bar; the peers run the nearest thing to the rule that
they can express, and their rows say what they leave out.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.engine import METRICS_DTYPE, CandleStream
from streams.engine.gate import GateStream
from streams.engine.gate_layout import METRICS_OF_GATE, OPEN, QUOTED, BarColumns, BarInput, rules_of
from streams.feed.columns import CandleColumns
from streams.replay.columnar import CHUNK_BARS
from streams.replay.lanes import Lane
from tests.perf import bench_state, peers
from tests.perf.backtest_columns import MINUTE_MS, config_of, market_columns, marks_of, part_of

Row = dict[str, Any]
BARS, SEED, LEAST_TRADES = 1_000_000, 1, 5_000
DAY, DAYS, WINDOW_TRADES = 1_440, 60, 10_000
ROUNDS = 15


def rows() -> list[Row]:
    """Measure and return the rows of the table."""
    candles = market_columns(BARS, SEED)
    engine = _engine(candles)
    return [*engine, *peers.rows(candles, engine), *_history(), *bench_state.rows()]


def best_seconds(work: Callable[[], object], rounds: int = 5) -> float:
    """Return the shortest of some runs: others use the machine too."""
    took = []
    for _ in range(rounds):
        begun = time.perf_counter()
        work()
        took.append(time.perf_counter() - begun)
    return min(took)


def _engine(candles: CandleColumns) -> list[Row]:
    config = config_of()
    chunks = [part_of(candles, at, at + CHUNK_BARS) for at in range(0, BARS, CHUNK_BARS)]
    marks = [marks_of(chunk) for chunk in chunks]

    def run() -> tuple[int, int]:
        # what a chunk brings goes before the next one comes, as in a replay: to keep it all would
        # measure how the system hands out half a gigabyte
        lane, trades, evaluations = Lane("EUR_USD", config), 0, 0
        for chunk, mark in zip(chunks, marks, strict=True):
            found = lane.feed(chunk, mark)
            trades += len(found.trades)
            evaluations += len(found.evaluations)
        return trades, evaluations

    trades, evaluations = run()
    assert trades > LEAST_TRADES, f"{trades} trades are too few to measure a backtest by"
    rate = BARS / best_seconds(run)
    simple = f"the rule of the peers: slope alone, no sessions; {_gate_alone(candles):,} trades"
    alone = BARS / best_seconds(lambda: _gate_alone(candles))
    counts = f"{trades:,} trades, {evaluations:,} evaluations"
    return [
        {
            "name": "engine run: metrics, backtest and gate, 1M candles, one core",
            "value": rate,
            "unit": "candles/s",
            "ratios": {},
            "note": f"target: at least 2,000,000; {counts}; a watermark after every candle",
        },
        {
            "name": "of that backtest and gate alone, metrics at hand",
            "value": alone,
            "unit": "candles/s",
            "ratios": {},
            "note": simple,
        },
    ]


def _gate_alone(candles: CandleColumns) -> int:
    """Run backtest and gate over constant metrics; return the number of trades."""
    config = config_of(AUTO_DIRECTION_MODE="slope", SESSION_TRADING_ENABLED="0")
    gate = GateStream(rules_of(config, "EUR_USD"))
    metrics = np.zeros(CHUNK_BARS, METRICS_DTYPE)
    metrics["coherence"], metrics["count_1h"] = 0.6, 1
    trades = 0
    for begin in range(0, len(candles.bar_ms), CHUNK_BARS):
        bars = part_of(candles, begin, begin + CHUNK_BARS)
        trades += len(gate.run(_columns(bars, metrics[: len(bars.bar_ms)]))[0])
    return trades


def _columns(bars: CandleColumns, metrics: NDArray[Any]) -> BarColumns:
    count = len(bars.bar_ms)
    flags = np.full(count, OPEN | QUOTED, np.int32)
    change_ms = bars.bar_ms + DAY * MINUTE_MS
    return BarColumns(bars.bar_ms, list(bars.prices), metrics, flags, change_ms, MINUTE_MS)


class _History:
    """60 days of one instrument under rules that trade every few bars."""

    def __init__(self) -> None:
        self.config = config_of(
            AUTO_DIRECTION_MODE="slope",
            AUTO_DIRECTION_LOOKBACK="3",
            AUTO_DIR_THRESHOLD_BPS="0.3",
            PM_DEFAULT_HOLD_SECONDS="120",
            SESSION_TRADING_ENABLED="0",
        )
        bars = market_columns(DAY * DAYS + 128, SEED, weekends=True)
        stream = CandleStream(
            self.config.candle_count,
            self.config.echo_lookback_minutes,
            self.config.echo_signature_precision,
        )
        self.metrics = stream.run(bars.bar_ms, *bars.prices[1:4], bars.volume)
        self.bars = part_of(bars, 128, DAY * DAYS + 128)

    def columns(self, day: int) -> BarColumns:
        """Return a day's bars, the first day being 0."""
        span = np.s_[day * DAY : (day + 1) * DAY]
        return _columns(self.bars.where(span), np.ascontiguousarray(self.metrics[span]))

    def inputs(self, day: int) -> list[BarInput]:
        """Return a day's bars one by one."""
        found = self.columns(day)
        metrics = np.stack([found.metrics[name] for name in METRICS_OF_GATE], axis=1)
        return [
            BarInput(
                bar_ms,
                bar_ms + MINUTE_MS,
                tuple(prices),
                tuple(of_bar),
                count,
                bar_ms + DAY * MINUTE_MS,
                OPEN | QUOTED,
            )
            for bar_ms, prices, of_bar, count in zip(
                found.bar_ms.tolist(),
                np.stack(list(found.prices), axis=1).tolist(),
                metrics.tolist(),
                found.metrics["count_1h"].tolist(),
                strict=True,
            )
        ]


def _history() -> list[Row]:
    history = _History()
    trades = len(_gate(history).run(_columns(history.bars, history.metrics))[0])
    assert trades >= WINDOW_TRADES, f"{trades} trades in {DAYS} days are not {WINDOW_TRADES}"
    note = f"{trades:,} trades in {DAYS} days; shortest of {ROUNDS} rounds"
    found = []
    for name, early, late in (
        ("GateStream.step", *_by_steps(history)),
        ("GateStream.run", *_by_run(history)),
    ):
        for when, seconds in (("day 2", early), (f"day {DAYS}", late)):
            value = seconds / DAY * 1e6
            row: Row = {"name": f"{name}, {when} of the history", "value": value, "unit": "us/bar"}
            found.append(row | {"ratios": {}, "note": note})
        row = {"name": f"{name}, day {DAYS} / day 2", "value": late / early, "unit": "x"}
        found.append(row | {"ratios": {}, "note": "target: at most 1.10"})
    return found


def _gate(history: _History) -> GateStream:
    return GateStream(rules_of(history.config, "EUR_USD"))


def _by_steps(history: _History) -> tuple[float, float]:
    """Return the seconds of the second day and of the last, bar by bar."""
    second, last = history.inputs(1), history.inputs(DAYS - 1)
    middle = [history.columns(day) for day in range(2, DAYS - 1)]

    def seconds(gate: GateStream, bars: list[BarInput]) -> float:
        step = gate.step
        begun = time.perf_counter()
        for bar in bars:
            step(bar)
        return time.perf_counter() - begun

    took = []
    for _ in range(ROUNDS):
        gate = _gate(history)
        gate.run(history.columns(0))
        early = seconds(gate, second)
        for columns in middle:
            gate.run(columns)
        took.append((early, seconds(gate, last)))
    return min(early for early, _ in took), min(late for _, late in took)


def _by_run(history: _History) -> tuple[float, float]:
    """Return the seconds of the second day and of the last, a day at once."""
    days = [history.columns(day) for day in range(DAYS)]
    took = []
    for _ in range(ROUNDS):
        gate, seconds = _gate(history), []
        for columns in days:
            begun = time.perf_counter()
            gate.run(columns)
            seconds.append(time.perf_counter() - begun)
        took.append(seconds)
    return min(one[1] for one in took), min(one[-1] for one in took)


if __name__ == "__main__":
    for measured in rows():
        print(measured)
