"""The synthetic market: the same for a seed everywhere, and as lively as a real one."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import pytest

from streams.candles.calendar import FX
from streams.candles.rules import candle_refusal
from streams.feeds.synthetic import MarketRates, synthetic_market
from streams.instants import GRANULARITY_MS
from streams.records.events import Candle

PAIRS = ("EUR_USD", "USD_JPY", "XAU_USD")
# Friday 2024-03-08 12:00 UTC: the weekend comes within the bars that are made
FRIDAY_MS = 1_709_899_200_000
MINUTE_MS = 60_000
BARS = 3_000
SHA256 = "930c89907f0ee6e8b164849c86507e3865034ea972af5f2400b5a2dfa3830e68"

PRINT_HASH = """
import hashlib
from streams.feeds.synthetic import synthetic_market
made = hashlib.sha256()
for bar in synthetic_market(7, ("USD_JPY", "EUR_USD", "XAU_USD"), 1709899200000, 3000):
    made.update(repr(bar).encode())
print(made.hexdigest())
"""


def candles(seed: int = 7, pairs: tuple[str, ...] = PAIRS) -> list[Candle]:
    return [c for bar in synthetic_market(seed, pairs, FRIDAY_MS, BARS) for c in bar.candles]


def test_the_bytes_of_a_seed_are_known() -> None:
    made = hashlib.sha256()
    for bar in synthetic_market(7, PAIRS, FRIDAY_MS, BARS):
        made.update(repr(bar).encode())
    assert made.hexdigest() == SHA256


@pytest.mark.parametrize("hash_seed", ["0", "4242"])
def test_another_process_with_another_hash_seed_makes_the_same(hash_seed: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PRINT_HASH],
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == SHA256


def test_another_seed_makes_another_market() -> None:
    assert candles(7) != candles(8)


def test_an_instrument_does_not_depend_on_which_others_there_are() -> None:
    alone = candles(pairs=("EUR_USD",))
    among = [c for c in candles() if c.instrument == "EUR_USD"]
    assert sorted(alone) == sorted(among)


def test_a_longer_market_begins_like_a_shorter_one() -> None:
    short = list(synthetic_market(7, PAIRS, FRIDAY_MS, 500))
    endless = synthetic_market(7, PAIRS, FRIDAY_MS, None)
    assert [next(endless) for _ in short] == short


def test_every_candle_is_one_that_enters() -> None:
    for candle in candles():
        assert candle_refusal(candle, candle.instrument.encode()) is None


def test_weekends_are_closed_and_no_other_bar_is_left_out() -> None:
    starts = [bar.as_of_ms - MINUTE_MS for bar in synthetic_market(7, PAIRS, FRIDAY_MS, BARS)]
    assert len(starts) == BARS
    for start in starts:
        assert FX.is_open(start)
    gaps = Counter(b - a for a, b in pairwise(starts))
    assert gaps.pop(MINUTE_MS) == BARS - 2
    (gap,) = gaps
    # New York goes over to summer time in that night: an hour less than 48 hours and 6 minutes
    assert gap == (47 * 60 + 6 + 1) * MINUTE_MS


def test_quiet_late_and_double_candles_happen_about_as_often_as_asked() -> None:
    rates = MarketRates(quiet=50, late=20, duplicate=30)
    late = double = missing = 0
    for bar in synthetic_market(7, PAIRS, FRIDAY_MS, BARS, rates=rates):
        counted = Counter(c.instrument for c in bar.candles if c.as_of_ms == bar.as_of_ms)
        late += sum(c.as_of_ms < bar.as_of_ms for c in bar.candles)
        double += sum(count == 2 for count in counted.values())
        missing += len(PAIRS) - len(counted)
    of = BARS * len(PAIRS)
    assert late == pytest.approx(0.020 * of, rel=0.3)
    assert double == pytest.approx(0.030 * of, rel=0.3)
    assert missing == pytest.approx(0.070 * of, rel=0.3)


def test_without_the_unusual_every_bar_is_full_and_comes_once() -> None:
    rates = MarketRates(quiet=0, late=0, duplicate=0)
    for bar in synthetic_market(7, PAIRS, FRIDAY_MS, 500, rates=rates):
        assert [c.instrument for c in bar.candles] == sorted(PAIRS)
        assert {c.as_of_ms for c in bar.candles} == {bar.as_of_ms}


@pytest.mark.parametrize("bars", [1, 400, 8_000, 20_000])
@pytest.mark.parametrize("day", range(7))
def test_a_market_that_starts_as_said_has_ended_by_now_and_not_long_ago(
    bars: int, day: int
) -> None:
    now_ms = FRIDAY_MS + day * 86_400_000 + 12_345
    start_ms = FX.start_of_last_bars_ms(now_ms, bars, MINUTE_MS)
    assert start_ms % MINUTE_MS == 0
    *_, last = synthetic_market(7, (), start_ms, bars)
    assert last.as_of_ms <= now_ms
    # not even one bar more fits in, closed hours aside
    after = next(iter(synthetic_market(7, (), last.as_of_ms, 1)))
    assert after.as_of_ms > now_ms or now_ms - last.as_of_ms < GRANULARITY_MS["M1"]
