"""Parse the time of a row; a file must use one time format.

Numbers are classified by their number of digits, never by value: 10, 13, 16 and 19 digits are epoch
seconds, milliseconds, microseconds and nanoseconds; 8, 12 and 14 digits beginning with 19 or 20 are
YYYYMMDD, YYYYMMDDHHMM and YYYYMMDDHHMMSS. A file with an unknown format is refused as a whole,
because a wrong interpretation would give some candles wrong times.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Any, Final

from streams.candles.rules import FileRefused, RowRefused
from streams.instants import EARLIEST_MS, LATEST_MS

TIME_NAMES = ("time", "t", "timestamp", "ts", "bar_ms", "date", "datetime")


class TimeForm(IntEnum):
    """Time format of a file; the values are those of cpp/io/line_form.hpp."""

    UNKNOWN = 0
    ISO = 1
    ISO_OFFSET = 2
    EPOCH_S = 3
    EPOCH_MS = 4
    EPOCH_US = 5
    EPOCH_NS = 6
    DAY_DIGITS = 7
    MINUTE_DIGITS = 8
    SECOND_DIGITS = 9
    DIGITS_OFFSET = 10

    @property
    def words(self) -> str:
        """Return a description of the format."""
        return _WORDS[self]

    @property
    def zone(self) -> str:
        """Return the time zone of the times."""
        if self in _EPOCHS.values():
            return "UTC (epoch)"
        return "UTC offsets of the rows" if self.name.endswith("_OFFSET") else "UTC (assumed)"


_WORDS: Final = {
    TimeForm.UNKNOWN: "in an unknown format",
    TimeForm.ISO: "a date and time without offset",
    TimeForm.ISO_OFFSET: "a date and time with offset",
    TimeForm.EPOCH_S: "epoch seconds",
    TimeForm.EPOCH_MS: "epoch milliseconds",
    TimeForm.EPOCH_US: "epoch microseconds",
    TimeForm.EPOCH_NS: "epoch nanoseconds",
    TimeForm.DAY_DIGITS: "a date in digits (YYYYMMDD)",
    TimeForm.MINUTE_DIGITS: "digits to the minute (YYYYMMDDHHMM)",
    TimeForm.SECOND_DIGITS: "digits to the second (YYYYMMDDHHMMSS)",
    TimeForm.DIGITS_OFFSET: "digits of a date and time with offset",
}
_EPOCHS: Final = {
    10: TimeForm.EPOCH_S,
    13: TimeForm.EPOCH_MS,
    16: TimeForm.EPOCH_US,
    19: TimeForm.EPOCH_NS,
}
_NS_OF: Final = {10: 1_000_000_000, 13: 1_000_000, 16: 1_000, 19: 1}
_KNOWN: Final = (
    "write times as 2014-05-01T00:05:00Z, or as epoch seconds, milliseconds, microseconds or "
    "nanoseconds (10, 13, 16 or 19 digits)"
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER = re.compile(r"(\d+)(?:\.(\d+))?", re.ASCII)
_DIGITS = re.compile(r"((?:19|20)\d\d)(\d\d)(\d\d)", re.ASCII)
_STAMP = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d|(?:19|20)\d{6})"
    r"(?:[T ](?P<h>\d\d)(?P<colon>:?)(?P<m>\d\d)(?:(?P=colon)(?P<s>\d\d)(?:\.(?P<f>\d+))?)?"
    r"(?P<zone>Z|[+-]\d\d(?::?\d\d)?)?)?",
    re.ASCII,
)
_SHORT_TIME = re.compile(r"[\d-]{6,10}[T ]\d{1,6}", re.ASCII)
_OTHER_DATE = re.compile(
    r"(?!\d{4}-\d\d-\d\d)\d{1,4}([./-])\d{1,2}\1\d{1,4}(?!\d).*", re.ASCII | re.DOTALL
)


class TimeColumn:
    """The time column of one file.

    Attributes
    ----------
    form
        Time format, ``UNKNOWN`` until the first time was read.
    line
        Line of that first time.
    misaligned
        Times, epoch ms, that are not the start of a bar.
    """

    def __init__(self) -> None:
        self.form = TimeForm.UNKNOWN
        self.line = 0
        self.misaligned = array("q")

    def read(self, row: Mapping[str, Any], line: int = 0) -> int:
        """Return the epoch milliseconds of a row.

        Raises
        ------
        RowRefused
            The row has no time, or one that no candle can have.
        FileRefused
            The time has an unsupported format, or another format than earlier rows.
        """
        text = time_text(row)
        form, at_ms = read_time(text)
        if self.form is TimeForm.UNKNOWN:
            self.form, self.line = form, line
        elif form is not self.form:
            raise FileRefused(
                "mixed_times",
                f"the time {text!r} is {form.words}, those from line {self.line} on are "
                f"{self.form.words}; write all times of a file in one format",
            )
        return at_ms


def time_text(row: Mapping[str, Any]) -> str:
    """Return the time of a row as text; a date and a time of day are joined.

    Raises
    ------
    RowRefused
        There is no time, or one of the two is empty.
    FileRefused
        Two fields contain times and are not ``date`` and ``time``.
    """
    cells = {name: _text(row[name]) for name in TIME_NAMES if name in row}
    if cells.keys() == {"date", "time"}:
        if not all(cells.values()):
            raise RowRefused("bad_time", "the row lacks its date or its time of day")
        if not _is_day(cells["date"]):
            raise FileRefused(
                "two_times",
                f"the columns date ({cells['date']!r}) and time ({cells['time']!r}) are not a "
                "date such as 2014-05-01 or 20140501 and a time of day; correct them, or keep one "
                "time column such as 2014-05-01T00:05:00Z",
            )
        return f"{cells['date']} {cells['time']}"
    if len(cells) > 1:
        raise FileRefused(
            "two_times", f"{' and '.join(cells)} both hold times; keep one of these columns"
        )
    text = next(iter(cells.values()), "")
    if not text:
        raise RowRefused("bad_time", "the row has no time")
    return text


def read_time(text: str) -> tuple[TimeForm, int]:
    """Return the format of a time and its epoch milliseconds.

    Raises
    ------
    RowRefused
        It is not a time, not a whole millisecond, or not between 1971 and 2100.
    FileRefused
        Its format is ambiguous or unknown.
    """
    number = _NUMBER.fullmatch(text)
    if number:
        form, at_ns = _of_digits(text, number[1], number[2] or "")
    else:
        form, at_ns = _of_stamp(text, text)
    at_ms, rest = divmod(at_ns, 1_000_000)
    if rest:
        raise RowRefused("bad_time", f"{text[:64]!r} is not a whole millisecond")
    if not EARLIEST_MS <= at_ms < LATEST_MS:
        raise RowRefused("bad_time", f"{text[:64]!r} is not between 1971 and 2100")
    return form, at_ms


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _is_day(text: str) -> bool:
    found = _STAMP.fullmatch(text)
    return found is not None and found["h"] is None


def _of_digits(text: str, whole: str, fraction: str) -> tuple[TimeForm, int]:
    count = len(whole)
    if count in _EPOCHS:
        unit = _NS_OF[count]
        return _EPOCHS[count], int(whole) * unit + _scaled(fraction, unit)
    if count in (8, 12, 14) and not fraction and _DIGITS.match(whole):
        return _of_stamp(f"{whole[:8]} {whole[8:]}".rstrip(), text)
    said = f"the time {text[:64]!r} is {_guess(count, fraction)}"
    raise FileRefused("unknown_times", f"{said}; {_KNOWN}")


def _scaled(fraction: str, unit: int) -> int:
    """Return a decimal fraction in nanoseconds, rounded up."""
    digits = fraction.rstrip("0")
    kept = digits[:9]
    number = int(kept or "0") * unit
    scale: int = 10 ** len(kept)
    return -(-number // scale) + (1 if len(digits) > 9 else 0)


def _guess(count: int, fraction: str) -> str:
    if fraction:
        return "a decimal number, which may be a spreadsheet's days"
    if count < 7:
        return f"{count} digits, which may be a time of day or a spreadsheet's days"
    if count in (9, 12):
        return f"{count} digits, which may be an epoch before 2001 or something else"
    return f"{count} digits, which are neither a date nor an epoch"


def _of_stamp(spaced: str, text: str) -> tuple[TimeForm, int]:
    found = _STAMP.fullmatch(spaced)
    if found is None:
        said = ""
        if _OTHER_DATE.fullmatch(text):
            said = f"the date of {text[:64]!r} is not written as 2014-05-01"
        elif _SHORT_TIME.fullmatch(text):
            said = f"the time of day of {text[:64]!r} has neither 4 nor 6 digits"
        if said:
            raise FileRefused("unknown_times", f"{said}; {_KNOWN}")
        raise RowRefused("bad_time", f"{text[:64]!r} is not a time")
    day = found["date"].replace("-", "")
    fraction = found["f"] or ""
    try:
        hour, minute, second = (int(found[part] or 0) for part in ("h", "m", "s"))
        date = datetime(int(day[:4]), int(day[4:6]), int(day[6:]), tzinfo=UTC)
        at = date.replace(hour=hour, minute=minute, second=second)
        offset = _offset(found["zone"] or "Z")
    except ValueError:
        raise RowRefused("bad_time", f"{text[:64]!r} is not a time") from None
    seconds = (at - _EPOCH) // timedelta(seconds=1) - offset
    nanoseconds = int((fraction + "0" * 9)[:9]) + (1 if fraction[9:].strip("0") else 0)
    form = _form(found, plain="-" not in found["date"])
    return form, seconds * 1_000_000_000 + nanoseconds


def _form(found: re.Match[str], *, plain: bool) -> TimeForm:
    # times of day with 4 and 6 digits are two formats: 1000 may be 00:10:00 without zeros
    joined = found["h"] is not None and not found["colon"]
    if found["zone"]:
        return TimeForm.DIGITS_OFFSET if plain or joined else TimeForm.ISO_OFFSET
    if joined:
        return TimeForm.MINUTE_DIGITS if found["s"] is None else TimeForm.SECOND_DIGITS
    return TimeForm.DAY_DIGITS if plain else TimeForm.ISO


def _offset(zone: str) -> int:
    """Return the UTC offset of a zone such as +05:30, seconds."""
    if zone == "Z":
        return 0
    hours, minutes = int(zone[1:3]), int(zone[3:].lstrip(":") or 0)
    if hours > 23 or minutes > 59:
        raise ValueError(zone)
    return (hours * 3600 + minutes * 60) * (-1 if zone[0] == "-" else 1)
