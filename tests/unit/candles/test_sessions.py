"""Sessions and the market week, against local clocks asked minute by minute."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.candles.calendar import FX
from streams.candles.sessions import session_state, sessions_of
from tests.support import reference_stages as ref
from tests.support.reference_stages import ms

MINUTE = 60_000
NEW_YORK = "America/New_York"
PAIRS = ("EUR_USD", "USD_JPY", "AUD_NZD", "NZD_USD", "EUR_GBP", "USD_MXN", "GBP_JPY", "AUD_USD")
# weeks in which clocks change in New York, in London and in Sydney (northern and southern spring)
CHANGES = (
    ms(2024, 3, 10),
    ms(2024, 3, 31),
    ms(2024, 4, 7),
    ms(2024, 10, 6),
    ms(2024, 10, 27),
    ms(2024, 11, 3),
)


@pytest.mark.parametrize("around", CHANGES)
@pytest.mark.parametrize("instrument", PAIRS[:4])
def test_every_minute_around_a_change_of_clocks_is_what_local_clocks_say(
    instrument: str, around: int
) -> None:
    for at_ms in range(around - 30 * 3_600_000, around + 42 * 3_600_000, MINUTE):
        state = session_state(FX, instrument, at_ms, 5)
        assert state.open == ref.in_session(instrument, at_ms), at_ms
        assert state.market_open == ref.in_market(at_ms), at_ms


instants = st.integers(ms(1971, 1, 1), ms(2100, 1, 1)).map(lambda at: at - at % MINUTE)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(PAIRS), instants, st.integers(0, 720))
def test_state_and_next_change_are_what_minutes_one_by_one_say(
    instrument: str, at_ms: int, exit_minutes: int
) -> None:
    state = session_state(FX, instrument, at_ms, exit_minutes)
    assert state.open == ref.in_session(instrument, at_ms)
    assert state.market_open == ref.in_market(at_ms)
    assert state.next_change_ms == ref.next_change_ms(instrument, at_ms)
    assert state.near_close == ref.near_close(instrument, at_ms, exit_minutes)


@pytest.mark.parametrize(
    ("at_ms", "is_open"),
    [
        (ms(2024, 1, 7, 17, 4, NEW_YORK), False),
        (ms(2024, 1, 7, 17, 5, NEW_YORK), True),
        (ms(2024, 1, 12, 16, 58, NEW_YORK), True),
        (ms(2024, 1, 12, 16, 59, NEW_YORK), False),
        (ms(2024, 1, 13, 12, 0, NEW_YORK), False),
    ],
)
def test_the_week_is_open_from_sunday_1705_to_friday_1659_new_york(
    at_ms: int, is_open: bool
) -> None:
    assert session_state(FX, "EUR_USD", at_ms, 5).market_open is is_open


def test_hours_are_half_open_to_the_millisecond() -> None:
    opening, closing = ms(2024, 1, 9, 8, 0), ms(2024, 1, 9, 16, 0)  # London winter
    states = [
        session_state(FX, "EUR_GBP", at, 0) for at in (opening - 1, opening, closing - 1, closing)
    ]
    assert [state.open for state in states] == [False, True, True, False]


def test_a_hand_over_between_sessions_is_not_near_close() -> None:
    london_closes = ms(2024, 1, 9, 16, 0)
    assert not session_state(FX, "EUR_USD", london_closes - MINUTE, 5).near_close
    assert session_state(FX, "EUR_GBP", london_closes - MINUTE, 5).near_close
    assert session_state(FX, "EUR_USD", ms(2024, 1, 9, 16, 59, NEW_YORK), 5).near_close


def test_the_end_of_the_market_week_is_near_close_though_the_session_goes_on() -> None:
    friday = ms(2024, 1, 12, 16, 54, NEW_YORK)
    assert session_state(FX, "EUR_USD", friday, 5).near_close
    assert not session_state(FX, "EUR_USD", friday - 1, 5).near_close
    assert session_state(FX, "EUR_USD", friday, 5).next_change_ms == friday + 5 * MINUTE


def test_exit_minutes_are_inclusive_and_zero_means_never() -> None:
    closing = ms(2024, 1, 9, 16, 0)
    assert session_state(FX, "EUR_GBP", closing - 5 * MINUTE, 5).near_close
    assert not session_state(FX, "EUR_GBP", closing - 5 * MINUTE - 1, 5).near_close
    assert not session_state(FX, "EUR_GBP", closing - 1, 0).near_close


def test_after_the_last_session_of_a_week_the_next_change_lies_in_the_next_week() -> None:
    friday_evening = ms(2024, 1, 12, 18, 0, NEW_YORK)
    assert session_state(FX, "EUR_GBP", friday_evening, 5).next_change_ms == ms(2024, 1, 15, 8, 0)


def test_currencies_without_a_home_count_as_london_and_new_york() -> None:
    assert sessions_of("USD_MXN") == ("London", "New York")
    assert sessions_of("AUD_JPY") == ("Sydney", "Tokyo")


@settings(max_examples=100, deadline=None)
@given(
    instants,
    st.integers(1, 5 * 1440),
    st.sampled_from((60_000, 300_000, 900_000, 3_600_000)),
)
def test_missing_bars_are_those_that_start_in_the_market_week(
    before_ms: int, minutes: int, granularity_ms: int
) -> None:
    before_ms -= before_ms % granularity_ms
    bar_ms = before_ms + max(1, minutes * MINUTE // granularity_ms) * granularity_ms
    found = FX.missing_bars(before_ms, bar_ms, granularity_ms)
    assert found == ref.missing_bars(before_ms, bar_ms, granularity_ms)


def test_a_weekend_holds_no_missing_bars() -> None:
    last, first = ms(2024, 1, 12, 16, 58, NEW_YORK), ms(2024, 1, 14, 17, 5, NEW_YORK)
    assert FX.missing_bars(last, first, MINUTE) == 0
    assert FX.missing_bars(last, first + MINUTE, MINUTE) == 1
    assert FX.missing_bars(last, last + MINUTE, MINUTE) == 0


def test_a_gap_of_years_is_counted_without_walking_through_it() -> None:
    # 52 weeks later: a market week has 7194 minutes (5 days less 6 minutes)
    start = ms(2023, 1, 8, 17, 5, NEW_YORK)
    later = start + 52 * 7 * 86_400_000
    # Christmas 2023 and New Year 2024 are Mondays: from Sunday 17:05 to Monday 17:05 it is closed
    assert FX.missing_bars(start, later, MINUTE) == 52 * 7194 - 1 - 2 * 1440
