"""Weights of epochs: when an epoch closes, who is selected, what is held and for how long."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from streams.config.settings import Config
from streams.errors import Fatal
from streams.pipeline.allocation import Candidate, Held, allocate
from streams.pipeline.weights import Timeline, gates_blob, status_object
from streams.records.control import ControlLog
from streams.records.events import GateDecision, Weights
from tests.support.stage_bench import (
    GOOD_METRICS,
    MINUTE,
    T0,
    A,
    B,
    Bench,
    C,
    config_record,
    control_log,
    decision,
    mark,
    universe_record,
    weights_of,
)


def bench(*names: str, control: ControlLog | None = None, **env: str) -> Bench:
    """The stage with a universe, its first watermark already there."""
    made = Bench(
        "weights", control or control_log(config_record(**env), universe_record(names or (A, B)))
    )
    assert made.feed(mark(T0, 2, A)) == []
    return made


def at(minutes: int) -> int:
    return T0 + minutes * MINUTE


def weights(record: Weights) -> dict[str, float]:
    return {entry.instrument: entry.weight for entry in record.entries}


def one(outputs: Any) -> Weights:
    (record,) = weights_of(outputs)
    return record


# -- when an epoch closes ------------------------------------------------------------------------


def test_an_epoch_closes_when_its_last_member_has_decided() -> None:
    made = bench(A, B)
    assert made.feed(decision(A, at(1))) == []
    assert one(made.feed(decision(B, at(1)))).epoch_ms == at(1)


def test_a_decision_for_later_closes_an_epoch_too_and_the_earlier_decision_counts() -> None:
    made = bench(A, B)
    made.feed(decision(B, at(0)), decision(A, at(1), points=0.1), decision(A, at(2), points=0.9))
    closed = weights_of(made.feed(decision(B, at(3))))
    assert [record.epoch_ms for record in closed] == [at(1), at(2)]
    assert [record.entries[0].score for record in closed] == [0.1, 0.9]


def test_a_silent_member_holds_every_epoch_and_its_word_closes_them_in_order() -> None:
    made = bench(A, B)
    for minute in range(1, 200):
        assert made.feed(decision(A, at(minute))) == []
    closed = weights_of(made.feed(decision(B, at(199))))
    assert [record.epoch_ms for record in closed] == [at(minute) for minute in range(1, 200)]


def test_a_member_that_is_not_waited_for_counts_with_what_it_said_before() -> None:
    made = bench(A, B)
    made.feed(decision(B, at(0), points=0.2), decision(A, at(1), points=0.1))
    closed = one(made.feed(mark(at(1), 2)._replace(not_waited_for=(B,))))
    assert closed.epoch_ms == at(1)
    assert [(g.instrument, g.decided_ms) for g in closed.gates] == [(A, at(1)), (B, at(0))]
    # its later word for the same bar is a normal one, and changes nothing that was said
    assert made.feed(decision(B, at(1), points=0.9)) == []
    assert made.feed(decision(A, at(2), points=0.1)) == [], "it is waited for again"
    again = one(made.feed(decision(B, at(2), points=0.9)))
    assert [g.decided_ms for g in again.gates] == [at(2), at(2)]


def test_a_member_that_is_not_waited_for_and_too_old_is_not_eligible() -> None:
    made = bench(A, B)
    made.feed(decision(B, at(0)), *(decision(A, at(minute)) for minute in range(9)))
    closed = weights_of(made.feed(mark(at(8), 2)._replace(not_waited_for=(B,))))
    eligible = [[g.eligible for g in w.gates if g.instrument == B] for w in closed]
    assert eligible == [[True]] * 3 + [[False]] * 5


def test_the_word_that_comes_before_the_epoch_closes_does_not_count_either() -> None:
    made = bench(A, B, C)
    made.feed(decision(B, at(0), points=0.2), decision(C, at(0)), decision(A, at(1)))
    made.feed(mark(at(1), 2)._replace(not_waited_for=(B,)), decision(B, at(1), points=0.9))
    closed = one(made.feed(decision(C, at(1))))
    assert [g.decided_ms for g in closed.gates if g.instrument == B] == [at(0)]


def test_no_instrument_outside_the_universe_is_waited_for_or_selected() -> None:
    made = bench(A)
    assert made.feed(decision(C, at(1), points=9.0)) == []
    record = one(made.feed(decision(A, at(1))))
    assert (record.universe, weights(record)) == ((A,), {A: 1.0})


def test_a_decision_for_a_closed_epoch_changes_nothing() -> None:
    made = bench(A)
    made.feed(decision(A, at(2)))
    rows = dict(made.rows)
    assert made.feed(decision(A, at(1), points=0.9), decision(A, at(2), points=0.9)) == []
    assert made.rows == rows


def test_only_multiples_of_the_interval_are_epochs() -> None:
    made = bench(A, ALLOC_INTERVAL_SEC="300")
    closed = weights_of(made.feed(*(decision(A, at(minute)) for minute in range(1, 11))))
    assert [record.epoch_ms for record in closed] == [at(5), at(10)]


def test_an_interval_without_any_decision_is_no_epoch() -> None:
    made = bench(A)
    closed = weights_of(made.feed(decision(A, at(1)), decision(A, at(50))))
    assert [record.epoch_ms for record in closed] == [at(1), at(50)]


def test_before_the_first_watermark_nothing_is_an_epoch() -> None:
    made = Bench("weights", control_log(config_record(), universe_record((A,))))
    assert made.feed(decision(A, at(1))) == []


def test_an_empty_universe_publishes_nothing() -> None:
    made = bench(control=control_log(config_record(), universe_record(())))
    assert made.feed(decision(A, at(1))) == []


def test_the_id_of_an_epoch_is_its_time_and_there_is_one_record_each() -> None:
    made = bench(A)
    outputs = made.feed(*(decision(A, at(minute)) for minute in (1, 2, 3)))
    assert [output.timestamp_ms for output in outputs] == [at(1), at(2), at(3)]
    assert {output.key for output in outputs} == {b"portfolio"}
    assert {output.partition for output in outputs} == {0}


# -- who is selected -----------------------------------------------------------------------------


def test_weights_are_proportional_to_scores_and_sum_to_one() -> None:
    made = bench(A, B)
    record = one(made.feed(decision(A, at(1), points=0.3), decision(B, at(1), points=0.1)))
    assert weights(record) == {A: 0.3 / 0.4, B: 0.1 / 0.4}


def test_the_best_k_are_selected_and_ties_go_by_name() -> None:
    names = ("AUD_USD", "EUR_USD", "GBP_USD", "NZD_USD")
    made = bench(*names, ALLOC_TOP_K="2")
    record = one(made.feed(*(decision(name, at(1), points=0.5) for name in reversed(names))))
    assert weights(record) == {"AUD_USD": 0.5, "EUR_USD": 0.5}
    record = one(
        made.feed(*(decision(n, at(2), points=0.5 + (n == "NZD_USD")) for n in reversed(names)))
    )
    assert list(weights(record)) == ["AUD_USD", "NZD_USD"]


def selected(candidates: list[Candidate], **env: str) -> list[str]:
    universe = tuple(sorted(c.instrument for c in candidates))
    made = allocate(at(1), universe, candidates, Held((), None), Config.from_env(env))
    return [entry.instrument for entry in made.entries]


def test_the_order_of_candidates_does_not_matter() -> None:
    tied = [Candidate(name, True, False, 0.5) for name in (C, A, B)]
    assert selected(tied, ALLOC_TOP_K="2") == [A, B]


def test_more_places_than_candidates_leave_none_over() -> None:
    record = one(bench(A, ALLOC_TOP_K="1000").feed(decision(A, at(1))))
    assert (weights(record), record.top_k) == ({A: 1.0}, 1000)


@pytest.mark.parametrize("points", [None, 0.0, -0.0, -0.5, -5e-324])
def test_a_score_that_is_missing_or_not_positive_gets_nothing(points: float | None) -> None:
    made = bench(A, B)
    record = one(made.feed(decision(A, at(1), points=points), decision(B, at(1))))
    assert weights(record) == {B: 1.0}


@pytest.mark.parametrize("points", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_never_gets_into_the_log(points: float) -> None:
    made = bench(A)
    with pytest.raises(Fatal):
        made.record(decision(A, at(1), points=points))
    assert selected([Candidate(A, True, False, points), Candidate(B, True, False, 0.5)]) == [B]


def test_the_ineligible_and_the_cooling_get_nothing() -> None:
    made = bench(A, B, C)
    record = one(
        made.feed(
            decision(A, at(1), eligible=False, points=9.0),
            decision(B, at(1), cooldown_until_ms=at(2), points=9.0),
            decision(C, at(1)),
        )
    )
    assert weights(record) == {C: 1.0}
    assert [gate.cooldown for gate in record.gates] == [False, True, False]


def test_a_cooldown_that_ends_at_the_decision_is_over() -> None:
    record = one(bench(A).feed(decision(A, at(1), cooldown_until_ms=at(1))))
    assert weights(record) == {A: 1.0}


@pytest.mark.parametrize(("age_minutes", "counts"), [(0, True), (3, True), (4, False)])
def test_a_decision_older_than_its_limit_no_longer_counts(age_minutes: int, counts: bool) -> None:
    made = bench(A, B)
    closed = weights_of(
        made.feed(
            decision(B, at(10 - age_minutes), points=0.9),
            decision(A, at(10), points=0.1),
            decision(B, at(11)),
        )
    )
    record = closed[-1]
    assert record.epoch_ms == at(10)
    assert (B in weights(record)) is counts
    assert record.reported == (A, B)


def test_no_limit_is_tighter_than_three_bars() -> None:
    made = bench(A, B, GATES_BLOB_MAX_AGE_SEC="1")
    made.feed(decision(B, at(7)), decision(A, at(10)))
    assert B in weights(weights_of(made.feed(decision(B, at(11))))[-1])


def test_a_member_that_only_decided_later_is_not_reported() -> None:
    made = bench(A, B)
    record = one(made.feed(decision(A, at(1)), decision(B, at(2)))[:1])
    assert (record.universe, record.reported) == ((A, B), (A,))


def test_exposure_is_capped_per_position() -> None:
    made = bench(A, B, RISK_ALLOC_TARGET_PCT="0.4", PM_MAX_PER_POS_PCT="0.25")
    record = one(made.feed(decision(A, at(1), points=0.3), decision(B, at(1), points=0.1)))
    assert [e.target_exposure_pct for e in record.entries] == [0.25, 0.1 / 0.4 * 0.4]


# -- held and cleared ----------------------------------------------------------------------------


def test_what_was_published_is_held_for_the_limit_then_cleared() -> None:
    made = bench(A, ALLOC_MAX_HOLD_SEC="120")
    made.feed(decision(A, at(1)))
    closed = weights_of(
        made.feed(*(decision(A, at(minute), eligible=False) for minute in range(2, 7)))
    )
    assert [record.action for record in closed] == ["held", "held", "cleared", "cleared", "cleared"]
    assert [record.held_since_ms for record in closed] == [at(2), at(2), None, None, None]
    assert [record.reason for record in closed] == [
        "none_eligible",
        "none_eligible",
        "hold_expired",
        "none_eligible",
        "none_eligible",
    ]
    assert [weights(record) for record in closed] == [{A: 1.0}, {A: 1.0}, {}, {}, {}]


def test_a_publication_ends_a_hold_and_the_next_hold_counts_anew() -> None:
    made = bench(A, ALLOC_MAX_HOLD_SEC="120")
    wanted = (True, False, False, True, False, False, False)
    closed = weights_of(
        made.feed(*(decision(A, at(n), eligible=good) for n, good in enumerate(wanted, 1)))
    )
    assert [record.action for record in closed] == [
        *("published", "held", "held", "published", "held", "held", "cleared")
    ]


def test_a_hold_is_over_at_once_where_time_jumps_past_its_limit() -> None:
    made = bench(A, ALLOC_MAX_HOLD_SEC="900")
    made.feed(decision(A, at(1)), decision(A, at(2), eligible=False))
    assert one(made.feed(decision(A, at(4000), eligible=False))).action == "cleared"


def test_with_no_hold_allowed_the_first_empty_epoch_is_cleared() -> None:
    made = bench(A, ALLOC_MAX_HOLD_SEC="0")
    made.feed(decision(A, at(1)))
    assert one(made.feed(decision(A, at(2), eligible=False))).action == "cleared"


def test_before_anything_was_published_nothing_is_held() -> None:
    record = one(bench(A).feed(decision(A, at(1), eligible=False)))
    assert (record.action, record.entries, record.held_since_ms) == ("cleared", (), None)


def test_what_is_held_of_an_instrument_that_left_the_universe_is_dropped() -> None:
    control = control_log(
        config_record(), universe_record((A, B)), universe_record((B,), from_ms=at(1))
    )
    made = bench(control=control)
    made.feed(mark(at(0), 3, A, B), decision(A, at(1), points=0.3), decision(B, at(1), points=0.1))
    record = one(made.feed(decision(B, at(2), eligible=False)))
    assert record.action == "held"
    assert weights(record) == {B: 0.1 / 0.4}


# -- universe and settings over time -------------------------------------------------------------


def test_an_added_instrument_counts_for_its_span_alone() -> None:
    control = control_log(
        config_record(),
        universe_record((A,)),
        universe_record((B,), from_ms=at(2), mode="add", until_ms=at(4)),
    )
    made = bench(control=control)
    made.feed(mark(at(0), 3, A, B))
    closed = weights_of(
        made.feed(*(decision(A, at(n)) for n in range(1, 7)), *(decision(B, at(n)) for n in (3, 4)))
    )
    assert [record.universe for record in closed] == [(A,), (A,), (A, B), (A, B), (A,), (A,)]


def test_a_replaced_universe_lets_go_of_the_member_that_was_waited_for() -> None:
    control = control_log(
        config_record(), universe_record((A, B)), universe_record((A,), from_ms=at(0))
    )
    made = bench(control=control)
    assert made.feed(decision(A, at(1)), decision(A, at(2))) == []
    closed = weights_of(made.feed(mark(at(0), 3, A)))
    assert [(record.epoch_ms, record.universe) for record in closed] == [
        (at(1), (A,)),
        (at(2), (A,)),
    ]


def test_settings_hold_from_the_epoch_after_the_watermark_that_carries_them() -> None:
    control = control_log(config_record(), universe_record((A, B)), config_record(ALLOC_TOP_K="1"))
    made = bench(control=control)
    made.feed(mark(at(2), 3, A, B))
    closed = weights_of(
        made.feed(*(decision(name, at(minute)) for minute in (1, 2, 3) for name in (A, B)))
    )
    assert [record.top_k for record in closed] == [3, 3, 1]
    assert [record.control_offset for record in closed] == [2, 2, 3]
    assert closed[1].config_id != closed[2].config_id


def test_the_config_id_header_is_that_of_the_epoch() -> None:
    control = control_log(config_record(), universe_record((A,)), config_record(ALLOC_TOP_K="1"))
    made = bench(control=control)
    outputs = made.feed(mark(at(1), 3, A), decision(A, at(1)), decision(A, at(2)))
    for output, record in zip(outputs, weights_of(outputs), strict=True):
        assert dict(output.headers)["config_id"] == record.config_id.encode()
    assert len({record.config_id for record in weights_of(outputs)}) == 2


def test_watermarks_out_of_order_say_the_same_as_in_order() -> None:
    steps = [(at(1), 1), (at(2), 1), (at(3), 4), (at(3), 3), (at(5), 4), (at(9), 7), (at(7), 7)]
    forward, backward = Timeline([]), Timeline([])
    for step in steps:
        forward.add(*step)
    for step in reversed(steps):
        backward.add(*step)
    for minute in range(12):
        best = max((o for a, o in steps if a < at(minute)), default=0)
        assert forward.offset(at(minute)) == backward.offset(at(minute)) == best


def test_an_epoch_before_the_one_that_waits_does_not_wait_with_it() -> None:
    control = control_log(
        config_record(), universe_record((B,)), universe_record((A, B, C), from_ms=at(50))
    )
    made = bench(control=control)
    made.feed(mark(at(0), 3, A, B, C))
    assert made.feed(decision(C, at(100))) == []  # a partition far ahead; A has said nothing yet
    assert one(made.feed(decision(B, at(40)))).epoch_ms == at(40)


@pytest.mark.parametrize("restarted", [False, True])
def test_control_that_arrives_behind_decisions_opens_their_epochs_with_or_without_a_restart(
    restarted: bool,
) -> None:
    made = bench(control=control_log(config_record(), universe_record(()), universe_record((A,))))
    assert made.feed(decision(A, at(1))) == []
    if restarted:
        made.restart()
    assert one(made.feed(mark(at(0), 3, A))).epoch_ms == at(1)


# -- rows ----------------------------------------------------------------------------------------


def test_rows_hold_no_more_than_open_epochs_need() -> None:
    made = bench(A, B)
    for minute in range(1, 100):
        made.feed(decision(A, at(minute)), decision(B, at(minute)))
    assert len(made.rows) == 1 + 2  # the partition's own, and each member's latest decision
    for minute in range(100, 150):
        made.feed(decision(A, at(minute)))
    assert len(made.rows) == 1 + 2 + 50


def test_a_restart_with_epochs_open_closes_the_same_ones() -> None:
    steady, restarted = bench(A, B), bench(A, B)
    for minute in range(1, 20):
        for made in (steady, restarted):
            made.feed(decision(A, at(minute), eligible=minute % 3 == 0))
        restarted.restart()
    late = [decision(B, at(minute), points=minute / 10, eligible=False) for minute in (5, 19)]
    assert restarted.feed(*late) == steady.feed(*late)
    assert restarted.rows == steady.rows


def test_rows_of_another_engine_are_refused() -> None:
    made = bench(A)
    made.rows[b"~"] = made.rows[b"~"].replace(b'"engine":"', b'"engine":"x')
    with pytest.raises(Fatal, match="engine"):
        made.restart()


# -- for readers outside -------------------------------------------------------------------------


def test_blob_and_status_say_what_the_record_says() -> None:
    made = bench(A, B)
    record = one(made.feed(decision(A, at(1)), decision(B, at(1), eligible=False)))
    assert gates_blob(record) == {
        "ts": at(1),
        "gates": {A: 1, B: 0},
        "cooldowns": {A: 0, B: 0},
        "bufs": {A: 0.1, B: 0.1},
    }
    status = status_object(record, 60)
    assert (status["eligible"], status["eligible_count"], status["stale"]) == ([A], 1, False)
    assert (status["blob_age_ms"], status["ts"]) == (0, at(1) // 1000)


def test_the_blob_of_the_echo_mode_says_what_its_gates_went_by() -> None:
    def echo(name: str, minute: int, seen_ms: int | None, signal: int, **more: Any) -> GateDecision:
        found = GOOD_METRICS._replace(count_1h=4, lambda_hazard=0.25, first_seen_ms=seen_ms)
        return decision(
            *(name, at(minute)),
            **{"mode": "echo", "metrics": found, "signal_bar_ms": at(signal)} | more,
        )

    made = bench(A, B, GATE_MODE="echo")
    first = one(made.feed(echo(A, 1, at(-7), 0), echo(B, 1, None, 0, metrics=None, points=None)))
    assert gates_blob(first) == {
        "ts": at(1),
        "gates": {A: 1, B: 1},
        "cooldowns": {A: 0, B: 0},
        "bufs": {A: 0, B: 0},
        "repetition": {A: {"count_1h": 4, "first_seen_ms": at(-7)}},
        "hazard": {A: 0.25},
    }
    # a bar without a candle: the same signal, and a signal that was late; also after a restart
    made.restart()
    quiet = one(made.feed(echo(A, 2, None, 0), echo(B, 2, at(-6), 1)))
    assert gates_blob(quiet)["repetition"] == {
        A: {"count_1h": 4, "first_seen_ms": at(-7)},
        B: {"count_1h": 4, "first_seen_ms": at(-6)},
    }
    made.restart()
    last = one(made.feed(echo(A, 3, None, 0), echo(B, 3, None, 2)))
    assert {g.instrument: g.echo and g.echo.first_seen_ms for g in last.gates} == {
        A: at(-7),
        B: None,
    }


def test_rows_of_before_echo_was_kept_are_read() -> None:
    made = bench(A)
    made.feed(decision(A, at(1)))
    for key, row in made.rows.items():
        if key.startswith(b"d/"):
            content = json.loads(row)
            content["decision"] = content["decision"][:5]
            made.rows[key] = json.dumps(content).encode()
    made.restart()
    assert one(made.feed(decision(A, at(2)))).gates[0].decided_ms == at(2)
