"""Bars that are not of the length they are called by, told from quiet ones of that length."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streams.candles.spacing import Spacing, other_spacing, spacing_words, uneven_spacing
from streams.instants import GRANULARITY_MS

START_MS = 1_398_902_400_000
MINUTE_MS = 60_000
NAMES = ("S5", "M1", "M5", "M15", "H1", "H4")


def bars(length_ms: int, count: int, start_ms: int = START_MS) -> NDArray[np.int64]:
    return start_ms + length_ms * np.arange(count, dtype=np.int64)


def thinned(full: NDArray[np.int64], share: float, seed: int) -> NDArray[np.int64]:
    return full[np.random.default_rng(seed).random(len(full)) < share]


@settings(deadline=None)
@given(
    st.sampled_from(NAMES),
    st.integers(0, 4_000),
    st.sampled_from((1.0, 0.97, 0.5, 0.2, 0.1, 0.03)),
    st.integers(0, 10_000),
    st.booleans(),
)
def test_quiet_bars_of_the_length_pass_however_many_are_left_out(
    name: str, count: int, share: float, seed: int, weekends: bool
) -> None:
    full = bars(GRANULARITY_MS[name], count)
    if weekends:
        full = full[(full // 86_400_000) % 7 < 5]
    assert other_spacing(thinned(full, share, seed), GRANULARITY_MS[name]) is None


@settings(deadline=None)
@given(
    st.sampled_from(NAMES),
    st.sampled_from(NAMES),
    st.integers(60, 400),
    st.sampled_from((1.0, 0.97, 0.9)),
    st.integers(0, 10_000),
)
def test_bars_of_a_longer_length_are_told_and_named(
    name: str, real: str, count: int, share: float, seed: int
) -> None:
    length, other = GRANULARITY_MS[name], GRANULARITY_MS[real]
    found = other_spacing(thinned(bars(other, count), share, seed), length)
    if other > length:
        assert found is not None
        assert found.distance_ms == other
    elif other == length:
        assert found is None


@pytest.mark.parametrize("length", [2, 5, 15, 60])
@pytest.mark.parametrize("first", ["short", "long"])
def test_two_lengths_in_one_series_are_told(length: int, first: str) -> None:
    one, other = bars(MINUTE_MS, 400), bars(length * MINUTE_MS, 40)
    if first == "long":
        one, other = other, one
    joined = np.concatenate([one, other - other[0] + one[-1] + 3_600_000])
    found = other_spacing(joined, MINUTE_MS)
    assert found is not None
    assert found.distance_ms == length * MINUTE_MS


@pytest.mark.parametrize("count", range(9))
def test_too_few_bars_say_nothing(count: int) -> None:
    assert other_spacing(bars(5 * MINUTE_MS, count), MINUTE_MS) is None
    assert uneven_spacing(bars(5 * MINUTE_MS, count), MINUTE_MS) is None


def test_a_change_of_clocks_and_a_gap_inside_the_day_pass() -> None:
    four_hours = GRANULARITY_MS["H4"]
    before = bars(four_hours, 100)
    for shift in (-3_600_000, 3_600_000):
        after = bars(four_hours, 100, int(before[-1]) + four_hours + shift)
        assert other_spacing(np.concatenate([before, after]), four_hours) is None
    hourly = np.concatenate([bars(3_600_000, 8, START_MS + 86_400_000 * day) for day in range(300)])
    assert other_spacing(hourly, 3_600_000) is None


def test_bars_that_overlap_are_told() -> None:
    found = other_spacing(bars(3_600_000, 30), GRANULARITY_MS["H4"])
    assert found == Spacing(3_600_000, START_MS)
    assert spacing_words(found.distance_ms) == "3600 s (H1)"


HOURS = [name for name in GRANULARITY_MS if name.startswith("H")]


@pytest.mark.parametrize("name", HOURS)
@pytest.mark.parametrize("other", HOURS)
def test_bars_of_hours_under_the_name_of_any_other_are_told(name: str, other: str) -> None:
    found = other_spacing(bars(GRANULARITY_MS[other], 60), GRANULARITY_MS[name])
    assert found == (None if name == other else Spacing(GRANULARITY_MS[other], START_MS))


@pytest.mark.parametrize("name", HOURS)
@pytest.mark.parametrize("share", [1.0, 0.7, 0.2])
def test_bars_of_hours_by_new_yorks_clock_with_weekends_pass(name: str, share: float) -> None:
    length, zone = GRANULARITY_MS[name] // 3_600_000, ZoneInfo("America/New_York")
    starts = []
    for day in range(7 * 52 * 6):
        opened = datetime(2010, 1, 3, 17, tzinfo=zone) + timedelta(days=day)
        if day % 7 < 5:
            first = int(opened.timestamp()) * 1000
            starts += [first + 3_600_000 * hour for hour in range(0, 24, length)]
    every = np.array(sorted(set(starts)), np.int64)
    for seed in range(3):
        assert other_spacing(thinned(every, share, seed), GRANULARITY_MS[name]) is None


def test_a_distance_that_is_no_multiple_is_told() -> None:
    assert uneven_spacing(bars(MINUTE_MS, 20), 5 * MINUTE_MS) == Spacing(MINUTE_MS, START_MS)
    assert uneven_spacing(thinned(bars(MINUTE_MS, 900), 0.3, 1), MINUTE_MS) is None
    assert spacing_words(90_000) == "90 s"
