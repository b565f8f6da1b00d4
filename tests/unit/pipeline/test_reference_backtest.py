"""The plain simulator of the backtest against tables worked out by hand."""

from __future__ import annotations

import hashlib
import math
import random
from dataclasses import replace
from typing import Any, ClassVar

import empyrical
import numpy as np
import pytest

from streams.records.events import Ohlc
from tests.support import backtest_market as made
from tests.support.reference_backtest import (
    DAY_MS,
    HOUR_MS,
    Bar,
    Outcome,
    Rules,
    Run,
    band,
    decide_without_candle,
    max_drawdown,
    near_close_at,
    percentile,
    sharpe,
    simulate,
    sortino,
)
from tests.support.reference_stages import ms, near_close

MINUTE = 60_000
T0 = ms(2024, 1, 10, 10)  # a Wednesday
HALF = 0.01  # half the spread: 1 bp of 100
GOOD = (0.9, 0.9, 0.1, 0.1, 0.1, 5)
FREE = Rules(
    auto_direction_lookback=1,
    exit_slope_enabled=False,
    exit_pnl_target_pct=10.0,
    exit_pnl_stop_pct=10.0,
    pm_default_hold_seconds=86_400,
    session_trading_enabled=False,
    eval_slices_days=(1, 2),
    eval_span_days=2,
    eval_interval_sec=60,
    params_id="p",
)
UP = [(100.0, 100.0, 100.0, 100.0), (100.0, 100.1, 100.0, 100.1)]
"""Two bars at whose close a rise of 10 bps is seen: an entry at the open of the next."""
DOWN = [(100.0, 100.0, 100.0, 100.0), (100.0, 100.0, 99.9, 99.9)]


def tape(
    *rows: tuple[float, ...], half: float | None = HALF, start_ms: int = T0, **changes: Any
) -> list[Bar]:
    """Bars a minute apart; a row is open, high, low, close of mid and perhaps the coherence."""
    bars = []
    for n, (opened, high, low, close, *coherence) in enumerate(rows):
        mid = Ohlc(opened, high, low, close)
        bid = None if half is None else Ohlc(*(price - half for price in mid))
        ask = None if half is None else Ohlc(*(price + half for price in mid))
        start = start_ms + n * MINUTE
        metrics = (*coherence, *GOOD[len(coherence) :])
        bars.append(Bar(start, start + MINUTE, mid, bid, ask, *metrics)._replace(**changes))
    return bars


def flat(price: float) -> tuple[float, float, float, float]:
    return (price, price, price, price)


def run(bars: list[Bar], rules: Rules = FREE) -> Outcome:
    return simulate("EUR_USD", bars, rules)


def only_trade(bars: list[Bar], rules: Rules = FREE) -> dict[str, Any]:
    (trade,) = run(bars, rules).trades
    return trade


# -- fills ---------------------------------------------------------------------------------------


def test_a_long_buys_at_ask_and_sells_at_bid_at_the_opens_after_the_decisions() -> None:
    rows = [*UP, (100.2, 100.5, 100.0, 100.3), (100.4, 100.4, 99.0, 100.4)]
    trade = only_trade(tape(*rows), replace(FREE, pm_default_hold_seconds=60))
    assert (trade["direction"], trade["exit_reason"], trade["bars_held"]) == (1, "max_hold", 1)
    assert (trade["entry_bar_ms"], trade["exit_bar_ms"]) == (T0 + 2 * MINUTE, T0 + 3 * MINUTE)
    assert trade["entry_price"] == pytest.approx(100.21)
    assert trade["exit_price"] == pytest.approx(100.39)
    assert trade["pnl_bps"] == pytest.approx(1e4 * 0.18 / 100.21)
    assert trade["cost_bps"] == pytest.approx(1e4 * 0.02 / 100.21)
    # the entry bar's bid went from 99.99 to 100.49; of the exit bar only the fill counts
    assert trade["mae_bps"] == pytest.approx(1e4 * -0.22 / 100.21)
    assert trade["mfe_bps"] == pytest.approx(1e4 * 0.28 / 100.21)
    text = f"EUR_USD|p|{T0 + 2 * MINUTE}"
    assert trade["trade_id"] == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_a_short_sells_at_bid_and_buys_at_ask() -> None:
    rows = [*DOWN, (99.8, 100.0, 99.5, 99.7), (99.6, 101.0, 99.6, 99.6)]
    trade = only_trade(tape(*rows), replace(FREE, pm_default_hold_seconds=60))
    assert trade["direction"] == -1
    assert trade["entry_price"] == pytest.approx(99.79)
    assert trade["exit_price"] == pytest.approx(99.61)
    assert trade["pnl_bps"] == pytest.approx(1e4 * 0.18 / 99.79)
    assert trade["mae_bps"] == pytest.approx(1e4 * -0.22 / 99.79)
    assert trade["mfe_bps"] == pytest.approx(1e4 * 0.28 / 99.79)


def test_without_bid_and_ask_mid_and_the_cost_per_side_are_used_and_said() -> None:
    rows = [*UP, flat(100.0), flat(100.0)]
    rules = replace(FREE, pm_default_hold_seconds=60, backtest_cost_bps=2.0)
    trade = only_trade(tape(*rows, half=None), rules)
    assert trade["entry_price"] == pytest.approx(100.02)
    assert trade["exit_price"] == pytest.approx(99.98)
    assert trade["cost_assumed"]
    bars = tape(*rows)
    assert not only_trade(bars, rules)["cost_assumed"]
    bars[1] = bars[1]._replace(bid=None)  # of the decision only: no fill, no mark came of it
    assert not only_trade(bars, rules)["cost_assumed"]
    bars[3] = bars[3]._replace(ask=None)
    assert only_trade(bars, rules)["cost_assumed"]


def test_an_entry_waits_for_the_next_bar_whenever_it_comes() -> None:
    bars = tape(*UP, flat(100.5), flat(101.0))
    bars = bars[:2] + [
        bar._replace(bar_ms=bar.bar_ms + DAY_MS, as_of_ms=bar.as_of_ms + DAY_MS) for bar in bars[2:]
    ]
    held = run(bars).open_position
    assert held is not None
    assert held["entry_bar_ms"] == T0 + 2 * MINUTE + DAY_MS
    assert held["entry_price"] == pytest.approx(100.51)


# -- stops and targets ---------------------------------------------------------------------------

LEVELS = replace(FREE, exit_pnl_stop_pct=1.0, exit_pnl_target_pct=0.5)
ENTRY = flat(100.0)  # a long at 100.01: stop 99.0099, target 100.51005; closing side is bid


@pytest.mark.parametrize(
    ("row", "reason", "price", "gave_up"),
    [
        ((98.0, 102.0, 97.0, 98.0), "stop", 97.99, 0.01),  # opened behind the stop
        ((99.5, 99.5, 99.0199, 99.5), "stop", 99.0099, 0.01),  # bid.low is the stop
        ((100.0, 102.0, 98.0, 100.0), "stop", 99.0099, 0.01),  # both touched
        ((100.0, 100.53, 99.5, 100.0), "target", 100.51005, 0.01),
        ((102.0, 103.0, 101.0, 102.0), "target", 100.51005, 0.01),  # no better than the target
    ],
)
def test_levels_of_a_long(
    row: tuple[float, ...], reason: str, price: float, gave_up: float
) -> None:
    trade = only_trade(tape(*UP, ENTRY, row), LEVELS)
    assert (trade["exit_reason"], trade["bars_held"]) == (reason, 1)
    assert trade["exit_price"] == pytest.approx(price, rel=1e-12)
    assert trade["cost_bps"] == pytest.approx(1e4 * (0.01 + gave_up) / 100.01)


@pytest.mark.parametrize(
    ("row", "reason", "price"),
    [
        ((102.0, 102.0, 98.0, 102.0), "stop", 102.01),  # a short at 99.99: stop 100.9899
        ((100.0, 101.0, 100.0, 100.0), "stop", 100.9899),
        ((100.0, 102.0, 98.0, 100.0), "stop", 100.9899),
        ((100.0, 100.0, 99.4, 100.0), "target", 99.49005),
        ((99.0, 99.0, 98.0, 99.0), "target", 99.49005),
    ],
)
def test_levels_of_a_short(row: tuple[float, ...], reason: str, price: float) -> None:
    trade = only_trade(tape(*DOWN, ENTRY, row), LEVELS)
    assert (trade["direction"], trade["exit_reason"]) == (-1, reason)
    assert trade["exit_price"] == pytest.approx(price, rel=1e-12)


def test_a_bid_a_point_above_the_stop_and_below_the_target_changes_nothing() -> None:
    outcome = run(tape(*UP, ENTRY, (100.0, 100.52, 99.03, 100.0)), LEVELS)
    assert outcome.trades == []
    assert outcome.open_position is not None


def test_a_stop_in_the_bar_of_the_entry_holds_no_bar_and_bounds_both_excursions() -> None:
    trade = only_trade(tape(*UP, (100.0, 100.4, 98.0, 98.5)), LEVELS)
    assert (trade["bars_held"], trade["entry_bar_ms"]) == (0, trade["exit_bar_ms"])
    assert trade["mae_bps"] == trade["pnl_bps"] == pytest.approx(-100.0)
    assert trade["mfe_bps"] == 0.0


def test_without_pct_levels_nothing_stops() -> None:
    rules = replace(LEVELS, exit_pnl_enabled=False)
    assert run(tape(*UP, ENTRY, flat(50.0), flat(200.0)), rules).trades == []


def test_atr_levels_are_of_the_decision_bar_and_there_is_no_entry_before_there_is_an_atr() -> None:
    rules = replace(
        LEVELS,
        auto_tp_mode="atr",
        atr_bars=3,
        atr_stop_mult=2.0,
        auto_tp_rr=1.5,
        exit_pnl_enabled=False,
    )
    # true ranges 0.2, 0.1, 0.3: their mean is the ATR of the third bar, 0.2
    rows = [
        (100.0, 100.2, 100.0, 100.0),
        (100.0, 100.1, 100.0, 100.1),
        (100.1, 100.4, 100.1, 100.3),
    ]
    entry = (100.0, 103.0, 99.63, 100.0)  # a range of 3.38 that must not count
    high = only_trade(tape(*rows, entry), rules)
    assert (high["exit_reason"], high["entry_bar_ms"]) == ("target", T0 + 3 * MINUTE)
    assert high["entry_price"] == pytest.approx(100.01)
    assert high["exit_price"] == pytest.approx(100.01 + 1.5 * 2.0 * 0.2)
    low = only_trade(tape(*rows, (100.0, 103.0, 99.61, 100.0)), rules)
    assert low["exit_price"] == pytest.approx(100.01 - 2.0 * 0.2)


def test_the_atr_goes_on_by_wilders_rule_from_the_close_before() -> None:
    wilder = Run("EUR_USD", replace(FREE, atr_bars=2))
    # ranges: 0.2; max(0.1, |100.1-100.1|, |100-100.1|) = 0.1; from 100.0 up to 101: 1.0
    for bar in tape((100, 100.2, 100, 100.1), (100, 100.1, 100, 100), (100.9, 101, 100.8, 101)):
        wilder.add(bar)
    assert wilder.true_ranges == pytest.approx([0.2, 0.1, 1.0])
    assert wilder.atrs[0] is None
    assert wilder.atrs[1:] == pytest.approx([0.15, (0.15 + 1.0) / 2])


# -- exits and entries at the close --------------------------------------------------------------


def test_a_position_is_closed_before_the_session_closes() -> None:
    start = ms(2024, 1, 10, 21, 49)  # New York closes at 22:00, and no other session is open
    rules = replace(FREE, session_trading_enabled=True)
    trade = only_trade(tape(*UP, *[flat(100.1)] * 15, start_ms=start), rules)
    # decided at 21:55, the first close within 5 minutes; filled at the open of that minute
    assert trade["exit_reason"] == "session_close"
    assert trade["exit_bar_ms"] == ms(2024, 1, 10, 21, 55)


def test_no_entry_near_the_close_or_behind_it() -> None:
    rules = replace(FREE, session_trading_enabled=True)
    for start in (ms(2024, 1, 10, 21, 53), ms(2024, 1, 10, 22, 10), ms(2024, 1, 13, 12)):
        assert run(tape(*UP, flat(100.1), start_ms=start), rules).open_position is None
    start = ms(2024, 1, 10, 21, 52)  # decided at 21:54
    assert run(tape(*UP, flat(100.1), start_ms=start), rules).open_position is not None


def test_a_reversal_of_the_slope_closes_and_comes_before_the_longest_hold() -> None:
    rules = replace(FREE, exit_slope_enabled=True, pm_default_hold_seconds=120)
    rows = [*UP, flat(100.1), (100.1, 100.1, 100.0, 100.0), flat(100.0)]
    trade = only_trade(tape(*rows), rules)
    assert (trade["exit_reason"], trade["bars_held"]) == ("slope_reversal", 2)
    off = only_trade(tape(*rows), replace(rules, exit_slope_enabled=False))
    assert (off["exit_reason"], off["bars_held"]) == ("max_hold", 2)


def test_a_bar_in_which_a_fill_happened_decides_no_entry() -> None:
    rises = [flat(100.0 + 0.2 * n) for n in range(9)]
    rules = replace(FREE, pm_default_hold_seconds=60, session_pattern_min_occurrences=1)
    outcome = run(tape(*rises), rules)
    # decided at 1, in at 2, out at 3; the fill of bar 3 rests one bar: decided at 4, in at 5
    at = [(t["entry_bar_ms"] - T0, t["exit_bar_ms"] - T0) for t in outcome.trades]
    assert at == [(2 * MINUTE, 3 * MINUTE), (5 * MINUTE, 6 * MINUTE)]
    none = run(tape(*rises), replace(rules, exit_cooldown_sec=0, entry_cooldown_sec=60))
    at = [(t["entry_bar_ms"] - T0, t["exit_bar_ms"] - T0) for t in none.trades]
    assert at == [(2 * MINUTE, 3 * MINUTE), (4 * MINUTE, 5 * MINUTE), (6 * MINUTE, 7 * MINUTE)]
    long = run(tape(*rises), replace(rules, entry_cooldown_sec=240))
    assert [(t["entry_bar_ms"] - T0) // MINUTE for t in long.trades] == [2, 7]


def test_combined_asks_that_coherence_does_not_fall_and_slope_does_not() -> None:
    falls = tape((*UP[0], 0.9), (*UP[1], 0.8), flat(100.1))
    assert run(falls).open_position is None
    assert run(falls, replace(FREE, auto_direction_mode="slope")).open_position is not None
    level = tape((*UP[0], 0.9), (*UP[1], 0.9), flat(100.1))
    assert run(level).open_position is not None


@pytest.mark.parametrize(
    "bad",
    [
        {"coherence": 0.54},
        {"stability": 0.39},
        {"entropy": 0.71},
        {"rupture": 0.61},
        {"count_1h": 1},
    ],
)
def test_every_static_guard_keeps_from_an_entry(bad: dict[str, Any]) -> None:
    assert run(tape(*UP, flat(100.1), **bad)).open_position is None


def test_position_and_direction_count_what_is_pending() -> None:
    rows = [*UP, flat(100.1), (100.1, 100.1, 99.9, 99.9), flat(99.9)]
    outcome = run(tape(*rows), replace(FREE, exit_slope_enabled=True))
    assert [d["direction"] for d in outcome.decisions] == [0, 1, 0, -1, 0]
    assert [d["position"] for d in outcome.decisions] == [0, 1, 1, 0, 0]


# -- slices --------------------------------------------------------------------------------------


def marked(*points: tuple[int, float]) -> Run:
    """A run that has nothing but marks of equity at these instants."""
    bare = Run("EUR_USD", FREE)
    for as_of_ms, mark in points:
        bare.as_ofs.append(as_of_ms)
        bare.marks.append(mark)
        bare.in_position.append(False)
    return bare


def test_the_drawdown_of_a_slice_starts_at_the_mark_before_it() -> None:
    hour = T0  # a whole hour; the slice of a day starts at the same hour of the day before
    before, first = hour - DAY_MS, hour - DAY_MS + MINUTE
    points = ((before - MINUTE, 0.09), (before, 0.05), (first, 0.02), (hour, 0.03))
    assert marked(*points).slice_of(1)["max_drawdown"] == pytest.approx(0.03)
    # with a bar as_of a minute past the hour the slice still starts at the hour
    later = marked(*points, (hour + 59 * MINUTE, 0.04))
    assert later.slice_of(1)["max_drawdown"] == pytest.approx(0.03)
    assert marked(*points[2:]).slice_of(1)["max_drawdown"] == 0.0
    assert marked((first, -0.02), (hour, 0.03)).slice_of(1)["max_drawdown"] == pytest.approx(0.02)


def test_a_drawdown_of_rounding_is_none() -> None:
    assert max_drawdown(0.1, [0.1 - 1e-13, 0.2]) == 0.0
    assert max_drawdown(0.1, [0.1 - 1e-11, 0.2]) == pytest.approx(1e-11)


def test_daily_changes_are_of_whole_days_inside_the_slice_that_have_a_bar() -> None:
    midnight = ms(2024, 1, 10)
    points = [(midnight - 4 * DAY_MS + n * 6 * HOUR_MS, n * n / 100) for n in range(1, 13)]
    points += [(midnight + 6 * HOUR_MS, 9.0)]  # nothing on the 9th
    # 12 marks: 4 on each of the 6th, 7th and 8th, the last of each at midnight
    assert marked(*points).daily_changes(60) == pytest.approx([0.16, 0.48, 0.80])
    # the slice of three days begins on the 7th at 06:00: the 7th is not whole
    assert marked(*points).daily_changes(3) == pytest.approx([0.80])


def test_figures_of_a_slice_by_hand() -> None:
    rows = [*UP, flat(100.2), flat(100.4), flat(100.3), flat(100.2), flat(100.0), flat(99.9)]
    outcome = run(tape(*rows, half=0.0), replace(FREE, pm_default_hold_seconds=60))
    pnl = [t["pnl_bps"] for t in outcome.trades]
    # long 100.2 to 100.4; the close of 100.3 sends a short in at 100.2, out at 100.0
    assert pnl == pytest.approx([1e4 * 0.2 / 100.2, 1e4 * 0.2 / 100.2])
    found = outcome.summaries[-1]["slices"][0]
    assert found["trades"] == 2
    assert found["pnl_bps"] == pytest.approx(sum(pnl))
    assert found["pnl_total"] == pytest.approx(sum(pnl) / 1e4)
    assert (found["win_rate"], found["profit_factor"], found["calmar"]) == (1.0, None, None)
    assert (found["avg_hold_bars"], found["cost_bps"]) == (1.0, 0.0)
    assert found["exposure"] == pytest.approx(2 / 8)


def test_an_evaluation_happens_at_the_first_bar_of_each_interval() -> None:
    bars = tape(*[flat(100.0)] * 40, start_ms=T0 + 7 * MINUTE)
    outcome = run(bars, replace(FREE, eval_interval_sec=900))
    at = [(s["as_of_ms"] - T0) // MINUTE for s in outcome.summaries]
    assert at == [8, 15, 30, 45]


def test_ratios_equal_those_of_empyrical_where_definitions_agree() -> None:
    rng = random.Random(3)
    for length in (2, 5, 60):
        changes = [-0.001, *(rng.gauss(0.0002, 0.004) for _ in range(length - 1))]
        assert sharpe(changes) == pytest.approx(empyrical.sharpe_ratio(np.array(changes)))
        assert sortino(changes) == pytest.approx(empyrical.sortino_ratio(np.array(changes)))
        marks = list(np.cumsum(changes))
        # returns of exp(equity) compound to it: the fall in its logarithm is the additive one
        fall = -math.log1p(empyrical.max_drawdown(np.expm1(changes)))
        assert max_drawdown(0.0, marks) == pytest.approx(fall)


def test_ratios_need_two_days_and_a_deviation() -> None:
    assert (sharpe([0.1]), sortino([0.1])) == (None, None)
    assert (sharpe([0.1, 0.1]), sortino([0.1, 0.2])) == (None, None)
    assert sortino([-0.1, -0.1]) == pytest.approx(-math.sqrt(252))


# -- floors and hysteresis -----------------------------------------------------------------------


def test_percentiles_are_of_type_7() -> None:
    rng = random.Random(1)
    for length in (1, 2, 5, 20, 33):
        values = [rng.gauss(0, 1) for _ in range(length)]
        for share in (0.25, 0.4, 0.5, 0.75):
            assert percentile(values, share) == pytest.approx(np.percentile(values, 100 * share))


def test_floors_follow_the_history_from_20_samples_on() -> None:
    history = [{"trades": n, "calmar": n / 10, "pnl_total": n / 1000} for n in range(1, 21)]
    floors = Run("EUR_USD", replace(FREE, eval_min_trades=7))
    settings = {"min_trades": 7, "calmar_min": 0.15, "pnl_min": 0.0}
    floors.history = history[:19]
    assert floors.floors() == settings
    floors.history = history
    # medians 10.5 and 1.05; quartiles 0.575 and 1.525; the 40th percentile is between 8 and 9
    wanted = {"min_trades": 10.5, "calmar_min": 1.05 + 0.1 * 0.95, "pnl_min": 0.0086}
    assert floors.floors() == pytest.approx(wanted)
    floors.history = [sample | {"calmar": None} for sample in history]
    assert floors.floors()["calmar_min"] == 0.15
    floors.history = [{"trades": 0, "calmar": -1.0, "pnl_total": -1.0}] * 20
    assert floors.floors() == settings


def test_one_sample_an_hour_and_the_current_one_excluded() -> None:
    bars = tape(*[flat(100.0)] * 130)
    outcome = run(bars, replace(FREE, eval_interval_sec=600, eval_history_hours=2))
    # as_of minutes 1, 10, 20 ... 130; a sample at 1, 60 and 120; only two are kept
    assert [s["floor_samples"] for s in outcome.summaries] == [0] + [1] * 6 + [2] * 7


@pytest.mark.parametrize(
    ("floor", "buffer", "eps", "wanted"),
    [
        (0.15, 0.10, 0.01, (0.135, 0.165)),
        (0.0, 0.10, 0.0005, (-0.00005, 0.00005)),
        (-0.2, 0.30, 0.01, (-0.26, -0.14)),
        (0.15, 0.0, 0.01, (0.15, 0.15)),
    ],
)
def test_bands(floor: float, buffer: float, eps: float, wanted: tuple[float, float]) -> None:
    assert band(floor, buffer, eps) == pytest.approx(wanted)


class Scripted(Run):
    """A run whose evaluations are told: p passes, f fails, n is neither."""

    FIGURES: ClassVar[dict[str, tuple[int, float | None, float]]] = {
        "p": (10, 0.165001, 0.01),
        "f": (9, 1.0, 0.01),
        "n": (10, 0.15, 0.01),
        "c": (10, None, 0.01),  # a null calmar fails
        "l": (10, 0.135, 0.01),  # so does one at the lower band
        "q": (10, 1.0, -0.00005),  # and a P&L at it
    }

    def __init__(self, rules: Rules, script: str) -> None:
        super().__init__("EUR_USD", rules)
        self.script = script

    def slice_of(self, days: int) -> dict[str, Any]:
        trades, calmar, pnl_total = self.FIGURES[self.script[len(self.bars) - 1]]
        return {"days": days, "trades": trades, "calmar": calmar, "pnl_total": pnl_total}


def counted(script: str, cooldown_sec: int = 180) -> list[str]:
    """Latch and counters after each evaluation: ``+`` or ``-``, passes, fails, misses, ``c``."""
    scripted = Scripted(replace(FREE, cooldown_sec=cooldown_sec), script)
    found = []
    for bar in tape(*[flat(100.0)] * len(script)):
        d = scripted.add(bar)
        cooling = "c" if d["cooldown_until_ms"] else ""
        sign = "+" if d["latch"] else "-"
        found.append(f"{sign}{d['passes']}{d['fails']}{d['misses']}{cooling}")
    return found


@pytest.mark.parametrize(
    ("script", "wanted"),
    [
        ("ppp", "-100 +200 +300"),
        ("pnpp", "-100 -000 -100 +200"),
        ("pfpp", "-100 -011 -100 +200"),
        ("ppffp", "-100 +200 +010 -020 -100"),
        ("ppfpff", "-100 +200 +010 +100 +010 -020"),
        ("ppfnff", "-100 +200 +010 +000 +010 -020"),
        # the fails that closed the latch were no misses; the four after them are
        ("ppffffff", "-100 +200 +010 -020 -031 -042 -053 -000c"),
        ("fcqlfff", "-011 -022 -033 -000c -000c -000c -011"),
        ("fffnffff", "-011 -022 -033 -000 -011 -022 -033 -000c"),
        # passes in a cooldown do not count; the one at its end does
        ("ffffpppp", "-011 -022 -033 -000c -000c -000c -100 +200"),
    ],
)
def test_latch_counters_and_cooldown(script: str, wanted: str) -> None:
    assert counted(script) == wanted.split()


def test_reasons_of_the_adaptive_gate() -> None:
    scripted = Scripted(replace(FREE, cooldown_sec=180), "fcqffpppp")
    reasons = [scripted.add(bar)["reasons"] for bar in tape(*[flat(100.0)] * 9)]
    assert reasons == [
        ["hysteresis_wait", "trades_below_floor", "warming"],
        ["calmar_below_floor", "hysteresis_wait"],
        ["hysteresis_wait", "pnl_below_floor"],
        ["cooldown", "hysteresis_wait", "trades_below_floor"],
        ["cooldown", "hysteresis_wait", "trades_below_floor"],
        ["cooldown", "hysteresis_wait"],
        ["hysteresis_wait"],
        [],
        [],
    ]


def test_without_a_candle_everything_of_the_run_stands_and_time_goes_on() -> None:
    bars = tape(*UP, flat(100.1))
    rules = replace(FREE, session_trading_enabled=True)
    last = run(bars, rules).decisions[-1]
    soon = decide_without_candle("EUR_USD", bars, rules, T0 + 8 * MINUTE)
    assert soon == last | {"as_of_ms": T0 + 8 * MINUTE}
    stale = decide_without_candle("EUR_USD", bars, rules, T0 + 9 * MINUTE)
    assert stale["reasons"] == sorted([*last["reasons"], "signal_stale"])
    night = decide_without_candle("EUR_USD", bars, rules, ms(2024, 1, 10, 23))
    assert {"session_closed", "signal_stale"} <= set(night["reasons"])
    assert (night["position"], night["session_open"]) == (1, False)
    first = decide_without_candle("EUR_USD", [], rules, T0)
    assert first["reasons"] == ["hysteresis_wait", "warming"]
    assert (first["floors"], first["evaluation"], first["signal_bar_ms"]) == (None, None, None)


def test_other_modes_have_the_run_and_no_floors() -> None:
    bars = tape(*UP, flat(100.1))
    for mode in ("static", "echo"):
        last = run(bars, replace(FREE, gate_mode=mode)).decisions[-1]
        assert (last["reasons"], last["floors"], last["position"]) == ([], None, 1)


# -- the helpers of the tests --------------------------------------------------------------------


@pytest.mark.parametrize("exit_minutes", [0, 5, 90])
def test_near_close_is_what_the_minute_by_minute_reading_says(exit_minutes: int) -> None:
    for start in (ms(2024, 1, 10, 15), ms(2024, 1, 12, 20)):
        for at_ms in range(start, start + 8 * HOUR_MS, 7 * MINUTE):
            wanted = near_close("EUR_USD", at_ms, exit_minutes)
            assert near_close_at("EUR_USD", at_ms, exit_minutes) == wanted


def test_made_markets_have_everything_in_them() -> None:
    reasons: set[str] = set()
    seen: set[str] = set()
    for seed in range(40):
        rng = random.Random(seed)
        rules = made.random_rules(rng)
        stretches = made.random_stretches(rng, rng.randrange(3, 7))
        bars = made.market(stretches, "M5", rng.choice(made.STARTS_MS), rng)
        outcome = simulate(rng.choice(made.PAIRS), bars, rules)
        reasons |= {trade["exit_reason"] for trade in outcome.trades}
        for decision in outcome.decisions:
            seen |= {"latched"} if decision["latch"] else set()
            seen |= {"eligible"} if decision["eligible"] else set()
            seen |= set(decision["reasons"])
        if any(summary["floor_samples"] >= 20 for summary in outcome.summaries):
            seen |= {"floors"}
    assert reasons == {"stop", "target", "session_close", "slope_reversal", "max_hold"}
    assert seen >= {"latched", "eligible", "floors", "cooldown", "hysteresis_wait", "warming"}
    assert seen >= {"trades_below_floor", "calmar_below_floor", "pnl_below_floor"}
