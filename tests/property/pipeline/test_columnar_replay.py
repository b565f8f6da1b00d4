"""What the columnar replay derives is what the stages derive, to the last bit."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from streams.candles.calendar import calendar_of
from streams.candles.columns import NO_VOLUME, CandleColumns
from streams.config.settings import Config
from streams.feeds.synthetic import MarketRates, synthetic_market
from streams.pipeline.allocation import ACTIONS, REASONS
from streams.pipeline.chain import make_chain
from streams.pipeline.columns import ColumnarReplay, replay_series
from streams.pipeline.epochs import ClosedEpochs
from streams.pipeline.gate_records import Scope, reasons_of
from streams.pipeline.instrument_fold import NOT_NEWER, GateOutput, closed_trades
from streams.pipeline.memory import Derivation
from streams.records.control import ControlLog
from streams.records.events import (
    Candle,
    DeadLetter,
    GateDecision,
    SimulatedTrade,
    Summary,
    Weights,
)
from streams.records.log_record import SourceRecord
from streams.replay.files import control_of, derive
from streams.replay.log_columns import UNREADABLE, replay_batches
from streams.replay.report.data import ReportMeta
from streams.replay.report.page import report_json
from streams.replay.report_sink import ReportSink
from tests.support.changing_log import ENVIRONMENT, PAIRS, START_MS, a_log, changing_control
from tests.support.quiet_log import quiet_control, quiet_log
from tests.support.stage_bench import CODEC, A

CHRISTMAS_EVE_MS = 1_735_059_600_000
"""2024-12-24 17:00 UTC, a Tuesday."""
FRIDAY_MS = 1_705_078_800_000
"""2024-01-12 17:00 UTC."""


class Collected:
    """Everything a replay derives, as plain values."""

    def __init__(self) -> None:
        self.trades: list[SimulatedTrade] = []
        self.decisions: list[tuple[Any, ...]] = []
        self.summaries: list[tuple[Any, ...]] = []
        self.weights: list[tuple[Any, ...]] = []

    def derived(self, scope: Scope, found: GateOutput) -> None:
        self.trades += closed_trades(found.trades, scope)
        for row in found.evaluations:
            figures = [tuple(one)[:2] for one in row["slices"][: row["slice_count"]].tolist()]
            self.summaries.append(
                (scope.instrument, int(row["as_of_ms"]), tuple(row["floors"].tolist()), figures)
            )
        for row in found.decisions:
            self.decisions.append(
                (
                    scope.instrument,
                    int(row["as_of_ms"]),
                    reasons_of(int(row["reasons"])),
                    float(row["score"]) if row["has_signal"] else None,
                    *(int(row[n]) for n in ("passes", "fails", "misses", "direction", "position")),
                    bool(row["no_candle"]),
                )
            )

    def closed(self, epochs: ClosedEpochs) -> None:
        made, start = epochs.allocations, 0
        for place, epoch_ms in enumerate(epochs.epoch_ms.tolist()):
            entries = made.entries[start : made.ends[place]].tolist()
            start = int(made.ends[place])
            self.weights.append(
                (
                    epoch_ms,
                    ACTIONS[made.actions[place]],
                    REASONS[made.reasons[place]],
                    tuple((epochs.universe[number], *rest) for number, *rest in entries),
                    tuple(epochs.eligible[place].tolist()),
                )
            )


def columns_of(candles: list[Candle]) -> CandleColumns:
    nothing = (np.nan,) * 4
    prices = [(*c.mid, *(c.bid or nothing), *(c.ask or nothing)) for c in candles]
    return CandleColumns(
        np.array([c.bar_ms for c in candles], np.int64),
        np.ascontiguousarray(np.array(prices, np.float64).reshape(-1, 12).T),
        np.array([c.bid is not None and c.ask is not None for c in candles], bool),
        np.array([NO_VOLUME if c.volume is None else c.volume for c in candles], np.int64),
    )


def by_stages(
    config: Config, bars: list[tuple[int, tuple[Candle, ...]]], start_ms: int = START_MS
) -> Collected:
    async def collect() -> list[Any]:
        chunks = derive(config, bars, PAIRS, start_ms, bars[-1][0], 3)
        return [one.output.event async for chunk in chunks for one in chunk]

    return collected(asyncio.run(collect()))


def collected(events: Iterable[Any]) -> Collected:
    """What the stages have derived, in the form of what a replay derives."""
    made = Collected()
    for event in events:
        if isinstance(event, SimulatedTrade):
            made.trades.append(event)
        elif isinstance(event, Summary):
            figures = [(one.days, one.trades) for one in event.slices]
            made.summaries.append((event.instrument, event.as_of_ms, tuple(event.floors), figures))
        elif isinstance(event, GateDecision):
            made.decisions.append(
                (
                    event.instrument,
                    event.as_of_ms,
                    event.reasons,
                    event.score,
                    event.passes,
                    event.fails,
                    event.misses,
                    event.direction,
                    event.position,
                    event.no_candle,
                )
            )
        elif isinstance(event, Weights):
            entries = tuple(tuple(entry) for entry in event.entries)
            gates = tuple(int(gate.eligible) for gate in event.gates)
            made.weights.append((event.epoch_ms, event.action, event.reason, entries, gates))
    return made


def require_same(found: Collected, wanted: Collected) -> None:
    assert sorted(found.trades) == sorted(wanted.trades)
    assert sorted(found.decisions, key=str) == sorted(wanted.decisions, key=str)
    assert sorted(found.summaries) == sorted(wanted.summaries)
    assert found.weights == wanted.weights


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("mode", ["adaptive", "static", "echo"])
def test_whole_series_give_what_the_stages_give(seed: int, mode: str) -> None:
    rates = MarketRates(quiet=50, late=0, duplicate=0)
    market = synthetic_market(seed, PAIRS, START_MS, 700, rates=rates)
    bars = [(bar.as_of_ms, bar.candles) for bar in market]
    found = require_columns_like_stages({"GATE_MODE": mode}, bars, START_MS)
    assert len(found.trades) > 20
    assert len({action for _, action, *_ in found.weights}) > 1


@pytest.mark.parametrize(
    ("calendar", "start_ms"),
    [("fx", CHRISTMAS_EVE_MS), ("fx", FRIDAY_MS), ("continuous", FRIDAY_MS)],
    ids=["fx over Christmas", "fx over a weekend", "continuous over a weekend"],
)
def test_whole_series_keep_the_hours_of_their_calendar(calendar: str, start_ms: int) -> None:
    env = {"GATE_MODE": "static", "MARKET_CALENDAR": calendar}
    hours = calendar_of(Config.from_env(env))
    rates = MarketRates(quiet=50, late=0, duplicate=0)
    market = synthetic_market(4, PAIRS, start_ms, 500, rates=rates, calendar=hours)
    bars = [(bar.as_of_ms, bar.candles) for bar in market]
    found = require_columns_like_stages(env, bars, start_ms)
    assert found.trades
    gap_ms = max(b - a for (a, _), (b, _) in pairwise(bars))
    assert (gap_ms > 86_400_000) == (calendar == "fx")


def require_columns_like_stages(
    env: dict[str, str], bars: list[tuple[int, tuple[Candle, ...]]], start_ms: int
) -> Collected:
    config = Config.from_env(ENVIRONMENT | env)
    wanted = by_stages(config, bars, start_ms)
    found = Collected()
    until_ms = bars[-1][0]
    control = control_of(config, PAIRS, start_ms, until_ms)
    replay = ColumnarReplay(control, found)
    series = {
        name: columns_of([c for _, some in bars for c in some if c.instrument == name])
        for name in PAIRS
    }
    counted = sum(replay_series(replay, control, series))
    assert counted == sum(len(some) for _, some in bars)
    require_same(found, wanted)
    return found


def both_ways(
    log: list[SourceRecord], control: ControlLog, batch: int
) -> tuple[list[Any], Collected, ColumnarReplay]:
    """What the stages derive of a log, and what a replay of columns does: the same."""
    by_partition: dict[int, list[SourceRecord]] = {}
    for record in log:
        by_partition.setdefault(record.partition, []).append(record)
    derivation = Derivation(keeps_history=True)
    derivation.use(make_chain(CODEC, control, history=derivation.history(CODEC)).stages)
    derived = []
    for start in range(0, len(log), 500):
        part = asyncio.run(derivation.feed(log[start : start + 500]))
        derived += [one.output.event for one in part]
    found = Collected()
    replay = ColumnarReplay(control, found)
    batches = {
        partition: iter([records[i : i + batch] for i in range(0, len(records), batch)])
        for partition, records in by_partition.items()
    }
    assert sum(replay_batches(CODEC, control, replay, batches, {})) == len(log)
    require_same(found, collected(derived))
    return derived, found, replay


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("batch", [7, 64, 100_000])
def test_instruments_that_are_not_waited_for_count_as_in_the_stages(seed: int, batch: int) -> None:
    derived, _, _ = both_ways(quiet_log(seed), quiet_control(), batch)
    closed = [event for event in derived if isinstance(event, Weights)]
    older = [g for w in closed for g in w.gates if g.decided_ms < w.epoch_ms]
    assert len(closed) > 300 and len(older) > 30


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("batch", [7, 64, 100_000])
def test_a_log_with_changes_on_the_way_gives_what_the_stages_give(seed: int, batch: int) -> None:
    log, control = a_log(seed), changing_control()
    derived, found, replay = both_ways(log, control, batch)
    letters = Counter(e.reason for e in derived if isinstance(e, DeadLetter))
    unreadable = [letters[w] for w in ("truncated", "unknown_schema_id", "crossed_quote")]
    assert min(unreadable) > 3
    assert replay.refused[UNREADABLE] == sum(unreadable)
    assert replay.refused[NOT_NEWER] >= letters["out_of_order"] + letters["conflict"] > 0
    assert len(found.trades) > 30
    assert len({trade.params_id for trade in found.trades if trade.instrument == A}) >= 3
    assert {len(gates) for *_, gates in found.weights} == {3, 4}


@pytest.mark.parametrize("seed", [1, 2])
def test_a_report_is_the_same_to_the_byte_whatever_the_batches(seed: int) -> None:
    log = a_log(seed)
    control = changing_control()
    pages = set()
    for size in (5, 61, 100_000):
        sink = ReportSink()
        replay = ColumnarReplay(control, sink)
        by_partition: dict[int, list[SourceRecord]] = {}
        for record in log:
            by_partition.setdefault(record.partition, []).append(record)
        batches = {
            partition: iter([found[i : i + size] for i in range(0, len(found), size)])
            for partition, found in by_partition.items()
        }
        assert sum(replay_batches(CODEC, control, replay, batches, {})) == len(log)
        data = sink.report.finish(ReportMeta(source="a log"))
        assert data["headline"]["figures"]["trades"] > 30
        pages.add(report_json(data))
    assert len(pages) == 1
