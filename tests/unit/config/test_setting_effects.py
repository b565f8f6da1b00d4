"""Every variable of the profile does what it names: recomputed on each record of a market.

One market of seven hours over a session's close goes through the whole chain, with one variable
changed at a time. What is asserted is the rule in words, on every record, and that it made a
difference at all.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import pytest

from streams.config.settings import Config
from streams.feeds.synthetic import MarketRates, synthetic_market
from streams.records.events import GateDecision, Manifold, Signal, SimulatedTrade, Summary, Weights
from streams.replay.files import derive
from tests.support.deployment import LIVELY

MINUTE = 60_000
PAIRS = ("EUR_USD", "GBP_USD", "USD_JPY")
START_MS = 1_709_574_000_000
"""2024-03-04 17:40 UTC, a Monday: New York closes at 22:00, Tokyo opens at 23:00."""
CLOSE_MS = 1_709_589_600_000
BARS = 420


class Records(NamedTuple):
    """What came of the market under a configuration."""

    config: Config
    signals: tuple[Signal, ...]
    manifolds: tuple[Manifold, ...]
    trades: tuple[SimulatedTrade, ...]
    summaries: tuple[Summary, ...]
    decisions: tuple[GateDecision, ...]
    epochs: tuple[Weights, ...]


@cache
def market() -> list[tuple[int, tuple[Any, ...]]]:
    rates = MarketRates(quiet=0, late=0, duplicate=0)
    bars = synthetic_market(3, PAIRS, START_MS, BARS, rates=rates)
    return [(bar.as_of_ms, tuple(bar.candles)) for bar in bars]


@cache
def _derived(changed: tuple[tuple[str, str], ...]) -> Records:
    config = Config.from_env(LIVELY | dict(changed))

    async def run() -> list[Any]:
        events: list[Any] = []
        chunks = derive(config, market(), PAIRS, START_MS, market()[-1][0], 2)
        async for chunk in chunks:
            events += [output.event for _, output in chunk]
        return events

    events = asyncio.run(run())
    kinds = (Signal, Manifold, SimulatedTrade, Summary, GateDecision, Weights)
    return Records(config, *(tuple(e for e in events if isinstance(e, k)) for k in kinds))


def derived(**changed: str) -> Records:
    """Return what the market brings under the lively settings with these changes."""
    return _derived(tuple(sorted(changed.items())))


AT_LEAST: Callable[[float, float], bool] = lambda value, limit: value >= limit  # noqa: E731
AT_MOST: Callable[[float, float], bool] = lambda value, limit: value <= limit  # noqa: E731
GUARDS = [
    ("AUTO_MIN_COHERENCE", 0.45, "coherence_below_min", "coherence", AT_LEAST, {}),
    ("GUARD_MIN_COHERENCE", 0.45, "coherence_below_min", "coherence", AT_LEAST, {}),
    ("GUARD_MIN_STABILITY", 0.85, "stability_below_min", "stability", AT_LEAST, {}),
    ("AUTO_MIN_STABILITY", 0.85, "stability_below_min", "stability", AT_LEAST, {}),
    ("AUTO_MAX_ENTROPY", 0.88, "entropy_above_max", "entropy", AT_MOST, {}),
    ("GUARD_MAX_ENTROPY", 0.88, "entropy_above_max", "entropy", AT_MOST, {}),
    ("AUTO_MAX_RUPTURE", 0.13, "rupture_above_max", "rupture", AT_MOST, {}),
    ("GUARD_MAX_RUPTURE", 0.13, "rupture_above_max", "rupture", AT_MOST, {}),
    ("AUTO_MAX_HAZARD", 0.13, "hazard_above_max", "lambda_hazard", AT_MOST, {}),
    ("SESSION_PATTERN_MIN_OCCURRENCES", 2, "repetitions_short", "count_1h", AT_LEAST, {}),
    ("ECHO_MIN_REPETITIONS", 2, "repetitions_short", "count_1h", AT_LEAST, {"GATE_MODE": "echo"}),
    ("REPETITION_MIN_COUNT", 2, "repetitions_short", "count_1h", AT_LEAST, {"GATE_MODE": "echo"}),
    ("ECHO_HAZARD_MAX", 0.13, "hazard_above_max", "lambda_hazard", AT_MOST, {"GATE_MODE": "echo"}),
]


@pytest.mark.parametrize(
    ("name", "limit", "reason", "metric", "passes", "more"), GUARDS, ids=[g[0] for g in GUARDS]
)
def test_a_guard_refuses_exactly_what_its_limit_does_not_let_through(
    name: str,
    limit: float,
    reason: str,
    metric: str,
    passes: Callable[[float, float], bool],
    more: dict[str, str],
) -> None:
    if name.startswith("GUARD_MIN_C"):
        assert "AUTO_MIN_COHERENCE" in LIVELY, "both names may not say different things"
    base = {"AUTO_MIN_COHERENCE": str(limit)} if name == "GUARD_MIN_COHERENCE" else {}
    base |= {"AUTO_MAX_ENTROPY": str(limit)} if name == "GUARD_MAX_ENTROPY" else {}
    more = {**more, "ECHO_SIGNATURE_PRECISION": "1", **base}
    found = derived(**more, **{name: str(limit)})
    judged = [d for d in found.decisions if d.metrics is not None]
    refused = [d for d in judged if reason in d.reasons]
    assert 0 < len(refused) < len(judged), "the limit must tell some from others"
    for decision in judged:
        value = getattr(decision.metrics, metric)
        assert (reason in decision.reasons) == (not passes(value, limit)), (value, limit)


@pytest.mark.parametrize("mode", ["adaptive", "static", "echo"])
def test_the_gate_mode_says_what_counts(mode: str) -> None:
    found = derived(GATE_MODE=mode)
    assert {d.mode for d in found.decisions} == {mode}
    floors = {"trades_below_floor", "calmar_below_floor", "pnl_below_floor", "hysteresis_wait"}
    said = {reason for d in found.decisions for reason in d.reasons}
    assert bool(said & floors) == (mode == "adaptive")
    if mode == "echo":
        assert not said & {"coherence_below_min", "entropy_above_max", "rupture_above_max"}


def test_the_buffer_is_the_instruments_own_or_the_default() -> None:
    found = derived(HYSTERESIS_DEFAULT="0.2", HYSTERESIS_PAIR_JSON='{"USD_JPY": 0.05}')
    assert {(d.instrument, d.buffer) for d in found.decisions} == {
        ("EUR_USD", 0.2),
        ("GBP_USD", 0.2),
        ("USD_JPY", 0.05),
    }
    assert {g.buffer for epoch in found.epochs for g in epoch.gates} == {0.2, 0.05}
    assert {d.buffer for d in derived().decisions} == {0.1}


def test_sessions_count_where_they_are_traded() -> None:
    on, off = derived(), derived(SESSION_TRADING_ENABLED="0")
    closed = [d for d in on.decisions if "session_closed" in d.reasons]
    assert closed and len(closed) < len(on.decisions)
    for decision in on.decisions:
        assert ("session_closed" in decision.reasons) == (not decision.session_open)
        assert ("session_near_close" in decision.reasons) == decision.near_close
    assert not {r for d in off.decisions for r in d.reasons if r.startswith("session_")}


@pytest.mark.parametrize("minutes", [5, 30])
def test_the_minutes_before_a_close_are_near_it(minutes: int) -> None:
    found = derived(SESSION_EXIT_MINUTES=str(minutes))
    near = {d.as_of_ms for d in found.decisions if d.near_close and d.instrument == "EUR_USD"}
    assert near == {CLOSE_MS - n * MINUTE for n in range(1, minutes + 1)}


@pytest.mark.parametrize("seconds", [300, 900])
def test_evaluations_come_at_multiples_of_their_interval(seconds: int) -> None:
    found = derived(EVAL_INTERVAL_SEC=str(seconds))
    for pair in PAIRS:
        times = [s.as_of_ms for s in found.summaries if s.instrument == pair]
        intervals = [at // (seconds * 1_000) for at in times]
        assert intervals == list(range(intervals[0], intervals[-1] + 1)), "one in each"
        assert not [at for at in times[1:] if at % (seconds * 1_000)], "at its first bar"


@pytest.mark.parametrize(
    ("name", "value", "floor"),
    [
        ("EVAL_MIN_TRADES", 3.0, "min_trades"),
        ("EVAL_CALMAR_MIN", 0.25, "calmar_min"),
        ("EVAL_PNL_MIN", 0.001, "pnl_min"),
    ],
)
def test_a_floor_is_its_setting_until_the_history_says_more(
    name: str, value: float, floor: str
) -> None:
    found, base = derived(**{name: str(value)}), derived()
    assert {getattr(s.floors, floor) for s in found.summaries} == {value}
    figures = {"min_trades": "trades", "calmar_min": "calmar", "pnl_min": "pnl_total"}[floor]
    reason = {
        "min_trades": "trades_below_floor",
        "calmar_min": "calmar_below_floor",
        "pnl_min": "pnl_below_floor",
    }[floor]
    below = [d for d in found.decisions if reason in d.reasons]
    assert below and len(below) > len([d for d in base.decisions if reason in d.reasons])
    for decision in found.decisions:
        seen = decision.evaluation
        if seen is not None and getattr(seen, figures) is not None:
            needed = (
                value
                if floor == "min_trades"
                else value + 0.1 * max(abs(value), 0.01 if floor == "calmar_min" else 0.0005)
            )
            failed = getattr(seen, figures) < needed
            assert (reason in decision.reasons) == failed, (seen, decision.reasons)


def test_slices_and_the_span_that_is_judged_are_those_that_are_set() -> None:
    found = derived(EVAL_SLICES_DAYS="2,5,7", EVAL_SPAN_DAYS="5")
    assert {tuple(s.days for s in one.slices) for one in found.summaries} == {(2, 5, 7)}
    assert {one.span_days for one in found.summaries} == {5}


def test_a_cooldown_lasts_as_long_as_it_is_set() -> None:
    found = derived(EVAL_CALMAR_MIN="50", COOLDOWN_SEC="1800")
    begun: dict[tuple[str, int], int] = {}
    for decision in found.decisions:
        if decision.cooldown_until_ms is not None:
            key = (decision.instrument, decision.cooldown_until_ms)
            begun.setdefault(key, decision.as_of_ms)
            assert ("cooldown" in decision.reasons) == (
                decision.as_of_ms < decision.cooldown_until_ms
            )
    assert begun and {until - at for (_, until), at in begun.items()} == {1_800_000}


@pytest.mark.parametrize("seconds", [60, 300])
def test_epochs_come_at_multiples_of_the_allocators_interval(seconds: int) -> None:
    times = [epoch.epoch_ms for epoch in derived(ALLOC_INTERVAL_SEC=str(seconds)).epochs]
    assert times == list(range(times[0], times[-1] + 1, seconds * 1_000))
    assert times[0] % (seconds * 1_000) == 0


@pytest.mark.parametrize("most", [1, 2, 3])
def test_the_best_k_of_the_eligible_are_selected(most: int) -> None:
    found = derived(ALLOC_TOP_K=str(most), GATE_MODE="static")
    scores = {(d.as_of_ms, d.instrument): d.score for d in found.decisions}
    several = 0
    for epoch in found.epochs:
        if epoch.action != "published" or epoch.epoch_ms not in {at for at, _ in scores}:
            continue
        eligible = [g.instrument for g in epoch.gates if g.eligible]
        ranked = sorted(eligible, key=lambda name: (-scores[epoch.epoch_ms, name], name))  # type: ignore[operator]
        assert {e.instrument for e in epoch.entries} == set(ranked[:most])
        several += len(eligible) > most
    assert several or most == len(PAIRS)


SCORES = {
    "ALLOC_W_C": ("coherence", 0.31),
    "ALLOC_W_STAB": ("stability", 0.44),
    "ALLOC_W_RUP": ("rupture", 0.27),
    "ALLOC_W_ENT": ("entropy", 0.33),
    "ALLOC_SCORE_WEIGHT_COHERENCE": ("coherence", 0.31),
    "ALLOC_SCORE_WEIGHT_STABILITY": ("stability", 0.44),
    "ALLOC_SCORE_WEIGHT_RUPTURE": ("rupture", 0.27),
    "ALLOC_SCORE_WEIGHT_ENTROPY": ("entropy", 0.33),
}


@pytest.mark.parametrize("name", SCORES)
def test_the_score_is_the_weighted_sum_of_the_metrics(name: str) -> None:
    term, weight = SCORES[name]
    by_term = {"coherence": 0.6, "stability": 0.2, "rupture": 0.15, "entropy": 0.05} | {
        term: weight
    }
    scored = [d for d in derived(**{name: str(weight)}).decisions if d.score is not None]
    assert scored
    for decision in scored:
        metrics = decision.metrics
        assert metrics is not None
        wanted = (
            by_term["coherence"] * metrics.coherence
            + by_term["stability"] * metrics.stability
            + by_term["rupture"] * (1 - metrics.rupture)
            + by_term["entropy"] * (1 - metrics.entropy)
        )
        assert decision.score == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize(
    ("target", "most"), [(0.3, 0.1), (0.2, 0.1), (0.3, 0.04)], ids=["as it is", "total", "each"]
)
def test_exposure_is_the_weight_of_the_total_and_at_most_the_cap(
    target: float, most: float
) -> None:
    settings = {"RISK_ALLOC_TARGET_PCT": str(target), "PM_MAX_PER_POS_PCT": str(most)}
    found = derived(GATE_MODE="static", **settings)
    entries = [entry for epoch in found.epochs for entry in epoch.entries]
    assert entries
    for entry in entries:
        wanted = min(entry.weight * target, most)
        assert entry.target_exposure_pct == pytest.approx(wanted, abs=1e-12)
    assert {entry.target_exposure_pct < most for entry in entries} != {True} or most > target / 3


def test_a_manifold_covers_as_many_candles_as_are_set() -> None:
    found = derived(CANDLE_COUNT="200")
    assert max(m.count for m in found.manifolds) == 200
    assert max(m.count for m in derived().manifolds) == BARS


def test_repetitions_count_within_the_lookback_and_by_the_precision() -> None:
    for minutes in (10, 60):
        found = derived(ECHO_LOOKBACK_MINUTES=str(minutes), ECHO_SIGNATURE_PRECISION="1")
        repeated = [s for s in found.signals if s.count_1h > 1]
        assert repeated
        for signal in found.signals:
            assert signal.window_start_ms - signal.first_seen_ms <= minutes * MINUTE
    decimals = {len(s.signature.split("_")[0].split(".")[1]) for s in found.signals}
    assert decimals == {1}
    fine = derived(ECHO_SIGNATURE_PRECISION="4").signals
    assert {len(s.signature.split("_")[0].split(".")[1]) for s in fine} == {4}


def test_simulated_trades_follow_the_rule_that_is_set() -> None:
    found = derived(PM_DEFAULT_HOLD_SECONDS="120", EXIT_PNL_ENABLED="0", EXIT_SLOPE_ENABLED="0")
    assert found.trades and max(trade.bars_held for trade in found.trades) <= 2
    slow = derived(ENTRY_COOLDOWN_SEC="1800", GATE_MODE="static").trades
    for pair in PAIRS:
        entries = [t.entry_bar_ms for t in slow if t.instrument == pair]
        gaps = [b - a for a, b in itertools.pairwise(entries)]
        assert all(gap >= 1_800_000 for gap in gaps)
    assert 0 < len(slow) < len(derived(GATE_MODE="static").trades)
