"""Published reference vectors, the table of windows, signatures, and what is refused."""

from __future__ import annotations

import math

import cppyy
import numpy as np
import pytest

from streams.core import (
    CandleStream,
    analyze_bits,
    build_manifold,
    check_candle,
    format_signature,
    load,
    window_grid,
)
from streams.errors import Fatal
from tests.support import reference
from tests.support.engine_market import FIRST_BAR_MS, MINUTE_MS, candles, columns, market


def bits(text: str) -> list[int]:
    return [int(char) for char in text]


@pytest.mark.parametrize(
    ("text", "coherence", "stability", "entropy", "rupture"),
    [
        ("0" * 32, 0.679, 1.0, 0.05, 0.0),
        ("01" * 16, 0.90786788, 1.0, 0.05, 0.0),
        ("1" * 32, 0.59683342, 0.0, 0.05, 1.0),
        ("00110100", 0.378063, 6 / 7, 0.869895, 1 / 7),
        ("01101110", 0.441329, 4 / 7, 0.621595, 3 / 7),
        ("1" * 11, 0.621894, 0.0, 0.05, 1.0),
        ("01" * 6, 0.907849, 1.0, 0.05, 0.0),
    ],
)
def test_reference_vector(
    text: str,
    coherence: float,
    stability: float,
    entropy: float,
    rupture: float,
) -> None:
    found = analyze_bits(bits(text))
    assert found.coherence == pytest.approx(coherence, abs=1e-6)
    assert found.entropy == pytest.approx(entropy, abs=1e-6)
    assert (found.stability, found.rupture) == pytest.approx((stability, rupture), abs=1e-15)
    assert found.lambda_hazard == found.rupture
    assert found.collapsed is (rupture == 1.0)


@pytest.mark.parametrize("length", [1, 2, 3, 8, 10, 11, 12, 19, 20, 21, 64, 128, 129, 1024])
def test_metrics_of_any_length_equal_the_formulas(length: int) -> None:
    rng = np.random.default_rng(length)
    window = (rng.random(length) < 0.4).astype(int).tolist()
    found, wanted = analyze_bits(window)._asdict(), reference.analyze(window)
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value, abs=1e-9), name
    assert (found["nulls"], found["flips"], found["ruptures"]) == reference.pair_counts(window)


@pytest.mark.parametrize(("ruptures", "collapsed"), [(63, False), (64, True)])
def test_a_window_collapses_when_half_of_its_pairs_are_ruptures(
    ruptures: int, collapsed: bool
) -> None:
    found = analyze_bits([1] * (ruptures + 1) + [0] * (127 - ruptures))
    assert (found.ruptures, found.collapsed) == (ruptures, collapsed)


@pytest.mark.parametrize("wrong", [[], [0, 2], [0, -1], [0.5], [0] * 1025, [[0, 1]]])
def test_what_is_not_a_list_of_bits_is_refused(wrong: list[object]) -> None:
    with pytest.raises(Fatal, match="bits"):
        analyze_bits(wrong)


@pytest.mark.parametrize(
    ("length", "window", "first", "step", "windows"),
    [
        (8, 8, 8, 1, 1),
        (9, 9, 9, 1, 1),
        (12, 9, 9, 1, 4),
        (13, 12, 12, 1, 2),
        (24, 12, 12, 1, 13),
        (25, 19, 19, 1, 7),
        (40, 32, 32, 1, 9),
        (128, 120, 120, 3, 3),
        (129, 128, 128, 4, 1),
        (131, 128, 128, 4, 1),
        (640, 128, 128, 4, 129),
        (641, 128, 129, 4, 129),
        (1439, 128, 927, 4, 129),
    ],
)
def test_window_table(length: int, window: int, first: int, step: int, windows: int) -> None:
    assert window_grid(length) == (window, first, step, windows)


@pytest.mark.parametrize("length", range(8))
def test_fewer_than_eight_bits_have_no_windows(length: int) -> None:
    assert window_grid(length).windows == 0


@pytest.mark.parametrize("length", range(8, 800, 7))
def test_every_window_grid_follows_the_rule(length: int) -> None:
    assert window_grid(length) == reference.grid(length)


@pytest.mark.parametrize(
    ("value", "scale", "bucket"),
    [
        (0.125, 100.0, 13),
        (0.375, 100.0, 38),
        (0.5, 1.0, 1),
        (0.49999999999999994, 1.0, 0),
        (0.25, 10.0, 3),
        (0.75, 10.0, 8),
        (1.0, 1e6, 1_000_000),
        (0.0, 1e6, 0),
    ],
)
def test_signature_values_round_half_away_from_zero(
    value: float, scale: float, bucket: int
) -> None:
    load()
    assert cppyy.gbl.manifold.bucket_of(value, scale) == bucket


@pytest.mark.parametrize(
    ("precision", "text"),
    [
        (0, "c1_s1_e0"),
        (1, "c0.5_s1.0_e0.1"),
        (2, "c0.47_s1.00_e0.05"),
        (3, "c0.470_s1.000_e0.050"),
        (4, "c0.4700_s1.0000_e0.0500"),
        (5, "c0.47000_s1.00000_e0.05000"),
        (6, "c0.470000_s1.000000_e0.050000"),
    ],
)
def test_signature_text_is_fixed_notation(precision: int, text: str) -> None:
    values = {0: (1, 1, 0), 1: (5, 10, 1)}
    unit = 10**precision
    buckets = values.get(precision, (47 * unit // 100, unit, 5 * unit // 100))
    assert format_signature(*buckets, precision) == text


@pytest.mark.parametrize("precision", range(7))
def test_signatures_of_a_stream_are_its_own_metrics_rounded(precision: int) -> None:
    stream = CandleStream(300, 60, precision)
    checked = 0
    for candle in candles(400, seed=3):
        found = stream.step(*candle)
        if found is not None:
            assert found.signature == reference.signature(found._asdict(), precision)
            checked += 1
    assert checked == 400 - 128


def test_a_constant_tape_counts_as_rising() -> None:
    tape = [reference.RefCandle(FIRST_BAR_MS + i * MINUTE_MS, 1.1, 1.1, 1.1, 7) for i in range(700)]
    found = CandleStream(700, 60, 2).run(*columns(tape))[-1]
    assert (found["ones"], found["rupture"], bool(found["collapsed"])) == (128, 1.0, True)
    assert (found["stability"], found["entropy"]) == (0.0, 0.05)
    assert found["sigma_eff"] == 0.0
    assert found["lambda_"] == pytest.approx(1 - math.exp(-60 * 128 / (128 * 240)), abs=1e-12)
    assert found["count_1h"] == 16
    assert found["first_seen_ms"] == found["window_start_ms"] - 60 * MINUTE_MS


def test_the_stamp_of_a_window_is_the_candle_after_its_first_bit_begins() -> None:
    tape = market(129, seed=5)
    found = CandleStream(1500, 60, 2).run(*tape)
    assert len(found) == 1
    assert found["window_start_ms"][0] == tape.bar_ms[1]
    assert (found["t0_ms"][0], found["t1_ms"][0]) == (tape.bar_ms[0], tape.bar_ms[-1])


def test_a_batch_without_candles_has_no_signals() -> None:
    found = build_manifold([], [], [], [], [], precision=2, lookback_minutes=60)
    assert (len(found.signals), found.count, found.t0_ms, found.t1_ms) == (0, 0, None, None)
    assert (found.sigma_eff, found.lambda_) == (0.0, 0.0)


BAD_CANDLES = {
    "a price is not a finite number": [
        (0, math.nan, 1.0, 1.0, 0),
        (0, math.inf, 1.0, 1.0, 0),
        (0, 1.0, -math.inf, 1.0, 0),
        (0, 1.0, 1.0, math.nan, 0),
    ],
    "a price is not positive": [(0, 1.0, 0.0, 1.0, 0), (0, 1.0, 1.0, -1.0, 0)],
    "a price is outside 1e-12 to 1e12": [(0, 1e13, 1.0, 1.0, 0), (0, 1.0, 1.0, 1e-13, 0)],
    "high is below low": [(0, 1.0, 1.1, 1.0, 0)],
    "volume is negative": [(0, 1.1, 1.0, 1.0, -1)],
}
Candle = tuple[int, float, float, float, int]


@pytest.mark.parametrize(
    ("reason", "candle"),
    [(reason, candle) for reason, group in BAD_CANDLES.items() for candle in group],
)
def test_a_bad_candle_is_refused_with_its_reason_and_changes_nothing(
    reason: str, candle: Candle
) -> None:
    assert check_candle(*candle) == reason
    stream, good = CandleStream(200, 60, 2), market(150, seed=8)
    stream.run(*good)
    before = stream.to_bytes()
    bad = (int(good.bar_ms[-1]) + MINUTE_MS, *candle[1:])
    with pytest.raises(Fatal, match=f"candle {bad[0]}: {reason}"):
        stream.step(*bad)
    columns_with_bad = [np.append(market(3, 9)[i], candle[i]) for i in range(5)]
    columns_with_bad[0] = bad[0] + np.arange(4) * MINUTE_MS
    with pytest.raises(Fatal, match=f"candle 3 of 4 .*: {reason}"):
        stream.run(*columns_with_bad)
    assert stream.to_bytes() == before


@pytest.mark.parametrize("late_ms", [0, 1, MINUTE_MS])
def test_a_candle_not_after_the_one_before_is_refused(late_ms: int) -> None:
    stream = CandleStream(200, 60, 2)
    stream.step(FIRST_BAR_MS, 1.1, 1.0, 1.05, 3)
    late = (FIRST_BAR_MS - late_ms, 1.1, 1.0, 1.05, 3)
    assert check_candle(*late, FIRST_BAR_MS) == "bar_ms is not after the previous candle"
    with pytest.raises(Fatal, match="bar_ms is not after the previous candle"):
        stream.step(*late)
    assert (stream.seen, stream.last_bar_ms) == (1, FIRST_BAR_MS)


@pytest.mark.parametrize(
    "parameters",
    [(128, 60, 2), (20_001, 60, 2), (300, 0, 2), (300, 1441, 2), (300, 60, -1), (300, 60, 7)],
)
def test_parameters_out_of_bounds_are_refused(parameters: tuple[int, int, int]) -> None:
    with pytest.raises(Fatal, match="129 to 20000 candles, 1 to 1440 minutes, 0 to 6 decimals"):
        CandleStream(*parameters)


def test_columns_of_different_lengths_or_kinds_are_refused_by_name() -> None:
    tape = market(10, seed=1)
    stream = CandleStream(200, 60, 2)
    with pytest.raises(Fatal, match="column volume has 9 values, bar_ms 10"):
        stream.run(*tape[:4], tape.volume[:-1])
    with pytest.raises(Fatal, match="column bar_ms is of type float64"):
        stream.run(tape.bar_ms.astype(float), *tape[1:])
    assert stream.seen == 0


def test_a_batch_names_the_bad_candle_or_the_parameter() -> None:
    tape = market(200, seed=1)
    close = tape.close.copy()
    close[150] = math.nan
    with pytest.raises(Fatal, match="candle 150 of 200: a price is not a finite number"):
        build_manifold(*tape[:3], close, tape.volume, precision=2, lookback_minutes=60)
    bar_ms = tape.bar_ms.copy()
    bar_ms[20] = bar_ms[19]
    with pytest.raises(Fatal, match="candle 20 of 200: bar_ms is not after the previous candle"):
        build_manifold(bar_ms, *tape[1:], precision=2, lookback_minutes=60)
    with pytest.raises(Fatal, match="manifold: a parameter is out of bounds"):
        build_manifold(*tape, precision=7, lookback_minutes=60)
