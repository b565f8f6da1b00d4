"""Gate decisions: one per bar at most, with every reason, also where no candle came."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import pytest

from streams.config.settings import Config
from streams.pipeline.limits import guard_lines
from streams.records.control import ControlLog
from streams.records.events import GateDecision, GateMetrics
from streams.records.topics import DEAD_LETTERS, GATES
from tests.support import reference_stages as ref
from tests.support.reference_stages import ms
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
    events_of,
    manifold,
    mark,
    universe_record,
)

STATIC = {"GATE_MODE": "static"}
STRICTER = STATIC | {"AUTO_MIN_COHERENCE": "0.95"}


def bench(*, control: ControlLog | None = None, start_ms: int = T0, **env: str) -> Bench:
    """The stage with its first watermark already there."""
    env = STATIC | env
    made = Bench("gates", control or control_log(config_record(**env), universe_record((A, B))))
    assert events_of(made.feed(mark(start_ms, 2)), GATES) == []
    return made


def at(minutes: int) -> int:
    return T0 + minutes * MINUTE


def decisions(made: Bench, *events: Any) -> list[GateDecision]:
    return events_of(made.feed(*events), GATES)


def one(made: Bench, *events: Any) -> GateDecision:
    (decision,) = decisions(made, *events)
    return decision


# -- when a decision is made ---------------------------------------------------------------------


def test_a_manifold_brings_its_bars_decision() -> None:
    made = one(bench(), manifold(at(0)))
    assert (made.instrument, made.bar_ms, made.as_of_ms) == (A, at(0), at(1))
    assert (made.eligible, made.reasons, made.no_candle) == (True, (), False)
    assert made.metrics == GOOD_METRICS


def test_a_watermark_decides_for_every_vouched_instrument_that_has_no_decision_yet() -> None:
    made = bench()
    made.feed(manifold(at(0), A))
    found = decisions(made, mark(at(1), 2, A, B))
    assert [(d.instrument, d.no_candle, d.reasons) for d in found] == [(B, True, ("warming",))]


def test_a_watermark_is_forwarded_after_the_decisions_it_brings() -> None:
    outputs = bench().feed(mark(at(1), 2, A, B))
    assert [output.key for output in outputs] == [A.encode(), B.encode(), b"~watermark"]


def test_a_bar_is_decided_once_whatever_is_repeated() -> None:
    made = bench()
    first = made.feed(manifold(at(0)), mark(at(1), 2, A), mark(at(1), 2, A), mark(at(0), 2, A))
    assert len(events_of(first, GATES)) == 1
    assert decisions(made, manifold(at(0), coherence=0.1), mark(at(1), 2, A)) == []


def test_no_candle_is_information_and_the_last_verdict_holds() -> None:
    made = bench()
    made.feed(manifold(at(0)))
    held = one(made, mark(at(2), 2, A))
    assert (held.eligible, held.no_candle, held.signal_bar_ms) == (True, True, at(0))
    assert (held.bar_ms, held.metrics) == (at(1), GOOD_METRICS._replace(first_seen_ms=None))


@pytest.mark.parametrize(("minutes", "stale"), [(1, False), (5, False), (6, True)])
def test_a_signal_is_stale_after_its_age_and_not_at_it(minutes: int, stale: bool) -> None:
    made = bench()
    made.feed(manifold(at(0)))
    found = one(made, mark(at(1 + minutes), 2, A))
    assert found.reasons == (("signal_stale",) if stale else ())


def test_a_late_signal_decides_nothing_and_is_known_to_the_next_decision() -> None:
    made = bench()
    made.feed(mark(at(3), 2, A))
    assert decisions(made, manifold(at(1), late=True, coherence=0.1)) == []
    found = one(made, mark(at(4), 2, A))
    assert (found.signal_bar_ms, found.reasons) == (at(1), ("coherence_below_min",))


def test_a_late_signal_of_an_undecided_bar_leaves_the_decision_to_the_watermark() -> None:
    made = bench()
    assert decisions(made, manifold(at(0), late=True)) == []
    found = one(made, mark(at(1), 2, A))
    assert (found.signal_bar_ms, found.no_candle, found.eligible) == (at(0), True, True)


def test_a_signal_behind_a_decision_decides_nothing_though_nobody_called_it_late() -> None:
    made = bench()
    made.feed(mark(at(3), 2, A))
    assert decisions(made, manifold(at(2))) == []
    assert one(made, manifold(at(3))).as_of_ms == at(4)


def test_watermarks_of_another_granularity_decide_nothing_and_are_forwarded() -> None:
    outputs = bench().feed(mark(at(5), 2, A, granularity="M5"))
    assert [output.key for output in outputs] == [b"~watermark"]


def test_a_manifold_before_any_configuration_is_a_dead_letter() -> None:
    made = Bench("gates", control_log(config_record()))
    (letter,) = events_of(made.feed(manifold(at(0))), DEAD_LETTERS)
    assert (letter.reason, letter.stage, letter.offset) == ("no_config", "gates", 0)


@pytest.mark.parametrize("value", [None, b"", b"\x00", b"\x01\x00\x00\x00\x07", b"\xff" * 40])
def test_bytes_that_are_no_record_are_dead_letters_and_change_nothing(value: bytes | None) -> None:
    made = bench()
    rows = dict(made.rows)
    outputs = made.feed(value)
    assert [output.topic for output in outputs] == [DEAD_LETTERS]
    assert outputs[0].event.value == value  # type: ignore[union-attr]
    assert made.rows == rows


# -- reasons -------------------------------------------------------------------------------------


def limits_of(config: Config) -> dict[str, Any]:
    return {
        "sessions": config.session_trading_enabled,
        "exit_minutes": config.session_exit_minutes,
        "mode": config.gate_mode,
        "echo_repetitions": config.echo_min_repetitions,
        "echo_hazard": config.echo_hazard_max,
        "max_hazard": config.auto_max_hazard,
        "min_coherence": config.auto_min_coherence,
        "min_stability": config.guard_min_stability,
        "max_entropy": config.auto_max_entropy,
        "max_rupture": config.auto_max_rupture,
        "repetitions": config.session_pattern_min_occurrences,
        "max_age_ms": config.fresh_max_signal_age_sec * 1000,
    }


ENVIRONMENTS: tuple[dict[str, str], ...] = (
    {},
    {"AUTO_MAX_HAZARD": "0.3"},
    {"GATE_MODE": "echo"},
    {"GATE_MODE": "echo", "SESSION_TRADING_ENABLED": "0"},
)


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_every_mix_of_good_and_bad_gives_every_reason_that_applies(env: dict[str, str]) -> None:
    config = Config.from_env(STATIC | env)
    limits = limits_of(config)
    mixes = [
        GateMetrics(
            0.9 if good[0] else 0.1,
            0.9 if good[1] else 0.1,
            0.1 if good[2] else 0.9,
            0.1 if good[3] else 0.9,
            0.1 if good[4] else 0.9,
            5 if good[5] else 1,
            0.1,
            1e-4,
        )
        for good in product((True, False), repeat=6)
    ]
    # across the opening of London, the closing of New York on a Friday, and a Saturday
    for start in (ms(2024, 1, 10, 7, 30), ms(2024, 1, 12, 21, 30), ms(2024, 1, 13, 12)):
        bars = [(start + n * MINUTE, metrics) for n, metrics in enumerate(mixes)]
        made = decisions(
            bench(start_ms=start, **env), *(manifold(bar, **m._asdict()) for bar, m in bars)
        )
        for (bar_ms, metrics), found in zip(bars, made, strict=True):
            seen = ref.Seen(bar_ms + MINUTE, bar_ms, metrics._asdict())
            assert list(found.reasons) == ref.gate_reasons(A, bar_ms + MINUTE, seen, limits)
            assert found.eligible is (not found.reasons)
            failing = {line.guard for line in guard_lines(found, config) if not line.passes}
            wanted = {
                line.guard
                for line in guard_lines(found, config)
                if (line.value < line.limit if line.relation == ">=" else line.value > line.limit)
            }
            assert failing == wanted == {d.reason for d in found.details if d.value is not None}


@pytest.mark.parametrize(
    ("field", "limit", "worse", "reason"),
    [
        ("coherence", 0.55, 0.5499999999999999, "coherence_below_min"),
        ("stability", 0.40, 0.39999999999999997, "stability_below_min"),
        ("entropy", 0.70, 0.7000000000000001, "entropy_above_max"),
        ("rupture", 0.60, 0.6000000000000001, "rupture_above_max"),
        ("lambda_hazard", 0.25, 0.25000000000000006, "hazard_above_max"),
        ("count_1h", 2, 1, "repetitions_short"),
    ],
)
def test_guards_are_inclusive_to_the_last_bit(
    field: str, limit: float, worse: float, reason: str
) -> None:
    made = bench(AUTO_MAX_HAZARD="0.25")
    assert one(made, manifold(at(0), **{field: limit})).reasons == ()
    assert one(made, manifold(at(1), **{field: worse})).reasons == (reason,)


def test_the_echo_mode_asks_for_repetitions_and_hazard_alone() -> None:
    made = bench(GATE_MODE="echo")
    assert one(made, manifold(at(0), coherence=0.0, entropy=1.0, count_1h=3)).reasons == ()
    found = one(made, manifold(at(1), lambda_hazard=0.71, count_1h=2))
    assert found.reasons == ("hazard_above_max", "repetitions_short")
    assert found.mode == "echo"


def test_sessions_are_asked_at_the_decisions_own_time() -> None:
    closing = ms(2024, 1, 10, 22, 0)  # New York closes; Sydney, Tokyo are no home of EUR_USD
    made = bench(start_ms=closing - 10 * MINUTE)
    made.feed(manifold(closing - 3 * MINUTE))
    before, after = decisions(made, mark(closing - MINUTE, 2, A), mark(closing, 2, A))
    assert (before.reasons, before.session_open, before.near_close) == (
        ("session_near_close",),
        True,
        True,
    )
    assert before.next_change_ms == closing
    assert (after.reasons, after.session_open, after.near_close) == (
        ("session_closed",),
        False,
        False,
    )
    assert after.next_change_ms == ms(2024, 1, 11, 8, 0)


def test_sessions_switched_off_are_reported_and_not_held_against_it() -> None:
    saturday = ms(2024, 1, 13, 12, 0)
    made = one(bench(start_ms=saturday, SESSION_TRADING_ENABLED="0"), manifold(saturday))
    assert (made.eligible, made.session_open, made.next_change_ms) == (True, False, None)


def test_the_weekend_gives_both_its_reasons() -> None:
    saturday = ms(2024, 1, 13, 12, 0)
    made = one(bench(start_ms=saturday), manifold(saturday))
    assert made.reasons == ("market_closed", "session_closed")


def test_a_holiday_closes_the_market_and_a_continuous_one_never_closes() -> None:
    christmas, saturday = ms(2024, 12, 25, 14, 0), ms(2024, 1, 13, 14, 0)
    made = one(bench(start_ms=christmas), manifold(christmas))
    assert made.reasons == ("market_closed", "session_closed")
    assert {d.reason: d.next_change_ms for d in made.details} == dict.fromkeys(
        made.reasons, ms(2024, 12, 26, 8, 0)
    )
    assert one(bench(start_ms=christmas, MARKET_HOLIDAYS="none"), manifold(christmas)).eligible
    for at_ms in (christmas, saturday):
        never = bench(start_ms=at_ms, MARKET_CALENDAR="continuous")
        assert one(never, manifold(at_ms)).eligible


def test_the_instruments_own_buffer_is_reported_within_its_bounds() -> None:
    made = bench(HYSTERESIS_PAIR_JSON='{"EUR_USD": 0.9, "GBP_USD": -1}')
    assert one(made, manifold(at(0), A)).buffer == 0.30
    assert one(made, manifold(at(0), B)).buffer == 0.0
    assert one(made, manifold(at(0), C)).buffer == 0.10


# -- score ---------------------------------------------------------------------------------------


def test_the_score_is_the_weighted_sum_and_the_hazard_term_is_optional() -> None:
    metrics = GateMetrics(0.61, 0.73, 0.29, 0.17, 0.37, 4, 0.1, 1e-4)

    def scored(**env: str) -> float | None:
        return one(bench(**env), manifold(at(0), **metrics._asdict())).score

    assert scored() == ref.score(metrics._asdict(), {})
    hazard = scored(ALLOC_SCORE_WEIGHT_HAZARD="0.5")
    assert hazard == ref.score(metrics._asdict(), {"w_haz": 0.5})
    assert scored(ALLOC_SCORE_WEIGHT_HAZARD="0") == scored()
    of_window = scored(ALLOC_SCORE_WEIGHT_HAZARD="0.5", ALLOC_SCORE_HAZARD="lambda_hazard")
    assert of_window == ref.score(metrics._asdict(), {"w_haz": 0.5, "hazard": "lambda_hazard"})
    assert of_window != hazard


def test_a_configuration_of_before_the_choice_still_weighs_lambda_hazard() -> None:
    def old(**env: str) -> Config:
        values = json.loads(Config.from_env(env).to_json())
        del values["ALLOC_SCORE_HAZARD"]
        return Config.from_json(json.dumps(values))

    assert old(ALLOC_SCORE_WEIGHT_HAZARD="0.5").alloc_score_hazard == "lambda_hazard"
    # where nothing is weighed the choice changes nothing, and nothing differs from the default
    assert old() == Config.from_env({})
    assert old(ALLOC_SCORE_WEIGHT_HAZARD="0") == Config.from_env({"ALLOC_SCORE_WEIGHT_HAZARD": "0"})


def test_a_decision_has_the_first_sighting_of_its_own_signal_alone() -> None:
    made = bench()
    found = one(made, manifold(at(0), first_seen_ms=at(-9)))
    assert found.metrics == GOOD_METRICS._replace(first_seen_ms=at(-9))
    quiet = one(made, mark(at(2), 2, A))
    assert quiet.metrics == found.metrics._replace(first_seen_ms=None)
    made.feed(manifold(at(2), late=True, first_seen_ms=at(-8)))
    of_late = one(made, mark(at(3), 2, A))
    assert (of_late.signal_bar_ms, of_late.metrics) == (at(2), quiet.metrics)


def test_the_ineligible_have_a_score_too_and_the_warming_have_none() -> None:
    made = bench()
    assert one(made, manifold(at(0), coherence=0.1)).score is not None
    warming = one(made, mark(at(1), 2, B))
    assert (warming.score, warming.metrics, warming.signal_bar_ms) == (None, None, None)


# -- control -------------------------------------------------------------------------------------


def test_settings_change_at_the_watermark_that_carries_them() -> None:
    control = control_log(
        config_record(**STATIC), config_record(**STATIC, AUTO_MIN_COHERENCE="0.95")
    )
    made = Bench("gates", control)
    made.feed(mark(at(0), 1))
    found = decisions(made, manifold(at(0)), mark(at(1), 2), manifold(at(1)))
    assert [d.reasons for d in found] == [(), ("coherence_below_min",)]
    assert [d.control_offset for d in found] == [1, 2]
    assert found[0].config_id != found[1].config_id


def test_the_decisions_a_watermark_brings_are_under_the_settings_it_carries() -> None:
    control = control_log(
        config_record(**STATIC), config_record(**STATIC, AUTO_MIN_COHERENCE="0.95")
    )
    made = Bench("gates", control)
    made.feed(mark(at(0), 1), manifold(at(0)))
    assert one(made, mark(at(2), 2, A)).reasons == ("coherence_below_min",)


def test_a_watermark_of_an_older_control_changes_nothing_back() -> None:
    control = control_log(
        config_record(**STATIC), config_record(**STATIC, AUTO_MIN_COHERENCE="0.95")
    )
    made = Bench("gates", control)
    made.feed(mark(at(0), 2), mark(at(0), 1))
    assert one(made, manifold(at(0))).control_offset == 2


def test_a_watermark_ahead_of_ops_control_is_a_dead_letter() -> None:
    (output,) = bench().feed(mark(at(1), 9, A))
    assert output.event.reason == "control_missing"


def test_rows_go_through_a_restart_at_any_point() -> None:
    steady, restarted = bench(), bench()
    events = [
        manifold(at(0)),
        mark(at(2), 2, A, B),
        manifold(at(1), late=True, coherence=0.1),
        mark(at(9), 2, A, B),
        manifold(at(9), B),
    ]
    for event in events:
        assert restarted.feed(event) == steady.feed(event)
        restarted.restart()
    assert restarted.rows == steady.rows
