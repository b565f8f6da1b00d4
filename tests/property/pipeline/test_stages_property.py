"""What must hold of the stages for every log, every cut of it and every order of its partitions."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.feeds.plan import FeedPlan
from streams.feeds.synthetic import MarketRates, synthetic_market
from streams.records.control import ControlLog
from streams.records.events import GateDecision, Watermark
from streams.records.log_record import Output, SourceRecord
from streams.records.topics import GATES, MANIFOLDS
from tests.support import reference_stages as ref
from tests.support.partition_logs import interleaved, numbered, onward
from tests.support.stage_bench import (
    MINUTE,
    T0,
    A,
    B,
    Bench,
    C,
    candle,
    config_record,
    control_log,
    decision,
    essence,
    events_of,
    mark,
    universe_record,
    weights_of,
)

PAIRS = (A, B, C)
PARTITIONS = 5  # two pairs share one, the third has its own
BARS = 190
RATES = MarketRates(quiet=60, late=15, duplicate=15)
ENVIRONMENT = {"CANDLE_COUNT": "150", "ALLOC_MAX_HOLD_SEC": "300", "GATE_MODE": "static"}
CHANGED = ENVIRONMENT | {
    "AUTO_MIN_COHERENCE": "0.3",
    "AUTO_MAX_ENTROPY": "0.97",
    "ALLOC_TOP_K": "2",
}
CHANGE_MS = T0 + 160 * MINUTE
STAGES = ("signals", "gates", "weights")


@lru_cache
def control() -> ControlLog:
    """Settings and a universe; other settings, and one pair less, from CHANGE_MS on."""
    return control_log(
        config_record(**ENVIRONMENT),
        universe_record(PAIRS),
        config_record(**CHANGED),
        universe_record((A, B), from_ms=CHANGE_MS),
    )


@lru_cache
def candle_logs() -> dict[int, tuple[Any, ...]]:
    """What a feed writes, by partition: quiet, late and repeated candles, control that grows."""
    plan = FeedPlan(PAIRS, "M1", PARTITIONS)
    facts = plan.opening(T0, 2)
    for bar in synthetic_market(5, PAIRS, T0, BARS, rates=RATES):
        facts += plan.bar(bar.as_of_ms, bar.candles, 4 if bar.as_of_ms >= CHANGE_MS else 2)
    facts += plan.closing(T0 + BARS * MINUTE, 4)
    return {p: tuple(f.event for f in facts if f.partition == p) for p in plan.partitions}


@lru_cache
def sources() -> dict[str, dict[int, tuple[SourceRecord, ...]]]:
    """The source records of every stage, by partition; of ``opt.gates`` by where they came from."""
    made: dict[str, dict[int, tuple[SourceRecord, ...]]] = {name: {} for name in STAGES}
    for partition, events in candle_logs().items():
        signals = Bench("signals", control(), partition)
        made["signals"][partition] = tuple(signals.record(event) for event in events)
        manifolds = onward(signals.fold(made["signals"][partition]), MANIFOLDS)
        made["gates"][partition] = manifolds
        gates = Bench("gates", control(), partition).fold(manifolds)
        made["weights"][partition] = onward(gates, GATES)
    return made


def by_time(logs: dict[int, tuple[SourceRecord, ...]]) -> list[SourceRecord]:
    """The partitions' records by their time, as a worker that keeps up would write them."""
    places = [(r.timestamp_ms, p, r) for p, log in logs.items() for r in log]
    return [record for *_, record in sorted(places, key=lambda place: place[:2])]


@lru_cache
def one_log(stage: str) -> tuple[int, tuple[SourceRecord, ...]]:
    """A source partition of a stage with much in it."""
    logs = sources()[stage]
    if stage == "weights":
        return 0, tuple(numbered(by_time(logs)))
    partition = max(logs, key=lambda p: len(logs[p]))
    return partition, logs[partition]


@lru_cache
def whole(stage: str) -> tuple[tuple[Output, ...], dict[bytes, bytes]]:
    """Outputs and rows of the log in one batch."""
    partition, log = one_log(stage)
    made = Bench(stage, control(), partition)
    return tuple(made.fold(log)), made.rows


@lru_cache
def weights_by_time() -> tuple[Any, ...]:
    return tuple(essence(output) for output in whole("weights")[0])


def test_the_market_of_these_tests_has_the_unusual_in_it() -> None:
    assert len(candle_logs()) > 1
    manifolds = [r for log in sources()["gates"].values() for r in log]
    assert len(manifolds) > 150
    made = weights_of(whole("weights")[0])
    assert {record.action for record in made} == {"published", "held", "cleared"}
    assert {record.universe for record in made} == {tuple(sorted(PAIRS)), (A, B)}
    assert {record.top_k for record in made} == {2, 3}


@pytest.mark.parametrize("stage", STAGES)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_any_cut_into_batches_gives_the_same_outputs_and_rows(
    stage: str, data: st.DataObject
) -> None:
    partition, log = one_log(stage)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(log)), max_size=12)))
    made = Bench(stage, control(), partition)
    outputs: list[Output] = []
    for start, end in zip([0, *cuts], [*cuts, len(log)], strict=True):
        outputs += made.fold(log[start:end])
    assert (tuple(outputs), made.rows) == whole(stage)


@pytest.mark.parametrize("stage", STAGES)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_a_restart_at_any_point_goes_on_with_the_same_bytes(
    stage: str, data: st.DataObject
) -> None:
    partition, log = one_log(stage)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(log)), min_size=1, max_size=8)))
    made = Bench(stage, control(), partition)
    outputs: list[Output] = []
    for start, end in zip([0, *cuts], [*cuts, len(log)], strict=True):
        outputs += made.fold(log[start:end])
        made.restart()
    assert (tuple(outputs), made.rows) == whole(stage)


@pytest.mark.parametrize("stage", STAGES)
def test_one_record_a_batch_gives_the_same_outputs_and_rows(stage: str) -> None:
    partition, log = one_log(stage)
    made = Bench(stage, control(), partition)
    outputs = [output for record in log for output in made.fold([record])]
    assert (tuple(outputs), made.rows) == whole(stage)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_every_interleaving_of_the_partitions_gives_the_same_weights(data: st.DataObject) -> None:
    made = Bench("weights", control())
    order = interleaved(data, sources()["weights"])
    cut = data.draw(st.integers(0, len(order)))
    outputs = made.fold(order[:cut])
    made.restart()
    outputs += made.fold(order[cut:])
    assert tuple(essence(output) for output in outputs) == weights_by_time()


@pytest.mark.parametrize("last", range(2))
def test_a_partition_that_comes_last_with_everything_gives_the_same_weights(last: int) -> None:
    logs = sources()["weights"]
    names = sorted(logs)
    behind = names[last % len(names)]
    order = [r for p in names if p != behind for r in logs[p]] + list(logs[behind])
    outputs = Bench("weights", control()).fold(numbered(order))
    assert tuple(essence(output) for output in outputs) == weights_by_time()


# -- far ahead, silent, late ---------------------------------------------------------------------


def through(logs: dict[int, list[Any]], log: ControlLog) -> dict[str, list[Any]]:
    """The chain's records of hand-made partitions, one after the other: as in a catch-up."""
    found: dict[str, list[Any]] = {"manifolds": [], "decisions": [], "weights": []}
    gated: list[SourceRecord] = []
    for partition, events in logs.items():
        signals = Bench("signals", log, partition).feed(*events)
        gates = Bench("gates", log, partition).fold(onward(signals, MANIFOLDS))
        found["manifolds"] += events_of(signals, MANIFOLDS)
        found["decisions"] += events_of(gates, GATES)
        gated += onward(gates, GATES)
    found["weights"] = weights_of(Bench("weights", log).fold(numbered(gated)))
    return found


def bars_of(name: str, first: int, last: int) -> list[Any]:
    return [candle(T0 + n * MINUTE, name) for n in range(first, last)]


def test_a_partition_days_ahead_is_waited_for_without_losing_an_epoch() -> None:
    days = 3 * 1440
    log = control_log(config_record(), universe_record((A, B)))
    steady, restarted = Bench("weights", log), Bench("weights", log)
    ahead = [decision(A, T0 + n * MINUTE, points=0.5) for n in range(1, days)]
    behind = [decision(B, T0 + n * MINUTE, points=1.5) for n in range(1, days)]
    assert steady.feed(mark(T0, 2, A), *ahead) == []
    made = steady.feed(*behind)
    assert [w.epoch_ms for w in weights_of(made)] == [T0 + n * MINUTE for n in range(1, days)]
    assert {w.entries[0].weight for w in weights_of(made)} == {0.25}
    restarted.feed(mark(T0, 2, A), *ahead)
    restarted.restart()
    again = restarted.feed(*behind[: days // 2])
    restarted.restart()
    again += restarted.feed(*behind[days // 2 :])
    assert again == made
    assert restarted.rows == steady.rows
    assert len(steady.rows) == 3


def test_a_pair_that_never_says_anything_stalls_nobody() -> None:
    log = control_log(config_record(), universe_record((A, B)))
    marks = [mark(T0 + n * MINUTE, 2, B) for n in range(1, 200)]
    found = through({0: [mark(T0, 2, A), *bars_of(A, 0, 199)], 1: [mark(T0, 2, B), *marks]}, log)
    silent = [made for made in found["decisions"] if made.instrument == B]
    assert {made.reasons for made in silent} == {("hysteresis_wait", "warming")}
    epochs = [made.epoch_ms for made in found["weights"]]
    assert epochs == [T0 + n * MINUTE for n in range(1, 200)]


def test_a_pair_that_falls_silent_delays_only_itself_and_goes_stale() -> None:
    log = control_log(config_record(), universe_record((A, B)))
    quiet = [mark(T0 + n * MINUTE, 2, B) for n in range(151, 200)]
    found = through(
        {
            0: [mark(T0, 2, A), *bars_of(A, 0, 199)],
            1: [mark(T0, 2, B), *bars_of(B, 0, 150), *quiet],
        },
        log,
    )
    after = [d for d in found["decisions"] if d.instrument == B and d.as_of_ms > T0 + 150 * MINUTE]
    stale = [d.as_of_ms for d in after if "signal_stale" in d.reasons]
    assert stale == [T0 + n * MINUTE for n in range(156, 200)]
    assert found["weights"][-1].epoch_ms == T0 + 199 * MINUTE


def test_a_late_candle_changes_metrics_and_no_decision_that_was_made() -> None:
    log = control_log(config_record(), universe_record((A,)))
    on_time = [mark(T0, 2, A), *bars_of(A, 0, 150), *bars_of(A, 151, 160)]
    missing = [*on_time[:151], mark(T0 + 151 * MINUTE, 2, A), *on_time[151:]]
    late = [*missing[:152], candle(T0 + 150 * MINUTE, A), *missing[152:]]
    without, with_it = through({0: missing}, log), through({0: late}, log)
    assert [m.bar_ms for m in with_it["manifolds"] if m.late] == [T0 + 150 * MINUTE]
    assert len(with_it["manifolds"]) == len(without["manifolds"]) + 1
    assert [d.as_of_ms for d in with_it["decisions"]] == [d.as_of_ms for d in without["decisions"]]
    until = T0 + 151 * MINUTE
    for topic in ("decisions", "weights"):
        assert [e for e in with_it[topic] if e.as_of_ms <= until] == [
            e for e in without[topic] if e.as_of_ms <= until
        ]
    assert with_it["manifolds"][-1] != without["manifolds"][-1]


# -- any log of decisions, against all of it at once ---------------------------------------------

NAMES = ("AUD_USD", "EUR_USD", "GBP_USD", "USD_CHF")
points = st.one_of(st.none(), st.sampled_from((-0.5, 0.0, 0.25, 0.5, 0.5, 0.75)))


@st.composite
def votes(draw: st.DrawFn) -> list[ref.Vote]:
    """Decisions of a few instruments, each in its own order, interleaved in any way."""
    made = draw(
        st.lists(
            st.tuples(
                st.sampled_from(NAMES), st.integers(0, 3), st.booleans(), st.booleans(), points
            ),
            max_size=60,
        )
    )
    clocks = dict.fromkeys(NAMES, T0)
    found = []
    for name, ahead, eligible, cooldown, score in made:
        clocks[name] += ahead * 30_000
        found.append(ref.Vote(name, clocks[name], eligible, cooldown, score))
    return found


def as_decision(vote: ref.Vote) -> GateDecision:
    until = vote.as_of_ms + 1 if vote.cooldown else None
    return decision(
        vote.instrument,
        vote.as_of_ms,
        eligible=vote.eligible,
        points=vote.score,
        cooldown_until_ms=until,
    )


@settings(max_examples=150, deadline=None)
@given(votes(), st.integers(1, 3), st.sampled_from((0, 60, 120)), st.integers(1, 4))
def test_epochs_are_what_all_decisions_at_once_say(
    cast: list[ref.Vote], top_k: int, hold_sec: int, members: int
) -> None:
    universe = NAMES[:members]
    log = control_log(
        config_record(ALLOC_TOP_K=str(top_k), ALLOC_MAX_HOLD_SEC=str(hold_sec)),
        universe_record(universe),
    )
    made = Bench("weights", log)
    made.feed(mark(T0 - MINUTE, 2))
    found = weights_of(made.feed(*(as_decision(vote) for vote in cast)))
    expected = ref.epochs(cast, universe, ref.Rules(top_k=top_k, max_hold_ms=hold_sec * 1000))
    assert [
        ref.Epoch(
            record.epoch_ms,
            record.action,
            {entry.instrument: entry.weight for entry in record.entries},
            record.held_since_ms,
        )
        for record in found
    ] == expected


@st.composite
def any_log(draw: st.DrawFn) -> tuple[list[Any], list[int]]:
    """Decisions and watermarks in any order, control that changes anything, places to restart."""
    kinds = st.one_of(
        st.tuples(st.sampled_from(NAMES), st.integers(0, 8), st.booleans()),
        st.tuples(st.integers(0, 8), st.integers(0, 6)),
    )
    events = []
    for kind in draw(st.lists(kinds, min_size=1, max_size=40)):
        if len(kind) == 3:
            name, minute, eligible = kind
            events.append(decision(name, T0 + minute * MINUTE, eligible=eligible))
        else:
            events.append(mark(T0 + kind[0] * MINUTE, kind[1]))
    return events, draw(st.lists(st.integers(0, len(events)), max_size=4).map(sorted))


@lru_cache
def eventful_control() -> ControlLog:
    def at(minute: int) -> int:
        return T0 + minute * MINUTE

    return control_log(
        config_record(),
        universe_record(NAMES[1:3], from_ms=at(-1), mode="add", until_ms=at(3)),
        config_record(ALLOC_INTERVAL_SEC="120"),
        universe_record(NAMES[:1], from_ms=at(2)),
        config_record(ALLOC_TOP_K="1"),
        universe_record(NAMES, from_ms=at(5)),
    )


@settings(max_examples=300, deadline=None)
@given(any_log())
def test_restarts_change_nothing_whatever_the_log_says(case: tuple[list[Any], list[int]]) -> None:
    events, cuts = case
    steady, restarted = Bench("weights", eventful_control()), Bench("weights", eventful_control())
    expected = steady.feed(*events)
    found: list[Output] = []
    for start, end in zip([0, *cuts], [*cuts, len(events)], strict=True):
        found += restarted.feed(*events[start:end])
        restarted.restart()
    assert found == expected
    assert restarted.rows == steady.rows


@settings(max_examples=150, deadline=None)
@given(any_log())
def test_epochs_ascend_and_none_comes_twice_whatever_the_log_says(
    case: tuple[list[Any], list[int]],
) -> None:
    made = weights_of(Bench("weights", eventful_control()).feed(*case[0]))
    assert [record.epoch_ms for record in made] == sorted({record.epoch_ms for record in made})
    for record in made:
        assert all(gate.decided_ms <= record.epoch_ms for gate in record.gates)


METRICS = ("coherence", "stability", "entropy", "rupture")


# -- gates against the whole past ----------------------------------------------------------------


def test_every_decision_of_the_market_is_what_the_whole_past_says() -> None:
    """No look-ahead: only signals that stand before the decision, and the newest of them."""
    for partition, log in sources()["gates"].items():
        bench = Bench("gates", control(), partition)
        seen: dict[str, ref.Seen] = {}
        decided: set[tuple[str, int]] = set()
        for record in log:
            event = bench.stage._codec.decode(MANIFOLDS, record.value)
            if not isinstance(event, Watermark):
                metrics = {
                    name: getattr(event, name) for name in (*METRICS, "lambda_hazard", "lambda_")
                } | {"count_1h": event.count_1h}
                seen[event.instrument] = ref.Seen(event.as_of_ms, event.bar_ms, metrics)
            for made in events_of(bench.fold([record]), GATES):
                assert (made.instrument, made.as_of_ms) not in decided
                decided.add((made.instrument, made.as_of_ms))
                last = seen.get(made.instrument)
                changed = made.control_offset == 4
                limits = {
                    "sessions": True,
                    "exit_minutes": 5,
                    "mode": "static",
                    "max_hazard": None,
                    "min_coherence": 0.3 if changed else 0.55,
                    "min_stability": 0.40,
                    "max_entropy": 0.97 if changed else 0.70,
                    "max_rupture": 0.60,
                    "repetitions": 2,
                    "max_age_ms": 300_000,
                }
                expected = ref.gate_reasons(made.instrument, made.as_of_ms, last, limits)
                assert list(made.reasons) == expected
                assert made.signal_bar_ms == (last and last.bar_ms)
                assert made.score == (last and ref.score(last.metrics, {}))
                assert changed is (
                    made.as_of_ms > CHANGE_MS or (made.no_candle and (made.as_of_ms == CHANGE_MS))
                )
        members = {
            name
            for event in candle_logs()[partition]
            if isinstance(event, Watermark)
            for name in event.instruments
        }
        bars = range(T0 + MINUTE, T0 + BARS * MINUTE + 1, MINUTE)
        assert decided == {(name, bar) for name in members for bar in bars} | {
            (name, T0) for name in members
        }
