"""The market's hours by example: week, holidays, pauses, and what a setting may say."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from streams.candles.calendar import FX, calendar_of
from streams.candles.market_clock import market_at, open_ms_between
from streams.candles.sessions import session_state, session_states
from streams.config.holidays import HOLIDAYS_VERSION
from streams.config.settings import Config
from streams.errors import Fatal
from tests.support.reference_stages import ms

MINUTE = 60_000
NEW_YORK = "America/New_York"
CONTINUOUS = calendar_of(Config(market_calendar="continuous"))
PLAIN = calendar_of(Config(market_holidays="none"))


def ny(*when: int) -> int:
    return ms(*when, zone=NEW_YORK)  # type: ignore[misc,arg-type]


@pytest.mark.parametrize("year", [2024, 2025])
@pytest.mark.parametrize(("eve", "day"), [((12, 24), (12, 25)), ((12, 31), (1, 1))])
def test_a_holiday_begins_at_the_close_of_the_day_before_and_ends_at_its_own_opening(
    year: int, eve: tuple[int, int], day: tuple[int, int]
) -> None:
    close_ms = ny(year, *eve, 16, 59)
    open_ms = ny(year + (day == (1, 1)), *day, 17, 5)
    for at_ms, is_open in (
        *((close_ms - 1, True), (close_ms, False), (close_ms + 6 * MINUTE, False)),
        *((open_ms - 1, False), (open_ms, True)),
    ):
        assert FX.is_open(at_ms) is is_open
        assert session_state(FX, "EUR_USD", at_ms, 5).market_open is is_open
        assert PLAIN.is_open(at_ms)
    assert FX.missing_bars(close_ms - MINUTE, open_ms, MINUTE) == 0
    assert FX.missing_bars(close_ms - MINUTE, open_ms + MINUTE, MINUTE) == 1
    assert market_at(FX, close_ms + 10 * 60 * MINUTE) == (False, open_ms, "holiday")
    assert open_ms_between(FX, close_ms, open_ms + MINUTE) == MINUTE


def test_sessions_end_at_the_close_before_a_holiday_and_that_is_near_close() -> None:
    close_ms = ny(2024, 12, 24, 16, 59)
    assert not session_state(FX, "EUR_USD", close_ms - 5 * MINUTE - 1, 5).near_close
    state = session_state(FX, "EUR_USD", close_ms - 5 * MINUTE, 5)
    assert state == (True, True, True, close_ms)
    # London's session of Christmas Day is left out: the next one is that of the day after
    christmas = session_state(FX, "EUR_GBP", ms(2024, 12, 25, 12), 5)
    assert christmas == (False, False, False, ms(2024, 12, 26, 8))


def test_a_holiday_on_a_friday_or_a_monday_makes_a_long_weekend() -> None:
    # Christmas 2026 is a Friday: closed from Thursday to Sunday
    thursday, sunday = ny(2026, 12, 24, 16, 59), ny(2026, 12, 27, 17, 5)
    assert not any(FX.is_open(at) for at in range(thursday, sunday, 30 * MINUTE))
    assert FX.is_open(sunday)
    assert market_at(FX, ny(2026, 12, 25, 12)) == (False, sunday, "holiday")
    assert market_at(FX, ny(2026, 12, 26, 12)) == (False, sunday, "weekend")
    assert FX.first_bar_ms(thursday, MINUTE) == sunday
    # and in 2023 a Monday: from Friday to Monday
    friday, monday = ny(2023, 12, 22, 16, 59), ny(2023, 12, 25, 17, 5)
    assert not any(FX.is_open(at) for at in range(friday, monday, 30 * MINUTE))
    assert FX.is_open(monday)


def test_a_holiday_at_a_weekend_changes_nothing() -> None:
    # Christmas 2021 is a Saturday, Christmas 2022 a Sunday
    for year, month, day in ((2021, 12, 20), (2022, 12, 19)):
        at = ny(year, month, day)
        for minutes in range(0, 8 * 1440, 7):
            assert FX.is_open(at + minutes * MINUTE) == PLAIN.is_open(at + minutes * MINUTE)


def test_pauses_stop_the_market_clock_and_not_the_gates() -> None:
    pause = ny(2024, 6, 4, 16, 59)
    assert FX.is_open(pause)
    assert market_at(FX, pause) == (False, pause + 6 * MINUTE, "daily pause")
    # 06:59 to 07:05 in Auckland is 18:59 UTC in its winter and 17:59 in its summer
    for start in (ms(2024, 6, 4, 18, 59), ms(2024, 1, 10, 17, 59)):
        assert FX.is_open(start)
        assert market_at(FX, start, "EUR_USD").open
        paused = (False, start + 6 * MINUTE, "daily pause of NZD pairs")
        assert market_at(FX, start, "NZD_USD") == market_at(FX, start, "AUD_NZD") == paused
        assert open_ms_between(FX, start, start + 7 * MINUTE, "NZD_USD") == MINUTE
        assert open_ms_between(FX, start, start + 7 * MINUTE, "EUR_USD") == 7 * MINUTE


def test_a_continuous_market_never_closes_and_keeps_its_sessions_on_all_days() -> None:
    saturday, christmas = ms(2024, 1, 13, 12), ms(2024, 12, 25, 12)
    for at_ms in (saturday, christmas, ny(2024, 6, 4, 17)):
        assert CONTINUOUS.is_open(at_ms)
        assert market_at(CONTINUOUS, at_ms, "NZD_USD") == (True, None, "")
    assert session_state(CONTINUOUS, "EUR_GBP", saturday, 5) == (
        *(True, False, True, ms(2024, 1, 13, 16)),
    )
    # Tokyo's Sunday begins on Saturday evening UTC, and New York's Friday goes over the week's end
    assert session_state(CONTINUOUS, "USD_JPY", ms(2024, 1, 13, 23), 5).open
    friday_evening = ny(2024, 1, 12, 16, 59)
    assert session_state(CONTINUOUS, "EUR_USD", friday_evening, 0) == (
        *(True, False, True, friday_evening + MINUTE),
    )
    assert CONTINUOUS.missing_bars(0, 10 * MINUTE, MINUTE) == 9
    assert open_ms_between(CONTINUOUS, saturday, saturday + 7) == 7


def test_no_instants_have_no_states() -> None:
    import numpy as np

    for calendar in (FX, CONTINUOUS):
        found = session_states(calendar, "EUR_USD", np.zeros(0, np.int64), 5)
        assert [len(column) for column in found] == [0, 0, 0, 0]


def test_hours_of_ones_own_replace_the_table() -> None:
    own = {"2026-11-27": "00:00-13:00", "12-25": "closed", "2026-12-25": "02:00-03:00,05:00-06:00"}
    calendar = calendar_of(Config(market_holidays=json.dumps(own)))
    friday = ny(2026, 11, 27, 13)
    assert calendar.is_open(friday - 1) and not calendar.is_open(friday)
    assert calendar.first_bar_ms(friday, MINUTE) == ny(2026, 11, 29, 17, 5)
    hours = [hour for hour in range(24) if calendar.is_open(ny(2026, 12, 25, hour, 30))]
    assert hours == [2, 5]
    assert not any(calendar.is_open(ny(2028, 12, 25, hour, 30)) for hour in range(24))
    assert calendar.is_open(ny(2026, 12, 31, 18)), "the table no longer counts"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("oandas", "neither oanda nor none nor JSON"),
        ("[]", "neither oanda nor none nor JSON"),
        ("{", "neither oanda nor none nor JSON"),
        ('{"2026-13-01": "closed"}', "2026-13-01"),
        ('{"2026-02-29": "closed"}', "2026-02-29"),
        ('{"25-12": "closed"}', "25-12"),
        ('{"12-25": "10:00"}', "hours of 12-25"),
        ('{"12-25": "10:00-09:00"}', "hours of 12-25"),
        ('{"12-25": "10:00-24:01"}', "hours of 12-25"),
        ('{"12-25": "10:00-25:00"}', "hours of 12-25"),
        ('{"12-25": ""}', "hours of 12-25"),
        ('{"12-25": null}', "hours of 12-25"),
        ('{"12-25": ["closed"]}', "hours of 12-25"),
        ('{"12-25": "closed", "12-25": "00:00-01:00"}', "twice"),
        ("{" + ",".join(f'"01-{n:02}": "closed"' for n in range(1, 32)) + "}", "at most"),
    ],
)
def test_what_cannot_be_hours_is_refused_with_its_name(value: str, said: str) -> None:
    with pytest.raises(Fatal) as refused:
        Config.from_env({"MARKET_HOLIDAYS": value})
    assert "MARKET_HOLIDAYS" in str(refused.value)
    assert said in str(refused.value)


def test_a_record_of_before_the_calendar_is_read_with_the_first_table() -> None:
    old = json.loads(Config().to_json())
    for name in ("MARKET_CALENDAR", "MARKET_HOLIDAYS", "MARKET_HOLIDAYS_VERSION"):
        del old[name]
    found = Config.from_json(json.dumps(old))
    assert (found.market_calendar, found.market_holidays) == ("fx", "oanda")
    assert found.market_holidays_version == "2026.1"


def test_another_version_of_the_table_is_a_difference() -> None:
    other = Config(market_holidays_version="2020.1")
    said = Config().differences(other)
    assert said == [f"MARKET_HOLIDAYS_VERSION: {HOLIDAYS_VERSION} != 2020.1"]


def test_equal_settings_give_one_calendar() -> None:
    assert calendar_of(Config()) is calendar_of(Config(session_exit_minutes=7))
    continuous = Config(market_calendar="continuous")
    assert calendar_of(continuous) is calendar_of(replace(continuous, session_exit_minutes=7))
