"""Stream and batch agree with the independent reading of the formulas, and with each other."""

from __future__ import annotations

import csv
import gzip
import itertools
import random
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.core import CandleStream, build_manifold, format_signature
from tests.support import reference
from tests.support.engine_market import FIRST_BAR_MS, MINUTE_MS, candles, columns
from tests.support.reference import RefCandle

FLOATS = (
    *("coherence", "stability", "entropy", "rupture", "flip_ratio", "lambda_hazard"),
    *("sigma_eff", "lambda_"),
)
EXACT = ("window_start_ms", "collapsed", "ones", "count", "t0_ms", "t1_ms")
SIGNAL_EXACT = ("window_start_ms", "window_end_ms", "price", "window_end_price", "ones")


@st.composite
def markets(draw: st.DrawFn) -> list[RefCandle]:
    """Draw segments of different character: ties, gaps, constant stretches, coarse prices."""
    number = draw(st.integers(1, 6))
    rng = random.Random(draw(st.integers(0, 2**32)))
    made: list[RefCandle] = []
    bar, price = FIRST_BAR_MS, draw(st.integers(50, 200_000))
    scale = draw(st.sampled_from([1.0, 1e-2, 1e-5]))
    for _ in range(number):
        length = draw(st.integers(1, 400))
        move = draw(st.integers(0, 12))  # 0: a constant stretch
        ticks = draw(st.integers(0, 30))
        gap = draw(st.sampled_from([0.0, 0.05, 0.5]))
        for _ in range(length):
            bar += MINUTE_MS * (rng.randrange(1, 3000) if rng.random() < gap else 1)
            price = max(price + rng.randint(-move, move), 40)
            high, low = price + rng.randint(0, move), price - rng.randint(0, move)
            volume = rng.randint(0, ticks)
            made.append(RefCandle(bar, high * scale, low * scale, price * scale, volume))
    return made


def rounding_is_safe(signal: Mapping[str, Any], precision: int) -> bool:
    """Whether no value is so near a half that 1e-9 decides how it is rounded."""
    values = [signal[name] * 10**precision for name in ("coherence", "stability", "entropy")]
    return all(abs(value % 1 - 0.5) > 1e-9 * 10**precision for value in values)


def assert_record(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for name in EXACT:
        assert found[name] == wanted[name], name
    for name in FLOATS:
        assert found[name] == pytest.approx(wanted[name], abs=1e-9), name


@settings(deadline=None, max_examples=40)
@given(
    tape=markets(),
    candle_count=st.integers(129, 1500),
    lookback_minutes=st.integers(1, 1440),
    precision=st.integers(0, 6),
    where=st.lists(st.floats(0, 1), min_size=1, max_size=3),
)
def test_stream_records_equal_the_formulas(
    tape: list[RefCandle],
    candle_count: int,
    lookback_minutes: int,
    precision: int,
    where: list[float],
) -> None:
    found = CandleStream(candle_count, lookback_minutes, precision).run(*columns(tape))
    assert len(found) == max(len(tape) - 128, 0)
    for share in {*where, 1.0} if len(found) else ():
        row = found[round(share * (len(found) - 1))]
        end = [candle.bar_ms for candle in tape].index(row["t1_ms"]) + 1
        wanted = reference.stream_record(tape[:end], candle_count, lookback_minutes, precision)
        assert wanted is not None
        record = dict(zip(found.dtype.names, row.item(), strict=True))
        assert_record(record, wanted)
        recent = tape[max(end - candle_count, 0) : end]
        if all_roundings_are_safe(recent, precision, lookback_minutes):
            buckets = (record["sig_c"], record["sig_s"], record["sig_e"])
            assert format_signature(*buckets, precision) == wanted["signature"]
            assert record["count_1h"] == wanted["count_1h"]
            assert record["first_seen_ms"] == wanted["first_seen_ms"]


def all_roundings_are_safe(recent: list[RefCandle], precision: int, lookback_minutes: int) -> bool:
    n_bits = len(recent) - 1
    ends = [end for end in range(n_bits, 127, -4) if n_bits - end <= 512]
    signals = reference.signals_at(recent, 128, ends[::-1], precision, lookback_minutes)
    return all(rounding_is_safe(signal, precision) for signal in signals)


@settings(deadline=None, max_examples=40)
@given(tape=markets(), lookback_minutes=st.integers(1, 1440), precision=st.integers(0, 6))
def test_batches_equal_the_formulas(
    tape: list[RefCandle], lookback_minutes: int, precision: int
) -> None:
    given_parameters = {"precision": precision, "lookback_minutes": lookback_minutes}
    found = build_manifold(*columns(tape), **given_parameters)
    wanted = reference.build_manifold(tape, **given_parameters)
    assert (found.count, len(found.signals)) == (wanted["count"], len(wanted["signals"]))
    assert found.sigma_eff == pytest.approx(wanted["sigma_eff"], abs=1e-9)
    assert found.lambda_ == pytest.approx(wanted["lambda_"], abs=1e-9)
    safe = all(rounding_is_safe(signal, precision) for signal in wanted["signals"])
    for row, signal in zip(found.signals, wanted["signals"], strict=True):
        for name in SIGNAL_EXACT:
            assert row[name] == signal[name], name
        for name in FLOATS[:6]:
            assert row[name] == pytest.approx(signal[name], abs=1e-9), name
        if safe:
            assert (row["count_1h"], row["first_seen_ms"]) == (
                signal["count_1h"],
                signal["first_seen_ms"],
            )


def recorded_minutes(shared_data: Path, number: int) -> list[RefCandle]:
    """Return mid candles of a recorded EUR_USD month."""
    with gzip.open(shared_data / "oanda-EUR_USD-M1-2014-05.csv.gz", "rt") as text:
        rows = list(itertools.islice(csv.DictReader(text), number))

    def mid(row: dict[str, str], part: str) -> float:
        return (float(row[f"bid_{part}"]) + float(row[f"ask_{part}"])) / 2

    def start(row: dict[str, str]) -> int:
        return int(datetime.fromisoformat(row["time"]).timestamp()) * 1000

    return [
        RefCandle(start(row), mid(row, "h"), mid(row, "l"), mid(row, "c"), int(row["volume"]))
        for row in rows
    ]


def aligned_batch(
    tape: list[RefCandle], end: int, candle_count: int, precision: int, lookback_minutes: int
) -> dict[str, Any]:
    """Return what the batch says at candle ``end``, its window grid counted from the last bit."""
    recent = tape[max(end - candle_count, 0) : end]
    # The batch's grid begins at its first bit (or 512 before its last): the right remainder
    # modulo the step puts a window on the last bit.
    spare = (len(recent) - 1 - 128) % 4 if len(recent) - 1 - 128 <= 512 else 0
    parameters = {"precision": precision, "lookback_minutes": lookback_minutes}
    found = build_manifold(*columns(recent[spare:]), **parameters)
    whole = build_manifold(*columns(recent), **parameters)
    last = found.signals[-1]
    assert last["window_end_ms"] == recent[-1].bar_ms
    names = [name for name in found.signals.dtype.names if not name.startswith("window_end")]
    return {name: last[name].item() for name in names} | {
        "lambda_": found.lambda_,
        "sigma_eff": whole.sigma_eff,
        "count": whole.count,
        "t0_ms": whole.t0_ms,
        "t1_ms": whole.t1_ms,
    }


@pytest.mark.parametrize(
    ("candle_count", "lookback_minutes", "precision"), [(700, 60, 2), (300, 1440, 1)]
)
def test_the_record_of_every_bar_equals_the_batch_over_the_last_candles(
    shared_data: Path | None, candle_count: int, lookback_minutes: int, precision: int
) -> None:
    tape = recorded_minutes(shared_data, 1500) if shared_data else candles(1500, seed=31)
    found = CandleStream(candle_count, lookback_minutes, precision).run(*columns(tape))
    # With fewer than 132 bits the original's windows are not 128 bits long, or end elsewhere.
    for end, row in zip(range(133, len(tape) + 1), found[4:], strict=True):
        wanted = aligned_batch(tape, end, candle_count, precision, lookback_minutes)
        for name in found.dtype.names:
            if name in ("sigma_eff", "lambda_"):
                assert row[name] == pytest.approx(wanted[name], abs=1e-12), (end, name)
            else:
                assert row[name].item() == wanted[name], (end, name)
