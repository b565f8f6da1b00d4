"""Candle files in the shapes that people have: each is read right or refused in a sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from streams.cli.calibrate import calibrate
from streams.cli.load import load
from streams.cli.lookahead import lookahead
from streams.cli.replay import replay
from streams.cli.snapshot import snapshot
from streams.errors import Fatal

SIDED = "time,bid_o,bid_h,bid_l,bid_c,ask_o,ask_h,ask_l,ask_c,volume"
MID = "time,open,high,low,close,volume"
START = datetime(2014, 5, 1, tzinfo=UTC)
Cell = Callable[[datetime], str]


def prices(row: int, side: float = 0.0) -> list[str]:
    low = 1.386 + (row * 7 % 13) / 1e5 + side
    return [f"{price:.5f}" for price in (low + 3e-5, low + 9e-5, low, low + 5e-5)]


def mid_lines(time: Cell, rows: int = 300, step: int = 1, volume: str = "43") -> list[str]:
    starts = (START + timedelta(minutes=step * row) for row in range(rows))
    return [",".join([time(at), *prices(n), volume]) for n, at in enumerate(starts)]


def sided_lines(rows: int = 300, step: int = 1, first: datetime = START) -> list[str]:
    starts = (first + timedelta(minutes=step * row) for row in range(rows))
    return [
        ",".join([f"{at:%Y-%m-%dT%H:%M:%SZ}", *prices(n), *prices(n, 1e-4), str(10 + n % 7)])
        for n, at in enumerate(starts)
    ]


def text(header: str, lines: list[str]) -> str:
    return "\n".join([header, *lines]) + "\n" if header else "\n".join(lines) + "\n"


def epoch(at: datetime) -> str:
    return str(int(at.timestamp()))


def semicolons() -> bytes:
    lines = mid_lines(lambda at: f"{at:%Y%m%d %H%M%S}", volume="0")
    return text("", lines).replace(",", ";").encode()


def metatrader() -> bytes:
    lines = mid_lines(lambda at: f"{at:%Y.%m.%d\t%H:%M:%S}")
    header = "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>"
    return text(header, lines).replace(",", "\t").encode("utf-16")


# name, what stands in it when the recorded one is not there, options, what is said
CASES: dict[str, tuple[Callable[[], bytes], tuple[str, ...], str]] = {
    "DAT_ASCII_EURUSD_M1_201405.csv": (semicolons, (), "cells are separated by semicolons"),
    "EURUSD_M1_utf16.csv": (metatrader, (), "is UTF-16; save it as UTF-8"),
    "EURUSD_Candlestick_1_M_BID_01.05.2014-03.05.2014.csv": (
        lambda: text(
            "Gmt time,Open,High,Low,Close,Volume",
            mid_lines(lambda at: f"{at:%d.%m.%Y %H:%M:%S}.000", volume="58.91"),
        ).encode(),
        ("--granularity", "M1"),
        "unknown columns 'gmt time'",
    ),
    "eurusd-m1-bid-2014-05-01-2014-05-03.csv": (
        lambda: text(MID, mid_lines(lambda at: epoch(at) + "000", volume="58.91")).encode(),
        (),
        "the volume '58.91' is not a whole number of ticks",
    ),
    "eurusd-m1-ask-novol-2014-05-01.csv": (
        lambda: text(MID, mid_lines(lambda at: epoch(at) + "000", volume="")).encode(),
        (),
        "its name says ask, its columns are read as mid prices of EUR_USD",
    ),
    "OANDA_EURUSD, 1.csv": (
        lambda: text(MID + ",Volume MA", [line + "," for line in mid_lines(epoch)]).encode(),
        ("--granularity", "M1"),
        "unknown columns 'volume ma'",
    ),
    "pandas_index.csv": (
        lambda: text(MID[4:], mid_lines(lambda at: f"{at:%Y-%m-%d %H:%M:%S}")).encode(),
        ("--instrument", "EURUSD", "--granularity", "M1"),
        "column 1 has no name; name it",
    ),
    "fracvol.csv": (
        lambda: text(MID, mid_lines(epoch, volume="64.5")).encode(),
        ("--instrument", "EURUSD", "--granularity", "M1"),
        "the volume '64.5' is not a whole number of ticks",
    ),
    "EUR_USD-M1-really-M5.csv": (
        lambda: text(SIDED, sided_lines(step=5)).encode(),
        ("--granularity", "M1"),
        "bars from 2014-05-01 00:00:00 on are 300 s (M5) apart",
    ),
}


@pytest.fixture
def shared_cases() -> Path | None:
    place = Path(__file__).resolve().parents[4] / "shared/cases/candles"
    return place if place.is_dir() else None


def run(command: click.Command, *arguments: str) -> Result:
    done = CliRunner().invoke(command, arguments)
    if done.exception is not None and not isinstance(done.exception, (SystemExit, Fatal)):
        raise done.exception
    return done


def placed(shared: Path | None, name: str, content: bytes, tmp_path: Path) -> str:
    if shared is not None and (shared / name).exists():
        return str(shared / name)
    path = tmp_path / name
    path.write_bytes(content)
    return str(path)


@pytest.mark.parametrize("command", [load, replay, calibrate, lookahead, snapshot])
@pytest.mark.parametrize("name", CASES)
def test_a_file_that_would_be_read_wrongly_is_refused_whole(
    shared_cases: Path | None, tmp_path: Path, name: str, command: click.Command
) -> None:
    content, options, said = CASES[name]
    path = placed(shared_cases, name, content(), tmp_path)
    more = ("--dry-run",) if command is load else ()
    done = run(command, path, *options, *more)
    assert isinstance(done.exception, Fatal)
    assert said in str(done.exception)
    assert str(done.exception).startswith(path)
    assert done.exception.exit_code == 2


def test_a_date_and_a_time_in_two_columns_are_one_time(
    shared_cases: Path | None, tmp_path: Path
) -> None:
    made = text("date," + MID, mid_lines(lambda at: f"{at:%Y%m%d,%H%M%S}")).encode()
    path = placed(shared_cases, "stooq_two_time_columns.csv", made, tmp_path)
    given = ("--instrument", "eurusd", "--granularity", "m1", "--json", "--dry-run")
    done = run(load, path, *given)
    assert done.exit_code == 0
    (found,) = json.loads(done.stdout)["series"]
    assert found["instrument"] == "EUR_USD"
    assert found["granularity"] == "M1"
    assert found["first_bar_ms"] == 1_398_902_400_000
    assert found["last_bar_ms"] < 1_401_580_800_000
    assert (found["side"], found["time_zone"]) == ("mid", "UTC (assumed)")


def test_what_a_file_holds_is_said(tmp_path: Path) -> None:
    path = tmp_path / "OANDA_EURUSD, 1min.csv"
    path.write_text(text(SIDED, sided_lines()))
    span = "EUR_USD M1, 300 rows, 2014-05-01 00:00:00 to 2014-05-01 04:59:00"
    rest = "times UTC offsets of the rows, prices bid and ask (mid derived)"
    for arguments in ((load, "--dry-run"), (replay,)):
        done = run(arguments[0], str(path), *arguments[1:])  # type: ignore[arg-type]
        assert done.exit_code == 0
        assert f"{path}: {span}, {rest}" in done.stdout


TIMES: dict[str, tuple[Cell, str]] = {
    "hour and minute": (lambda at: f"{at:%H%M}", "4 digits"),
    "short year": (lambda at: f"{at:%y%m%d%H%M}", "they may be YYMMDDHHMM"),
    "short year, seconds": (lambda at: f"{at.replace(year=2020):%y%m%d%H%M%S}", "unreadable time"),
    "date alone": (lambda at: f"{at:%Y%m%d}", "dates without a time of day"),
    "date and hour": (lambda at: f"{at:%Y%m%d%H}", "not the start of a bar"),
    "spreadsheet": (lambda at: str(at.timestamp() / 86_400 + 25_569), "a spreadsheet's days"),
    "month first": (lambda at: f"{at:%m/%d/%Y %H:%M}", "is not written as 2014-05-01"),
    "words": (lambda at: f"{at:%b %d %Y %H:%M}", "have an unreadable time"),
    "ends of bars": (lambda at: f"{at:%Y-%m-%d %H:%M:59}", "not the start of a bar of M1"),
    "mixed": (lambda at: epoch(at) if at.minute % 9 else at.isoformat(), "write all times"),
}


@pytest.mark.parametrize("what", TIMES)
def test_times_of_an_unknown_form_leak_no_row(tmp_path: Path, what: str) -> None:
    time, said = TIMES[what]
    path = tmp_path / "EUR_USD-M1.csv"
    path.write_text(text(MID, mid_lines(time)))
    done = run(load, str(path), "--dry-run")
    assert isinstance(done.exception, Fatal)
    assert said in str(done.exception)
    assert "no row is accepted" in str(done.exception)


def test_a_few_seconds_that_may_be_digits_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "EUR_USD-M1.csv"
    path.write_text(text(MID, ["1405010040,1,1,1,1,1"]))
    assert "can be epoch seconds or YYMMDDHHMM" in str(run(load, str(path), "--dry-run").exception)
    path.write_text(text(MID, ["1398902400,1,1,1,1,1"]))
    assert run(load, str(path), "--dry-run").exit_code == 0


@pytest.mark.parametrize(
    ("name", "lines", "said"),
    [
        ("EUR_USD-M5.csv", sided_lines(), "bars are 60 s (M1) apart"),
        ("EUR_USD-H4.csv", sided_lines(step=60), "are 3600 s (H1) apart"),
        (
            "EUR_USD-M1.csv",
            sided_lines() + sided_lines(40, 5, START + timedelta(days=1)),
            "bars from 2014-05-02 00:00:00 on are 300 s (M5) apart",
        ),
        (
            "EUR_USD-M1.csv",
            sided_lines() + sided_lines(150, 2),
            "rows have other numbers for a bar than a row before",
        ),
        ("EURUSD_GBPUSD_M1.csv", sided_lines(), "its name says EUR_USD and GBP_USD"),
        ("history-M1.csv", sided_lines(), "give --instrument, such as"),
        ("EURUSD.csv", sided_lines(), "give --granularity, such as"),
    ],
)
def test_bars_that_are_not_what_they_are_called(
    tmp_path: Path, name: str, lines: list[str], said: str
) -> None:
    path = tmp_path / name
    path.write_text(text(SIDED, lines))
    for command, more in ((load, ("--dry-run",)), (replay, ()), (lookahead, ())):
        done = run(command, str(path), *more)
        assert isinstance(done.exception, Fatal)
        assert said in str(done.exception)


MID_FIELDS = ("mid_o", "mid_h", "mid_l", "mid_c")


@pytest.mark.parametrize(
    ("columns", "cells", "said"),
    [
        (("ticks",), ("7",), "volume ('43') and ticks ('7') are two values of one field"),
        (("o",), ("1.38601",), "and o ('1.38601') are two values of one field"),
        (("symbol", "instrument"), ("GBPUSD", "EURUSD"), "are two values of one field"),
        (MID_FIELDS, ("2", "2", "2", "2"), "different mid prices under two names"),
        (("bid", "ask"), ("1.3", "1.4"), "unknown columns 'bid', 'ask'; rename or remove them"),
    ],
)
def test_no_column_is_left_unread(
    tmp_path: Path, columns: tuple[str, ...], cells: tuple[str, ...], said: str
) -> None:
    path = tmp_path / "EUR_USD-M1.csv"
    lines = [",".join([line, *cells]) for line in mid_lines(epoch, 20)]
    path.write_text(text(",".join([MID, *columns]), lines))
    for command, more in ((load, ("--dry-run",)), (replay, ())):
        done = run(command, str(path), *more)
        assert isinstance(done.exception, Fatal)
        assert said in str(done.exception)


@pytest.mark.parametrize("cells", [("43",), ("",)])
def test_a_second_column_that_says_nothing_else_is_read(
    tmp_path: Path, cells: tuple[str, ...]
) -> None:
    path = tmp_path / "EUR_USD-M1.csv"
    lines = [",".join([line, *cells]) for line in mid_lines(epoch, 20)]
    path.write_text(text(f"{MID},ticks", lines))
    assert run(load, str(path), "--dry-run").exit_code == 0


def test_every_command_counts_refused_rows_and_ends_with_3(tmp_path: Path) -> None:
    path = tmp_path / "EUR_USD-M1.csv"
    bad = ["?,1,1,1,1,1,1,1,1,1", "2014-05-02T00:00:00Z,x" + ",1" * 8]
    path.write_text(text(SIDED, [*sided_lines(), *bad]))
    wanted: dict[str, Any] = {"bad_number": 1, "bad_time": 1}
    page = tmp_path / "page.html"
    runs: list[tuple[click.Command, tuple[str, ...]]] = [
        (replay, ("--json", "--report", str(page))),
        (calibrate, ("--json",)),
        (lookahead, ("--json", "--cuts", "1")),
        (snapshot, ()),
    ]
    for command, more in runs:
        done = run(command, str(path), *more)
        assert done.exit_code == 3, done.output
        refused = json.loads(done.stdout)["refused_rows"]
        assert (refused["count"], refused["by_reason"]) == (2, wanted)
        assert [one["line"] for one in refused["first"]] == [302, 303]
        assert f"{path}:302: refused: bad_time" in done.stderr
        assert "2 of 302 rows refused: bad_number 1, bad_time 1" in done.stderr
    assert "2 of 302 rows of the files were refused and are left out" in page.read_text()
    for command, more in ((load, ("--dry-run",)), (replay, ("--topic", "sep.signals"))):
        assert run(command, str(path), *more).exit_code == 3


def test_a_file_of_refused_rows_alone_says_why(tmp_path: Path) -> None:
    path = tmp_path / "EUR_USD-M1.csv"
    path.write_text(text(MID, [f"{line}x" for line in mid_lines(epoch, 20)]))
    for command in (replay, calibrate, lookahead, snapshot):
        said = str(run(command, str(path)).exception)
        assert "no candle is left: 20 of 20 rows of the files were refused" in said
        assert "bad_number 20" in said
