"""How far clocks are apart, and what is said of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.oanda.clock import BrokerClock
from streams.process.clock_skew import (
    KAFKA,
    LOG,
    MAX_SKEW_MS,
    OANDA,
    REGISTRY,
    VALKEY,
    Skew,
    ahead_ms,
    apart,
    refusal,
    wrong_clock,
)
from tests.support.sample_facts import healthy, signal

NOW = 1_796_000_000_000
HOUR = 3_600_000
TIMES = st.integers(0, 10**13)
SPANS = st.integers(0, 10**7)


@given(TIMES, SPANS, st.integers(-(10**9), 10**9), SPANS, st.data())
def test_an_answer_bounds_how_far_clocks_are_apart(
    before: int, took: int, ahead: int, width: int, data: st.DataObject
) -> None:
    """The answer was given at some instant between; what is said is never more than the truth."""
    answered = data.draw(st.integers(before, before + took))
    first = data.draw(st.integers(answered - ahead - width, answered - ahead))
    found = ahead_ms(before, before + took, first, first + width)
    assert abs(found) <= abs(ahead)
    assert found * ahead >= 0
    assert abs(ahead) - abs(found) <= took + width


@pytest.mark.parametrize(
    ("skews", "said"),
    [
        ([], ""),
        ([Skew(KAFKA, MAX_SKEW_MS), Skew(VALKEY, -MAX_SKEW_MS), Skew(LOG, 0)], ""),
        (
            [Skew(KAFKA, 2 * HOUR), Skew(VALKEY, 2 * HOUR - 3), Skew(LOG, 0)],
            "this machine's clock says 2026-11-30 00:53:20 UTC, 2.0 h ahead of Kafka and Valkey; ",
        ),
        (
            [Skew(KAFKA, 0), Skew(REGISTRY, 0), Skew(VALKEY, -2 * HOUR)],
            "2.0 h behind Valkey (Kafka, the schema registry and this machine agree); ",
        ),
        ([Skew(LOG, -90_000)], "90 s behind the last candle of the log; "),
    ],
)
def test_a_wrong_clock_is_one_sentence(skews: list[Skew], said: str) -> None:
    found = wrong_clock(skews, NOW)
    assert said in found and bool(said) == bool(found)
    assert not said or found.endswith(
        "synchronise the clocks (NTP; timedatectl shows this machine's)"
    )


def test_ways_are_told_apart() -> None:
    skews = [Skew(KAFKA, 9_000), Skew(VALKEY, -9_000), Skew(OANDA, 9_400)]
    assert apart(skews) == "9 s ahead of Kafka and OANDA, 9 s behind Valkey"


@pytest.mark.parametrize(
    ("skews", "by_log", "refused"),
    [
        ([Skew(KAFKA, 2 * HOUR)], False, True),
        # the brokers agree: it is Valkey's clock that is wrong
        ([Skew(KAFKA, 0), Skew(VALKEY, 2 * HOUR)], False, False),
        # the brokers do not tell
        ([Skew(VALKEY, 2 * HOUR)], False, True),
        ([Skew(LOG, -2 * HOUR)], False, True),
        # one machine, whose clock was set back: brokers and feed agree
        ([Skew(KAFKA, 0), Skew(LOG, -2 * HOUR)], False, False),
        ([Skew(KAFKA, 0), Skew(LOG, -2 * HOUR)], True, True),
        ([], True, False),
    ],
)
def test_what_the_brokers_say_decides(skews: list[Skew], by_log: bool, refused: bool) -> None:
    assert bool(refusal(skews, NOW, by_log=by_log)) == refused


def test_oandas_time_does_not_move_with_the_wall_clock() -> None:
    wall_ms = [10_000_000]
    clock = BrokerClock(lambda: wall_ms[0])
    assert clock.server_ms(500) == 10_000_500, "nothing else is known yet"
    clock.note("Mon, 04 Mar 2024 12:00:00 GMT", 1_000, 1_010)
    before, skew = clock.server_ms(2_000), clock.skew_ms
    wall_ms[0] += 2 * HOUR
    assert clock.server_ms(2_000) == before
    assert skew is not None and clock.skew_ms == skew - 2 * HOUR
    wall_ms[0] -= 4 * HOUR
    assert clock.server_ms(2_000) == before


def test_a_cycle_of_the_future_is_no_sign_of_life() -> None:
    executor = healthy().executor
    assert executor is not None and executor.last_cycle_ms is not None
    ahead = executor._replace(last_cycle_ms=executor.last_cycle_ms + 2 * HOUR)
    found = signal("executor_stale", healthy()._replace(executor=ahead))
    assert found.state == "fail"
    assert "120 min after this clock's time: the clocks differ" in found.detail
