"""Calendars against local clocks read minute by minute: both markets, all pairs, 1971 to 2099."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.candles.calendar import FX, Calendar, calendar_of
from streams.candles.market_clock import market_at, open_ms_between
from streams.candles.sessions import session_intervals, session_state, session_states
from streams.config.settings import Config
from tests.support import reference_stages as ref
from tests.support.reference_stages import ms

MINUTE, DAY = 60_000, 86_400_000
CONTINUOUS = calendar_of(Config(market_calendar="continuous"))
CURRENCIES = ("EUR", "GBP", "CHF", "USD", "CAD", "JPY", "AUD", "NZD", "MXN", "XAU")

pairs = st.tuples(st.sampled_from(CURRENCIES), st.sampled_from(CURRENCIES)).map("_".join)
calendars = st.sampled_from((FX, CONTINUOUS))
years = st.integers(1971, 2099)


def _holidays(year: int) -> int:
    return ms(year, 12, 24)


def _changes(year: int) -> int:
    return ms(year, 3, 1)


instants = st.one_of(
    st.integers(ms(1971, 1, 5), ms(2099, 12, 1)),
    # around the holidays, and in the months in which clocks change in the north and the south
    st.builds(lambda year, after: _holidays(year) + after, years, st.integers(0, 12 * DAY)),
    st.builds(lambda year, after: _changes(year) + after, years, st.integers(0, 40 * DAY)),
    st.builds(lambda year, after: ms(year, 9, 25) + after, years, st.integers(0, 45 * DAY)),
)


def is_continuous(calendar: Calendar) -> bool:
    return calendar is CONTINUOUS


@settings(max_examples=100, deadline=None)
@given(calendars, pairs, instants, st.sampled_from((0, 5, 60)))
def test_state_is_what_minutes_one_by_one_say(
    calendar: Calendar, pair: str, at_ms: int, exit_minutes: int
) -> None:
    at_ms -= at_ms % MINUTE
    state, always = session_state(calendar, pair, at_ms, exit_minutes), is_continuous(calendar)
    assert state.open == ref.in_session(pair, at_ms, continuous=always)
    assert state.market_open == ref.in_market(at_ms, continuous=always) == calendar.is_open(at_ms)
    assert state.next_change_ms == ref.next_change_ms(pair, at_ms, continuous=always)
    assert state.near_close == ref.near_close(pair, at_ms, exit_minutes, continuous=always)


@settings(max_examples=100, deadline=None)
@given(calendars, pairs, instants, st.lists(st.integers(0, 3 * DAY), max_size=6), st.booleans())
def test_many_at_once_are_as_one_by_one(
    calendar: Calendar, pair: str, first_ms: int, after: list[int], far: bool
) -> None:
    # close together or with a year between them, in any order
    wanted = [first_ms + ms for ms in after] + [first_ms + 400 * DAY] * far
    found = session_states(calendar, pair, np.array(wanted, np.int64), 5)
    one_by_one = [session_state(calendar, pair, at, 5) for at in wanted]
    assert list(zip(*(column.tolist() for column in found), strict=True)) == one_by_one


@settings(max_examples=60, deadline=None)
@given(calendars, pairs, instants)
def test_intervals_are_the_instants_at_which_a_pair_is_open(
    calendar: Calendar, pair: str, at_ms: int
) -> None:
    spans = session_intervals(calendar, pair, at_ms, at_ms + 9 * DAY)
    assert spans == sorted(spans)
    for opened, closed in spans:
        assert session_state(calendar, pair, opened, 0).next_change_ms == closed
        assert not session_state(calendar, pair, closed, 0).open
        assert not session_state(calendar, pair, opened - 1, 0).open


@settings(max_examples=60, deadline=None)
@given(calendars, instants, st.integers(1, 5 * 1440), st.sampled_from((1, 5, 15, 60, 240)))
def test_missing_bars_are_those_that_start_in_an_open_market(
    calendar: Calendar, before_ms: int, minutes: int, length: int
) -> None:
    length *= MINUTE
    before_ms -= before_ms % length
    bar_ms = before_ms + max(1, minutes * MINUTE // length) * length
    found = calendar.missing_bars(before_ms, bar_ms, length)
    always = is_continuous(calendar)
    assert found == ref.missing_bars(before_ms, bar_ms, length, continuous=always)


@settings(max_examples=60, deadline=None)
@given(calendars, instants, st.integers(1, 12_000), st.sampled_from((5_000, MINUTE, 60 * MINUTE)))
def test_the_last_bars_are_open_bars_and_the_next_one_has_not_ended(
    calendar: Calendar, now_ms: int, bars: int, length: int
) -> None:
    start_ms = calendar.start_of_last_bars_ms(now_ms, bars, length)
    end_ms = calendar.last_bar_end_ms(now_ms, length)
    assert start_ms % length == 0
    assert calendar.is_open(start_ms) and calendar.is_open(end_ms - length)
    assert calendar.missing_bars(start_ms - length, end_ms, length) == bars
    assert end_ms <= now_ms
    following = calendar.first_bar_ms(end_ms, length)
    assert calendar.is_open(following)
    assert following + length > now_ms
    assert calendar.missing_bars(end_ms - length, following, length) == 0


@settings(max_examples=60, deadline=None)
@given(calendars, pairs, instants)
def test_the_market_clock_is_open_when_the_market_is_and_no_pause_is(
    calendar: Calendar, pair: str, at_ms: int
) -> None:
    at_ms -= at_ms % MINUTE
    here, there = ref.local(at_ms, "America/New_York"), ref.local(at_ms, "Pacific/Auckland")
    pause = (16, 59) <= (here.hour, here.minute) < (17, 5)
    nzd_pause = "NZD" in pair and (6, 59) <= (there.hour, there.minute) < (7, 5)
    always, market = is_continuous(calendar), market_at(calendar, at_ms, pair)
    if always:
        assert market == (True, None, "")
        return
    assert market.open == (ref.in_market(at_ms) and not pause and not nzd_pause)
    assert (market.closed_for == "") == market.open
    assert market.next_change_ms is not None and market.next_change_ms > at_ms
    assert market_at(calendar, market.next_change_ms, pair).open != market.open
    assert market_at(calendar, market.next_change_ms - 1, pair).open == market.open


@settings(max_examples=60, deadline=None)
@given(calendars, pairs, instants, st.integers(0, 3 * 1440))
def test_open_time_is_the_sum_of_open_minutes(
    calendar: Calendar, pair: str, from_ms: int, minutes: int
) -> None:
    from_ms -= from_ms % MINUTE
    to_ms = from_ms + minutes * MINUTE
    is_open = (market_at(calendar, at, pair).open for at in range(from_ms, to_ms, MINUTE))
    assert open_ms_between(calendar, from_ms, to_ms, pair) == sum(is_open) * MINUTE


dates = st.one_of(
    st.dates().map(lambda day: f"{day:%m-%d}"),
    st.integers(0, 30).map(lambda after: f"2024-03-{after + 1:02}"),
)
edges = st.lists(st.integers(0, 1440), min_size=2, max_size=4, unique=True).map(sorted)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(dates, edges, max_size=4), st.integers(0, 31 * 1440))
def test_hours_of_ones_own_hold_on_their_dates_and_nowhere_else(
    special: dict[str, list[int]], after: int
) -> None:
    def clock(minute: int) -> str:
        return f"{minute // 60:02}:{minute % 60:02}"

    said = {day: f"{clock(at[0])}-{clock(at[1])}" for day, at in special.items()}
    text = ", ".join(f'"{day}": "{hours}"' for day, hours in said.items())
    calendar = calendar_of(Config(market_holidays="{" + text + "}"))
    at_ms = ms(2024, 3, 1) + after * MINUTE
    here = ref.local(at_ms, "America/New_York")
    hours = special.get(f"{here:%Y-%m-%d}", special.get(f"{here:%m-%d}"))
    minute, day = here.hour * 60 + here.minute, here.isoweekday() % 7
    in_week = (day < 5 and (day > 0 or minute >= 1025)) or (day == 5 and minute < 1019)
    inside = hours is None or hours[0] <= minute < hours[1]
    assert calendar.is_open(at_ms) == (in_week and inside)
