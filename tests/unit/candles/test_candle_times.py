"""The time of a row is read by its form; a form that is not known refuses the file."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.candles.rules import FileRefused, RowRefused
from streams.candles.times import EARLIEST_MS, LATEST_MS, TimeColumn, TimeForm, read_time

BAR_MS = 1_398_902_400_000
SECONDS = st.integers(1_000_000_000, LATEST_MS // 1000 - 1)
OFFSETS = st.integers(-23 * 60 - 59, 23 * 60 + 59)


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("2014-05-01T00:00:00Z", TimeForm.ISO_OFFSET),
        ("2014-05-01T00:00:00.000000000Z", TimeForm.ISO_OFFSET),
        ("2014-05-01 00:00:00", TimeForm.ISO),
        ("2014-05-01 00:00", TimeForm.ISO),
        ("2014-05-01", TimeForm.ISO),
        ("2014-05-01T02:00:00+02:00", TimeForm.ISO_OFFSET),
        ("2014-04-30T20:00:00.000-0400", TimeForm.ISO_OFFSET),
        ("20140501", TimeForm.DAY_DIGITS),
        ("20140501 00:00", TimeForm.DAY_DIGITS),
        ("20140501 0000", TimeForm.MINUTE_DIGITS),
        ("201405010000", TimeForm.MINUTE_DIGITS),
        ("20140501 000000", TimeForm.SECOND_DIGITS),
        ("20140501000000", TimeForm.SECOND_DIGITS),
        ("20140501T000000Z", TimeForm.DIGITS_OFFSET),
        ("1398902400", TimeForm.EPOCH_S),
        ("1398902400.0", TimeForm.EPOCH_S),
        ("1398902400.000000000", TimeForm.EPOCH_S),
        ("1398902400000", TimeForm.EPOCH_MS),
        ("1398902400000000", TimeForm.EPOCH_US),
        ("1398902400000000000", TimeForm.EPOCH_NS),
    ],
)
def test_one_instant_in_every_form(text: str, form: TimeForm) -> None:
    assert read_time(text) == (form, BAR_MS)


@pytest.mark.parametrize(
    "text",
    [
        *("0", "000500", "0005", "500", "140501", "41760", "41760.003", "1405010", "999999999"),
        *("946684800000", "11111111111", "01.05.2014 00:00:00", "2014.05.01"),
        *("5/1/2014 0:05", "2014-5-1 0:05", "20140501 500", "20140501 10000", "2014-05-01 5"),
        *("18991231", "30140501", "12345678901234567890"),
    ],
)
def test_a_form_that_is_not_known_refuses_the_file(text: str) -> None:
    with pytest.raises(FileRefused, match=r"write times as 2014-05-01T00:05:00Z") as caught:
        read_time(text)
    assert caught.value.reason == "unknown_times"
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        *("yesterday", "nan", "1e9", "-60", "+1398902400", "1_398_902_400", "\u0661398902400"),
        *("2014-02-29", "20141301", "2014-05-01T24:00:00Z", "2014-05-01T00:00:60Z"),
        *("2014-05-01T00:00:00.0005Z", "1398902400.0001", "1398902400001000001"),
        *("1970-12-31T23:59:59Z", "2100-01-01T00:00:00Z", "0001398902400", "9999999999999"),
        *("2014-05-01x00:00:00Z", "2014-W18-4", "1398902400.5.1", "2014-05-01T00:00:00+24:00"),
    ],
)
def test_a_text_that_is_no_time_of_a_candle_refuses_the_row(text: str) -> None:
    with pytest.raises(RowRefused) as caught:
        read_time(text)
    assert caught.value.reason == "bad_time"


@given(SECONDS, st.integers(0, 999), st.integers(0, 3))
def test_epochs_of_any_unit_are_the_decimal_number(seconds: int, ms: int, unit: int) -> None:
    at = Decimal(seconds) + Decimal(ms) / 1000
    whole = int(at * 1000 ** (unit + 0)) if unit else seconds
    form = (TimeForm.EPOCH_S, TimeForm.EPOCH_MS, TimeForm.EPOCH_US, TimeForm.EPOCH_NS)[unit]
    wanted = seconds * 1000 + (ms if unit else 0)
    assert read_time(str(whole)) == (form, wanted)
    assert read_time(f"{seconds}.{ms:03d}000000") == (TimeForm.EPOCH_S, seconds * 1000 + ms)


@given(st.integers(EARLIEST_MS // 1000, LATEST_MS // 1000 - 1), OFFSETS)
def test_dates_are_those_of_the_calendar(seconds: int, minutes: int) -> None:
    at = datetime.fromtimestamp(seconds, UTC)
    for text in (
        at.strftime("%Y-%m-%d %H:%M:%S"),
        at.strftime("%Y%m%d %H%M%S"),
        at.strftime("%Y%m%d%H%M%S"),
        at.strftime("%Y%m%d %H:%M:%S"),
        at.isoformat(),
        at.astimezone(timezone(timedelta(minutes=minutes))).isoformat(),
    ):
        assert read_time(text)[1] == seconds * 1000
    whole_minute = at.replace(second=0)
    for text in (at.strftime("%Y%m%d%H%M"), at.strftime("%Y-%m-%d %H:%M")):
        assert read_time(text)[1] == int(whole_minute.timestamp()) * 1000
    assert read_time(at.strftime("%Y%m%d"))[1] == seconds // 86_400 * 86_400_000


@given(st.from_regex(r"[0-9]{1,20}(\.[0-9]{1,4})?", fullmatch=True))
def test_digits_are_read_by_their_number_or_not_at_all(text: str) -> None:
    count = len(text.partition(".")[0])
    try:
        form, at_ms = read_time(text)
    except (RowRefused, FileRefused):
        return
    assert EARLIEST_MS <= at_ms < LATEST_MS
    if count in (10, 13, 16, 19):
        assert at_ms == Decimal(text) * 1000 / 1000 ** ((count - 10) // 3)
    else:
        assert count in (8, 12, 14)
        assert datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y%m%d%H%M%S").startswith(text)
        assert form in (TimeForm.DAY_DIGITS, TimeForm.MINUTE_DIGITS, TimeForm.SECOND_DIGITS)


def test_a_date_and_a_time_of_day_are_one_time() -> None:
    for date, time in (
        ("20140501", "000500"),
        ("20140501", "0005"),
        ("2014-05-01", "00:05:00"),
        ("20140501", "00:05"),
    ):
        assert TimeColumn().read({"date": date, "time": time}) == BAR_MS + 300_000


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"date": "20140501", "time": ""}, "bad_time"),
        ({"date": "", "time": "000500"}, "bad_time"),
        ({"date": "20140501", "time": "500"}, "unknown_times"),
        ({"date": "20140501", "time": "10000"}, "unknown_times"),
        ({"date": "140501", "time": "000500"}, "two_times"),
        ({"date": "2014-05-01T00:05:00Z", "time": "000500"}, "two_times"),
        ({"date": "01.05.2014", "time": "00:05"}, "two_times"),
        ({"time": "1398902400", "timestamp": "1398902400"}, "two_times"),
        ({"date": "20140501", "time": "000500", "ts": "1"}, "two_times"),
        ({}, "bad_time"),
        ({"time": None}, "bad_time"),
    ],
)
def test_two_columns_of_times_are_combined_or_refused(row: dict[str, str], reason: str) -> None:
    with pytest.raises((RowRefused, FileRefused)) as caught:
        TimeColumn().read(row)
    assert caught.value.reason == reason


def test_one_file_has_one_form() -> None:
    ways = ("2014-05-01T00:00:00Z", "2014-05-01 00:00", "1398902400", "1398902400000", "20140501")
    for first in ways:
        for other in ways:
            times = TimeColumn()
            times.read({"time": first}, 7)
            if first == other:
                assert times.read({"time": other}) == BAR_MS
                continue
            with pytest.raises(FileRefused, match="from line 7 on are") as caught:
                times.read({"time": other})
            assert caught.value.reason == "mixed_times"


def test_the_time_zone_is_said() -> None:
    assert TimeForm.ISO.zone == TimeForm.SECOND_DIGITS.zone == "UTC (assumed)"
    assert TimeForm.ISO_OFFSET.zone == "UTC offsets of the rows"
    assert TimeForm.EPOCH_NS.zone == "UTC (epoch)"
