"""Values made of columns are those of the functions that the stages use, whatever the core says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from streams.candles.calendar import FX
from streams.candles.columns import CandleColumns
from streams.config.settings import Config
from streams.core import METRICS_DTYPE
from streams.core.gate_values import Decision
from streams.core.layout import (
    DECISION_DTYPE,
    DECISION_STRUCT,
    EVALUATION_DTYPE,
    NEVER,
    TRADES_DTYPE,
)
from streams.core.stream import BarMetrics, format_signature
from streams.pipeline.columns import CandleSegment
from streams.pipeline.gate_records import Scope, decision_record, scope_of
from streams.pipeline.instrument_fold import GateOutput, Segment, Watermarks
from streams.pipeline.manifolds import manifold
from streams.pipeline.signals import signal
from streams.records.events import Candle, CandlePrices, Ohlc
from streams.records.reasons import Reason
from streams.records.topics import GATES, MANIFOLDS, SIGNALS
from streams.replay.verify.frames import FrameMaker, SegmentOutput
from tests.support.stage_bench import CODEC

T0, MINUTE, ROWS = 1_709_510_400_000, 60_000, 400
FRAMES = FrameMaker(CODEC)


def scope(**env: str) -> Scope:
    return scope_of("EUR_USD", Config.from_env(env), "0123456789abcdef", 7, "params")


def nothing() -> Segment:
    empty = np.zeros(0, np.int64)
    none = CandleColumns(empty, np.zeros((12, 0)), np.zeros(0, bool), empty)
    derived = GateOutput(
        0, *(np.zeros(0, d) for d in (METRICS_DTYPE, TRADES_DTYPE)), *_no_decisions()
    )
    return Segment(derived, none, empty, empty, np.zeros(0, np.uint8))


def _no_decisions() -> tuple[NDArray[Any], NDArray[Any]]:
    return np.zeros(0, EVALUATION_DTYPE), np.zeros(0, DECISION_DTYPE)


def output(of: Scope, found: Segment, precision: int = 2) -> SegmentOutput:
    marks = Watermarks(np.zeros(0, np.int64), np.zeros(0, np.int64))
    return SegmentOutput(of, precision, CandleSegment("EUR_USD", found.bars, marks), found)


def decisions(chance: np.random.Generator) -> NDArray[Any]:
    """Rows with every field at random, and every reason."""
    rows = np.zeros(ROWS, DECISION_DTYPE)
    for name in DECISION_DTYPE.names or ():
        kind = rows[name].dtype.kind
        if name.endswith("_ms"):
            rows[name] = T0 + MINUTE * chance.integers(0, 100_000, ROWS)
        elif kind == "f":
            rows[name] = chance.normal(0, 0.02, ROWS)
        elif kind in "iu":
            rows[name] = chance.integers(0, 5, ROWS)
    for name in rows["floors"].dtype.names or ():
        rows["floors"][name] = chance.normal(0, 0.02, ROWS)
    rows["evaluated_calmar"][chance.random(ROWS) < 0.3] = np.nan
    for name in ("has_signal", "has_evaluation", "integrity_ok", "no_candle"):
        rows[name] = chance.integers(0, 2, ROWS)
    rows["direction"] -= 2
    rows["session_flags"] = chance.integers(0, 8, ROWS)
    bits = chance.integers(0, 1 << len(Reason), ROWS, np.uint32)
    rows["reasons"] = np.where(chance.random(ROWS) < 0.1, 0, bits)
    cooling = rows["reasons"] >> list(Reason).index(Reason.COOLDOWN) & 1 != 0
    rows["cooldown_until_ms"][~cooling & (chance.random(ROWS) < 0.5)] = NEVER
    rows["next_change_ms"][chance.random(ROWS) < 0.5] = NEVER
    return rows


@pytest.mark.parametrize("mode", ["adaptive", "static", "echo"])
@pytest.mark.parametrize("hazard", ["", "0.4"])
def test_decisions(mode: str, hazard: str) -> None:
    of = scope(GATE_MODE=mode, AUTO_MAX_HAZARD=hazard) if hazard else scope(GATE_MODE=mode)
    chance = np.random.default_rng(len(mode))
    rows, metrics = decisions(chance), metrics_of(chance, 2)
    # bars that decided and, with the same times, bars that came without a candle
    bar_ms = T0 + MINUTE * np.arange(ROWS)
    rows["bar_ms"] = chance.choice(bar_ms, ROWS)
    seen = dict(zip(bar_ms.tolist(), metrics["first_seen_ms"].tolist(), strict=True))
    found = nothing()
    found = found._replace(
        bars=found.bars._replace(bar_ms=bar_ms),
        derived=found.derived._replace(decisions=rows, metrics=metrics),
    )
    made = FRAMES.decisions(output(of, found))
    wanted = []
    for fields in DECISION_STRUCT.iter_unpack(rows.tobytes()):
        one = Decision._make(fields)
        first_seen_ms = None if one.no_candle else seen[one.bar_ms]
        wanted.append(CODEC.encode(GATES, decision_record(one, of, first_seen_ms)))
    assert len(made) == ROWS
    assert made == wanted


def metrics_of(chance: np.random.Generator, precision: int) -> NDArray[Any]:
    rows = np.zeros(ROWS, METRICS_DTYPE)
    for name in METRICS_DTYPE.names or ():
        kind = rows[name].dtype.kind
        if name.endswith("_ms"):
            rows[name] = T0 + MINUTE * chance.integers(-10, 100_000, ROWS)
        elif kind == "f":
            rows[name] = chance.random(ROWS)
        elif name.startswith("sig_"):
            rows[name] = chance.integers(0, 10**precision, ROWS, endpoint=True)
        elif kind == "i":
            rows[name] = chance.integers(0, 300, ROWS)
        else:
            rows[name] = chance.integers(0, 2, ROWS)
    return rows


@pytest.mark.parametrize("precision", [0, 2, 6])
def test_bars(precision: int) -> None:
    chance = np.random.default_rng(precision)
    of = scope(ECHO_SIGNATURE_PRECISION=str(precision))
    bar_ms = T0 + MINUTE * np.cumsum(1 + (chance.random(ROWS) < 0.1) * chance.integers(1, 9, ROWS))
    before_ms = np.concatenate([[-1], bar_ms[:-1]])
    before_ms[chance.random(ROWS) < 0.02] -= 4 * 86_400_000  # over a weekend
    bars = CandleColumns(
        bar_ms,
        chance.uniform(0.5, 200.0, (12, ROWS)),
        chance.random(ROWS) < 0.7,
        chance.integers(0, 5_000, ROWS),
    )
    metrics, late = metrics_of(chance, precision), chance.integers(0, 2, ROWS).astype(np.uint8)
    derived = nothing().derived._replace(metrics=metrics)
    indices = np.arange(ROWS)
    found = Segment(derived, bars, indices, before_ms, late)
    made = FRAMES.bars(output(of, found, precision))
    wanted: tuple[list[bytes], list[bytes]] = ([], [])
    for i, row in enumerate(metrics.tolist()):
        (start, *of_window, hazard, sigma, lambda_, first, t0, t1, repeated, count, ones) = row[:15]
        c, s, e, collapsed = row[15:]
        signature = format_signature(c, s, e, precision)
        said = (start, *of_window, hazard, collapsed, signature)
        told = BarMetrics._make((*said, repeated, first, ones, sigma, lambda_, count, t0, t1))
        prices = bars.prices[:, i].tolist()
        sides = Ohlc(*prices[4:8]), Ohlc(*prices[8:])
        bid, ask = sides if bars.quoted[i] else (None, None)
        mid, volume = Ohlc(*prices[:4]), int(bars.volume[i])
        at = int(bar_ms[i])
        candle = Candle("EUR_USD", "M1", at, at + MINUTE, mid, bid, ask, False, volume, "file")
        gap = 0
        if 0 <= before_ms[i] != at - MINUTE:
            gap = FX.missing_bars(int(before_ms[i]), at, MINUTE)
        numbers = CandlePrices(mid, bid, ask, volume)
        stamp = (of.config_id, of.control_offset)
        one = signal(candle, numbers, told, stamp, volume_missing=False, gap_bars=gap)
        other = manifold(
            *(candle, numbers, told, stamp),
            volume_missing=False,
            gap_bars=gap,
            late=bool(late[i]),
        )
        wanted[0].append(CODEC.encode(SIGNALS, one))
        wanted[1].append(CODEC.encode(MANIFOLDS, other))
    assert made == wanted


def test_nothing_makes_nothing() -> None:
    empty = output(scope(), nothing())
    assert FRAMES.bars(empty) == ([], [])
    assert FRAMES.decisions(empty) == []
