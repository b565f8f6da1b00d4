"""The rolling backtest and the adaptive gate against the plain simulator, field by field.

Every comparison counts what it compared: a run without trades would agree with anything.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import empyrical
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from streams.candles.files import read_candles
from streams.config.run_parameters import RUN_PARAMETERS
from streams.config.settings import Config
from streams.feeds.synthetic import synthetic_market
from streams.instants import GRANULARITY_MS
from streams.pipeline.gates import GatesStep
from streams.pipeline.processor import record_key
from streams.pipeline.signals import SignalsStep
from streams.records.control import ControlLog
from streams.records.events import (
    Candle,
    CandlePrices,
    GateMetrics,
    Manifold,
    Ohlc,
    SummarySlice,
    Watermark,
)
from streams.records.log_record import SourceRecord
from streams.records.topics import CANDLES, GATES, MANIFOLDS, SUMMARIES, TRADES
from tests.support import backtest_market as made
from tests.support import reference_stages as stages
from tests.support.candle_files import START_MS
from tests.support.reference_backtest import Bar, Rules, Run
from tests.support.sample_events import SAMPLES
from tests.support.stage_bench import config_record, control_log, mark, universe_record

OFFSET = 2
"""End of ``ops.control``: a configuration and a universe."""
MARKETS = 40
LOOSE = Rules(
    auto_dir_threshold_bps=1.0,
    auto_min_coherence=0.0,
    guard_min_stability=0.0,
    auto_max_entropy=1.0,
    auto_max_rupture=1.0,
    session_pattern_min_occurrences=1,
    eval_slices_days=(1, 3, 7),
    eval_span_days=3,
    eval_min_trades=3,
)
MINUTELY = replace(
    LOOSE, auto_dir_threshold_bps=3.0, exit_pnl_target_pct=0.05, exit_pnl_stop_pct=0.08
)
HOURLY = replace(
    LOOSE,
    auto_dir_threshold_bps=5.0,
    pm_default_hold_seconds=86_400,
    entry_cooldown_sec=3600,
    exit_cooldown_sec=3600,
    eval_slices_days=(14, 30, 60),
    eval_span_days=30,
)
Event = Manifold | Watermark
Derived = Sequence[tuple[str, Any]]


# -- settings and records ------------------------------------------------------------------------


def environment(rules: Rules, **more: str) -> dict[str, str]:
    """Return the environment that gives the product these rules."""
    values = asdict(rules)
    del values["params_id"]
    values["hysteresis_default"] = values.pop("buffer")
    texts = {}
    for name, value in values.items():
        if isinstance(value, bool):
            texts[name.upper()] = str(int(value))
        elif isinstance(value, tuple):
            texts[name.upper()] = ",".join(map(str, value))
        elif value is not None:
            texts[name.upper()] = str(value)
    return texts | more


def control_for(rules: Rules, names: Sequence[str], **more: str) -> ControlLog:
    return control_log(config_record(**environment(rules, **more)), universe_record(names))


def params_id(config: Config) -> str:
    """Return the hash of the run's parameters, from the settings as they stand in the log."""
    values = json.loads(config.to_json())
    chosen = {name.upper(): values[name.upper()] for name in RUN_PARAMETERS}
    text = json.dumps(chosen, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def manifold_of(bar: Bar, name: str, granularity: str, *, late: bool = False) -> Manifold:
    sample = SAMPLES["Manifold"]
    assert isinstance(sample, Manifold)
    return sample._replace(
        instrument=name,
        granularity=granularity,
        price=bar.mid.close,
        candle=CandlePrices(bar.mid, bar.bid, bar.ask, 10),
        volume_missing=False,
        gap_bars=0,
        late=late,
        **{field: getattr(bar, field) for field in Bar._fields if field not in PRICES},
    )


PRICES = ("mid", "bid", "ask")


def bar_of(manifold: Manifold) -> Bar:
    candle = manifold.candle
    sides = {side: getattr(candle, side) for side in PRICES}
    rest = {field: getattr(manifold, field) for field in Bar._fields if field not in PRICES}
    return Bar(**sides, **rest)


def told(
    bars: Sequence[Bar], name: str, granularity: str, rng: random.Random
) -> list[Manifold | Watermark]:
    """Return a log of bars and watermarks: late bars, repeated words, bars that never came."""
    length = GRANULARITY_MS[granularity]

    def word(at_ms: int, *names: str) -> Watermark:
        return mark(at_ms, OFFSET, *names, granularity=granularity)

    events: list[Manifold | Watermark] = [word(bars[0].bar_ms), word(bars[0].bar_ms, name)]
    for bar, following in itertools.zip_longest(bars, bars[1:]):
        late = rng.random() < 0.02
        if late:
            events.append(word(bar.as_of_ms, name))
        events.append(manifold_of(bar, name, granularity, late=late))
        if rng.random() < 0.05:
            events.append(word(bar.as_of_ms, name))
        missing = 3 if following is None else (following.bar_ms - bar.as_of_ms) // length
        silent = sorted({rng.randrange(missing) for _ in range(3)}) if missing else []
        events += [word(bar.as_of_ms + (1 + n) * length, name) for n in silent]
    return events


# -- comparison ----------------------------------------------------------------------------------


def assert_same(found: Any, wanted: Any, where: str, rel: float = 1e-9) -> None:
    """Compare by the simulator's type: floats nearly, everything else exactly, in any depth."""
    if isinstance(wanted, dict):
        for name, value in wanted.items():
            assert_same(getattr(found, name), value, f"{where}.{name}", rel)
    elif isinstance(wanted, list | tuple):
        assert len(found) == len(wanted), (where, found, wanted)
        for number, (one, other) in enumerate(zip(found, wanted, strict=True)):
            assert_same(one, other, f"{where}[{number}]", rel)
    elif isinstance(wanted, float):
        assert found is not None, (where, wanted)
        assert math.isclose(found, wanted, rel_tol=rel, abs_tol=1e-12), (where, found, wanted)
    else:
        assert found == wanted, (where, found, wanted)
        assert isinstance(found, bool) is isinstance(wanted, bool), (where, found, wanted)


def assert_slice(found: SummarySlice, wanted: dict[str, Any], where: str) -> None:
    quotients = ("calmar", "calmar_ann")
    # what divides by a drawdown has the drawdown's own relative error
    rel = max(1e-9, 1e-15 / wanted["max_drawdown"]) if wanted["max_drawdown"] else 1e-9
    assert_same(found, {n: v for n, v in wanted.items() if n not in quotients}, where)
    assert_same(found, {n: wanted[n] for n in quotients}, where, rel)


class Comparison:
    """The gates stage and the simulator side by side on one partition.

    Parameters
    ----------
    rules
        Parameters; ``params_id`` is that of the product's settings.
    control
        ``ops.control`` with these rules.
    """

    def __init__(self, rules: Rules, control: ControlLog) -> None:
        config = control.state(OFFSET).config
        assert config is not None
        self.config = config
        self.rules = replace(rules, params_id=params_id(config))
        self.step = GatesStep(control, {})
        self.runs: dict[str, Run] = {}
        self.decided: dict[str, int] = {}
        self.last: dict[str, Manifold] = {}
        self.counts: Counter[str] = Counter()
        self.offset = 0

    @property
    def closest(self) -> float:
        return min((run.closest for run in self.runs.values()), default=math.inf)

    def feed(self, events: Iterable[Event]) -> None:
        """Give every event to both and compare all that they say of it."""
        for event in events:
            at = record_of(event, self.offset)
            self.offset += 1
            derived = list(self.step.step(event, at))
            if isinstance(event, Watermark):
                self._watermark(event, derived)
            else:
                self._bar(event, derived)

    def _bar(self, event: Manifold, derived: Derived) -> None:
        name = event.instrument
        run = self._run(name)
        trades, summaries = len(run.trades), len(run.summaries)
        wanted = run.add(bar_of(event))
        self.last[name] = event
        parts: dict[str, list[Any]] = {TRADES: [], SUMMARIES: [], GATES: []}
        for topic, made_event in derived:
            parts[topic].append(made_event)
        order = [topic for topic, _ in derived]
        assert order == sorted(order, key=list(parts).index), order
        stamp = self._stamp(event.instrument, event.bar_ms, event.as_of_ms)
        where = f"{name} bar {len(run.bars) - 1}"
        assert len(parts[TRADES]) == len(run.trades) - trades, (where, parts[TRADES])
        for found, trade in zip(parts[TRADES], run.trades[trades:], strict=True):
            assert_same(found, stamp | without(trade, "bar"), f"{where} trade")
            self.counts["trades"] += 1
            self.counts[trade["exit_reason"]] += 1
        assert len(parts[SUMMARIES]) == len(run.summaries) - summaries, where
        for found, summary in zip(parts[SUMMARIES], run.summaries[summaries:], strict=True):
            assert_same(found, stamp | without(summary, "bar", "slices"), f"{where} summary")
            for one, other in zip(found.slices, summary["slices"], strict=True):
                assert_slice(one, other, f"{where} slice {other['days']}")
            self.counts["summaries"] += 1
        if event.late or event.as_of_ms <= self.decided.get(name, -1):
            assert parts[GATES] == [], where
            self.counts["late"] += 1
            return
        (decision,) = parts[GATES]
        self._decision(decision, stamp | wanted, where, no_candle=False)

    def _watermark(self, event: Watermark, derived: Derived) -> None:
        asked = [n for n in event.instruments if self.decided.get(n, -1) < event.as_of_ms]
        assert [topic for topic, _ in derived] == [GATES] * (len(asked) + 1)
        assert derived[-1][1] == event
        bar_ms = event.as_of_ms - GRANULARITY_MS[event.granularity]
        for name, (_, decision) in zip(asked, derived, strict=False):
            wanted = self._run(name).decide(event.as_of_ms)
            stamp = self._stamp(name, bar_ms, event.as_of_ms)
            self._decision(decision, stamp | wanted, f"{name} {event.as_of_ms}", no_candle=True)

    def _decision(self, found: Any, wanted: dict[str, Any], where: str, *, no_candle: bool) -> None:
        adaptive = self.rules.gate_mode == "adaptive"
        details, evaluation = wanted["details"], wanted["evaluation"]
        assert_same(found, without(wanted, "details", "evaluation", "latch"), where)
        assert found.no_candle is no_candle, where
        if adaptive and evaluation is None:
            assert found.evaluation is None, where
        elif adaptive:
            assert_same(found.evaluation, without(evaluation, "floors"), f"{where} evaluation")
        last = self.last.get(found.instrument)
        if last is None:
            assert (found.metrics, found.score) == (None, None), where
        else:
            metrics = GateMetrics(*(getattr(last, field) for field in GateMetrics._fields))
            own = None if found.no_candle else last.first_seen_ms
            assert found.metrics == metrics._replace(first_seen_ms=own), where
            assert found.score == stages.score(metrics._asdict(), {}), where
        assert [str(d.reason) for d in found.details] == sorted(details), where
        for detail in found.details:
            pair = details[str(detail.reason)]
            if pair is not None:
                assert_same((detail.value, detail.limit), pair, f"{where} {detail.reason}")
            if detail.reason == "cooldown":
                assert detail.next_change_ms == wanted["cooldown_until_ms"], where
        self.decided[found.instrument] = found.as_of_ms
        self.counts["no_candle" if no_candle else "decisions"] += 1
        self.counts["eligible"] += wanted["eligible"]
        self.counts["cooling"] += wanted["cooldown_until_ms"] is not None
        self.counts["latched"] += wanted["latch"]

    def _run(self, name: str) -> Run:
        return self.runs.setdefault(name, Run(name, self.rules))

    def _stamp(self, name: str, bar_ms: int, as_of_ms: int) -> dict[str, Any]:
        return {
            "instrument": name,
            "granularity": self.config.candle_gran,
            "bar_ms": bar_ms,
            "as_of_ms": as_of_ms,
            "config_id": self.config.config_id,
            "control_offset": OFFSET,
        }


def without(values: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def record_of(event: Event | Candle, offset: int) -> SourceRecord:
    """The event as it would lie in the log; a step never looks at the bytes."""
    topic = CANDLES if isinstance(event, Candle) else MANIFOLDS
    return SourceRecord(topic, 0, offset, event.as_of_ms, record_key(event), None)


# -- made markets --------------------------------------------------------------------------------


def seeded(seed: int) -> tuple[str, str, Rules, list[Event]]:
    """A market of a generator's choice: instrument, granularity, rules, log."""
    rng = random.Random(seed)
    rules = made.random_rules(rng)
    stretches = made.random_stretches(rng, rng.randrange(3, 10))
    granularity = rng.choice(("M1", "M5", "M15"))
    bars = made.market(stretches, granularity, rng.choice(made.STARTS_MS), rng)
    name = rng.choice(made.PAIRS)
    return name, granularity, rules, told(bars, name, granularity, rng)


def compare(name: str, granularity: str, rules: Rules, events: Sequence[Event]) -> Comparison:
    comparison = Comparison(rules, control_for(rules, (name,), CANDLE_GRAN=granularity))
    comparison.feed(events)
    return comparison


def test_forty_made_markets_field_by_field() -> None:
    counts: Counter[str] = Counter()
    for seed in range(MARKETS):
        found = compare(*seeded(seed))
        assert found.closest > 1e-9, seed
        counts += found.counts
    assert counts["trades"] > 1000, counts
    # nothing of this is compared when it does not happen
    for what in ("stop", "target", "max_hold", "slope_reversal", "session_close"):
        assert counts[what] > 0, counts
    for what in ("no_candle", "late", "eligible", "cooling", "latched"):
        assert counts[what] > 100, counts


@pytest.mark.parametrize("mode", ["static", "echo"])
def test_the_run_is_the_same_in_every_mode(mode: str) -> None:
    counts: Counter[str] = Counter()
    for seed in range(MARKETS, MARKETS + 8):
        name, granularity, rules, events = seeded(seed)
        counts += compare(name, granularity, replace(rules, gate_mode=mode), events).counts
    assert counts["trades"] > 50, counts


drawn_rules = st.builds(
    made.rules,
    st.fixed_dictionaries({name: st.sampled_from(values) for name, values in made.RULES.items()}),
    st.integers(0, 2),
)
drawn_stretches = st.lists(
    st.builds(
        made.Stretch,
        **{name: st.sampled_from(values) for name, values in made.STRETCHES.items()},
    ),
    min_size=1,
    max_size=5,
)
HYPOTHESIS_COUNTS: Counter[str] = Counter()


@settings(max_examples=60, deadline=None)
@given(
    rules=drawn_rules,
    stretches=drawn_stretches,
    granularity=st.sampled_from(("M1", "M5", "M15")),
    start_ms=st.sampled_from(made.STARTS_MS),
    name=st.sampled_from(made.PAIRS),
    seed=st.integers(0, 2**16),
)
def check_any_market(
    rules: Rules,
    stretches: list[made.Stretch],
    granularity: str,
    start_ms: int,
    name: str,
    seed: int,
) -> None:
    rng = random.Random(seed)
    bars = made.market(stretches, granularity, start_ms, rng)
    events = told(bars, name, granularity, rng)
    run = Run(name, rules)
    for bar in bars:
        run.add(bar)
    assume(run.closest > 1e-9)  # nearer than rounding to a band: two right answers
    HYPOTHESIS_COUNTS.update(compare(name, granularity, rules, events).counts)


def test_any_market_and_any_rules_field_by_field() -> None:
    HYPOTHESIS_COUNTS.clear()
    check_any_market()
    assert HYPOTHESIS_COUNTS["trades"] > 50, HYPOTHESIS_COUNTS


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("ulps", [-1, 0, 1])
@pytest.mark.parametrize("level", ["stop", "target", "gap"])
def test_levels_and_slopes_touched_to_the_bit(direction: int, ulps: int, level: str) -> None:
    """Prices are sums of few powers of two, so that every level has one right value."""

    def moved(price: float, away: float) -> float:
        return math.nextafter(price, away) if ulps else price

    seen, stop, target = (1.0 + direction * share for share in (1 / 32, -1 / 16, 1 / 32))
    rules = replace(
        LOOSE,
        auto_direction_lookback=1,
        auto_dir_threshold_bps=312.5,
        exit_pnl_stop_pct=6.25,
        exit_pnl_target_pct=3.125,
        exit_slope_enabled=False,
        session_trading_enabled=False,
    )
    touched = moved(target if level == "target" else stop, ulps * math.inf)
    last = (touched, touched) if level == "gap" else (1.0, touched)
    bars = []
    for n, (opened, closed) in enumerate([(1.0, 1.0), (1.0, seen), (1.0, 1.0), last]):
        mid = Ohlc(opened, max(opened, closed), min(opened, closed), closed)
        start = START_MS + n * 60_000
        bars.append(Bar(start, start + 60_000, mid, mid, mid, 0.5, 0.5, 0.5, 0.5, 0.5, 5))
    events = [mark(START_MS, OFFSET), *(manifold_of(bar, "EUR_USD", "M1") for bar in bars)]
    found = compare("EUR_USD", "M1", rules, events)
    beyond = ulps * direction if level == "target" else -ulps * direction
    assert found.counts["trades"] == (beyond >= 0)


# -- recorded candles ----------------------------------------------------------------------------


def recorded(shared_data: Path | None, granularity: str, number: int) -> dict[str, list[Candle]]:
    """The first candles of each recorded pair; of the synthetic market where there are none."""
    pairs = ("EUR_USD", "NZD_USD")
    if shared_data is None:
        market = synthetic_market(11, pairs, START_MS, number, granularity)
        candles = [candle for arrival in market for candle in arrival.candles]
        volumes = {} if granularity == "M1" else {"volume": None}
        return {n: [c._replace(**volumes) for c in candles if c.instrument == n] for n in pairs}
    files = {name: next(shared_data.glob(f"oanda-{name}-{granularity}-*.csv.gz")) for name in pairs}
    return {
        name: [
            row
            for _, row in itertools.islice(read_candles(str(path)), number)
            if isinstance(row, Candle)
        ]
        for name, path in files.items()
    }


def manifolds(candles: dict[str, list[Candle]], control: ControlLog) -> list[Event]:
    """What the signals stage makes of candles that come in time, a watermark after each bar."""
    granularity = next(iter(candles.values()))[0].granularity
    arrivals: dict[int, list[Candle]] = {}
    for candle in itertools.chain.from_iterable(candles.values()):
        arrivals.setdefault(candle.as_of_ms, []).append(candle)
    first = min(arrivals) - GRANULARITY_MS[granularity]
    log: list[Candle | Watermark] = [mark(first, OFFSET, granularity=granularity)]
    for as_of_ms in sorted(arrivals):
        log += arrivals[as_of_ms]
        log.append(mark(as_of_ms, OFFSET, *candles, granularity=granularity))
    step = SignalsStep(control, {})
    found: list[Event] = []
    for offset, event in enumerate(log):
        at = record_of(event, offset)._replace(topic=CANDLES)
        found += [event for topic, event in step.step(event, at) if topic == MANIFOLDS]
    return found


def test_the_recorded_minutes_field_by_field(shared_data: Path | None) -> None:
    candles = recorded(shared_data, "M1", 20_000)
    control = control_for(MINUTELY, tuple(candles))
    found = Comparison(MINUTELY, control)
    found.feed(manifolds(candles, control))
    assert found.closest > 1e-9
    assert found.counts["trades"] > 100, found.counts
    assert set(found.runs) == set(candles)
    assert all(len(run.trades) > 50 for run in found.runs.values())


def test_the_recorded_hours_without_volume_field_by_field(shared_data: Path | None) -> None:
    candles = recorded(shared_data, "H1", 6_000)
    assert all(candle.volume is None for rows in candles.values() for candle in rows)
    profile = {
        "ALLOW_MISSING_VOLUME": "1",
        "CANDLE_GRAN": "H1",
        "ECHO_LOOKBACK_MINUTES": "1440",
    }
    control = control_for(HOURLY, tuple(candles), **profile)
    found = Comparison(HOURLY, control)
    found.feed(manifolds(candles, control))
    assert found.closest > 1e-9
    assert found.counts["trades"] > 50, found.counts


# -- restarts ------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def log_of_two(seed: int) -> tuple[ControlLog, tuple[Event, ...]]:
    """Two instruments of one partition, their events mixed."""
    rng = random.Random(seed)
    rules = replace(
        made.random_rules(rng),
        eval_slices_days=(1, 2, 3),
        eval_span_days=2,
        eval_interval_sec=900,
        cooldown_sec=300,
        auto_min_coherence=0.0,
        session_trading_enabled=False,
    )
    logs = []
    for name in ("EUR_USD", "USD_JPY"):
        stretches = made.random_stretches(rng, 3)
        bars = made.market(stretches, "M5", made.STARTS_MS[0], rng)
        logs.append(told(bars, name, "M5", rng))
    mixed = sorted(itertools.chain.from_iterable(logs), key=lambda event: event.as_of_ms)
    return control_for(rules, ("EUR_USD", "USD_JPY"), CANDLE_GRAN="M5"), tuple(mixed)


@lru_cache(maxsize=4)
def without_restart(seed: int) -> tuple[list[Derived], dict[bytes, bytes]]:
    control, events = log_of_two(seed)
    step = GatesStep(control, {})
    derived = [list(step.step(event, record_of(event, n))) for n, event in enumerate(events)]
    return derived, {key: row for key, row in step.changes().items() if row is not None}


def without_samples(rows: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Rows of samples that no floor needs any more stay as they were when they last changed."""
    return {key: row for key, row in rows.items() if not key.rpartition(b"/")[2].startswith(b"f")}


@pytest.mark.parametrize("seed", range(4))
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_a_restart_anywhere_goes_on_exactly(seed: int, data: st.DataObject) -> None:
    control, events = log_of_two(seed)
    wanted, rows_at_the_end = without_restart(seed)
    assert sum(topic == TRADES for derived in wanted for topic, _ in derived) > 5
    cuts = st.lists(st.integers(0, len(events)), min_size=1, max_size=8)
    restarts = set(data.draw(cuts, label="restarts"))
    batch = data.draw(st.sampled_from((1, 7, 100)), label="records in a batch")
    rows: dict[bytes, bytes] = {}
    step = GatesStep(control, rows)
    for n, event in enumerate(events):
        if n in restarts or n % batch == 0:
            for key, row in step.changes().items():
                if row is None:
                    rows.pop(key, None)
                else:
                    rows[key] = row
        if n in restarts:
            step = GatesStep(control, dict(rows))
        assert list(step.step(event, record_of(event, n))) == wanted[n], n
    for key, row in step.changes().items():
        rows.pop(key, None) if row is None else rows.update({key: row})
    assert without_samples(rows) == without_samples(rows_at_the_end)


# -- without a candle ----------------------------------------------------------------------------


def test_watermarks_alone_warm_for_ever() -> None:
    rules = replace(LOOSE, session_trading_enabled=True)
    found = Comparison(rules, control_for(rules, ("EUR_USD",)))
    found.feed(mark(START_MS + n * 60_000, OFFSET, "EUR_USD") for n in range(3000))
    assert +found.counts == Counter({"no_candle": 3000})


def test_a_silent_market_keeps_run_and_latch_while_session_cooldown_and_age_go_on() -> None:
    rng = random.Random(8)
    stretch = made.Stretch(240, 0.5, 0.5, 0.2, 0.0, 0.0)
    rules = replace(LOOSE, eval_interval_sec=60, cooldown_sec=600, eval_min_trades=1)
    bars = made.market([stretch] * 2, "M1", START_MS, rng)
    waits = (1_000, 60_000, 300_000, 301_000, 599_000, 600_000, 3_600_000, 3 * 86_400_000)
    trades = 0
    for number in range(30, len(bars), 60):
        found = Comparison(rules, control_for(rules, ("EUR_USD",)))
        found.feed([mark(START_MS, OFFSET)])
        found.feed(manifold_of(bar, "EUR_USD", "M1") for bar in bars[:number])
        last_ms = bars[number - 1].as_of_ms
        found.feed(mark(last_ms + wait, OFFSET, "EUR_USD") for wait in waits)
        assert found.counts["no_candle"] == len(waits)
        trades = found.counts["trades"]
    assert trades > 5


# -- ratios --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 5, 14])
def test_ratios_are_those_of_empyrical_on_the_daily_series(seed: int) -> None:
    """Of the definitions that agree: ours are of additive equity, theirs of compounded returns."""
    name, _, rules, _ = seeded(seed)
    rng = random.Random(seed)
    stretches = made.random_stretches(rng, 8)
    rules = replace(
        rules,
        auto_min_coherence=0.0,
        session_trading_enabled=False,
        eval_slices_days=(2, 5, 20),
        eval_span_days=5,
        eval_interval_sec=3600,
    )
    bars = made.market(stretches, "M15", made.STARTS_MS[0], rng)
    step = GatesStep(control_for(rules, (name,), CANDLE_GRAN="M15"), {})
    step.step(mark(bars[0].bar_ms, OFFSET), record_of(mark(bars[0].bar_ms, OFFSET), 0))
    run = Run(name, rules)
    compared = 0
    for number, bar in enumerate(bars, 1):
        event = manifold_of(bar, name, "M15")
        derived = step.step(event, record_of(event, number))
        run.add(bar)
        for _, summary in [pair for pair in derived if pair[0] == SUMMARIES]:
            for part in summary.slices:
                compared += assert_ratios(part, run)
    assert compared > 50
    assert len(run.trades) > 5


def assert_ratios(found: SummarySlice, run: Run) -> int:
    """Compare what a slice has of ratios; return how many there were."""
    changes = np.array(run.daily_changes(found.days))
    compared = 0
    if found.sharpe is not None:
        assert found.sharpe == pytest.approx(empyrical.sharpe_ratio(changes), rel=1e-9)
        compared += 1
    if found.sortino is not None:
        assert found.sortino == pytest.approx(empyrical.sortino_ratio(changes), rel=1e-9)
        compared += 1
    marks = run.marks_of(found.days)
    # returns of exp(equity) compound to it: the fall in its logarithm is the additive one
    fall = -math.log1p(empyrical.max_drawdown(np.expm1(np.diff(marks))))
    assert found.max_drawdown == pytest.approx(fall, rel=1e-9, abs=1e-12)
    return compared + (found.max_drawdown > 0)
