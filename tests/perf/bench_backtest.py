"""The backtest and the gate: their rate, what history costs them, and peers' rates.

The peers run the nearest thing to the rule of the backtest that they can express. They are compared
with our backtest and gate under that rule, metrics at hand; the whole engine has no peer.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.candles.columns import CandleColumns
from streams.core import METRICS_DTYPE, CandleStream
from streams.core.gate import GateStream
from streams.core.gate_values import BarColumns, BarInput
from streams.core.layout import METRICS_OF_GATE, OPEN, QUOTED, rules_of
from streams.pipeline.columns import CHUNK_BARS
from streams.pipeline.instrument_fold import InstrumentFold
from tests.perf import backtest_peers
from tests.perf.backtest_columns import MINUTE_MS, config_of, market_columns, marks_of, part_of
from tests.perf.rows import ROUNDS, Row, median_seconds, one_core, row

BARS, SEED, LEAST_TRADES = 1_000_000, 1, 5_000
DAY, DAYS, WINDOW_TRADES = 1_440, 60, 10_000
HISTORY_ROUNDS = 9


def rows() -> list[Row]:
    """Measure and return the rows of the table."""
    candles = market_columns(BARS, SEED)
    with one_core():
        whole, alone = _engine(candles)
        return [whole, alone, *backtest_peers.rows(candles, alone), *_history()]


def _engine(candles: CandleColumns) -> tuple[Row, Row]:
    config = config_of()
    chunks = [part_of(candles, at, at + CHUNK_BARS) for at in range(0, BARS, CHUNK_BARS)]
    marks = [marks_of(chunk) for chunk in chunks]

    def run() -> tuple[int, int]:
        # what a chunk brings goes before the next one comes, as in a replay: to keep it all would
        # measure how the system hands out half a gigabyte
        lane, trades, evaluations = InstrumentFold("EUR_USD", config), 0, 0
        for chunk, mark in zip(chunks, marks, strict=True):
            found = lane.feed(chunk, mark)
            trades += len(found.trades)
            evaluations += len(found.evaluations)
        return trades, evaluations

    trades, evaluations = run()
    assert trades > LEAST_TRADES, f"{trades} trades are too few to measure a backtest by"
    rate = BARS / median_seconds(run)
    simple = f"the rule of the peers: slope alone, no sessions; {_gate_alone(candles):,} trades"
    alone = BARS / median_seconds(lambda: _gate_alone(candles))
    counts = f"{trades:,} trades, {evaluations:,} evaluations"
    measure = f"candles / seconds, one core, median of {ROUNDS} runs, compiled before"
    return (
        row(
            "backtest.run",
            f"metrics, rolling backtest and gate, {BARS:,} candles",
            rate,
            "candles/s",
            measure,
            note=f"target: at least 2,000,000; {counts}; a watermark after every candle",
        ),
        row(
            "backtest.alone",
            f"rolling backtest and gate alone, metrics at hand, {BARS:,} candles",
            alone,
            "candles/s",
            measure,
            note=simple + "; bid and ask, summaries, floors and gate decisions are in it",
        ),
    )


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
    note = f"{trades:,} trades in {DAYS} days"
    measure = f"seconds of a day's bars / {DAY:,} bars, one core, median of {HISTORY_ROUNDS} rounds"
    found = []
    for name, days in (("step", _by_steps(history)), ("run", _by_run(history))):
        early, late = (statistics.median(took) for took in zip(*days, strict=True))
        for when, seconds in (("2", early), (f"{DAYS}", late)):
            key, what = f"backtest.{name}_{when}", f"GateStream.{name}, day {when} of the history"
            found.append(row(key, what, seconds / DAY * 1e6, "us/bar", measure, note=note))
        what = f"GateStream.{name}, day {DAYS} against day 2"
        measure_of = f"day {DAYS} / day 2 of the same round, median of {HISTORY_ROUNDS}"
        growth = statistics.median(last / second for second, last in days)
        target = "target: at most 1.10"
        found.append(row(f"backtest.{name}_growth", what, growth, "x", measure_of, note=target))
    return found


def _gate(history: _History) -> GateStream:
    return GateStream(rules_of(history.config, "EUR_USD"))


def _by_steps(history: _History) -> list[tuple[float, float]]:
    """Return the seconds of the second day and of the last, bar by bar, of every round."""
    second, last = history.inputs(1), history.inputs(DAYS - 1)
    middle = [history.columns(day) for day in range(2, DAYS - 1)]

    def seconds(gate: GateStream, bars: list[BarInput]) -> float:
        step = gate.step
        begun = time.perf_counter()
        for bar in bars:
            step(bar)
        return time.perf_counter() - begun

    took = []
    for _ in range(HISTORY_ROUNDS):
        gate = _gate(history)
        gate.run(history.columns(0))
        early = seconds(gate, second)
        for columns in middle:
            gate.run(columns)
        took.append((early, seconds(gate, last)))
    return took


def _by_run(history: _History) -> list[tuple[float, float]]:
    """Return the seconds of the second day and of the last, a day at once, of every round."""
    days = [history.columns(day) for day in range(DAYS)]
    took = []
    for _ in range(HISTORY_ROUNDS):
        gate, seconds = _gate(history), []
        for columns in days:
            begun = time.perf_counter()
            gate.run(columns)
            seconds.append(time.perf_counter() - begun)
        took.append((seconds[1], seconds[-1]))
    return took


if __name__ == "__main__":
    for measured in rows():
        print(measured)
