"""Candle files: every refused row named by file and line, the good ones around it kept."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from streams.candles.files import MOST_UNPACKED, Refused, file_text, read_candles
from streams.candles.text_blocks import LineSource
from streams.errors import Fatal
from streams.records.events import Candle

HEADER = "time,bid_o,bid_h,bid_l,bid_c,ask_o,ask_h,ask_l,ask_c,volume"
PRICES = "1.38676,1.38686,1.38669,1.38686,1.38686,1.38697,1.38680,1.38697,43"
Write = Callable[[str, str | bytes], str]


def row(minute: int) -> str:
    return f"2014-05-01T00:{minute:02d}:00Z,{PRICES}"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(name: str, content: str | bytes) -> str:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return written


def rows(path: str, instrument: str | None = "EUR_USD") -> tuple[list[int], list[Refused]]:
    """Return the lines that gave candles, and the refusals."""
    found = list(read_candles(path, instrument, "M1"))
    good = [line for line, item in found if isinstance(item, Candle)]
    return good, [item for _, item in found if isinstance(item, Refused)]


def test_the_header_of_the_recorded_csv_is_read(shared_data: Path | None, write: Write) -> None:
    if shared_data is None:
        path = write(
            "oanda-EUR_USD-M1-2014-05.csv.gz", gzip.compress(f"{HEADER}\n{row(0)}".encode())
        )
    else:
        path = str(shared_data / "oanda-EUR_USD-M1-2014-05.csv.gz")
    line, candle = next(iter(read_candles(path)))
    assert line == 2
    assert isinstance(candle, Candle)
    assert (candle.instrument, candle.granularity) == ("EUR_USD", "M1")
    assert candle.bid is not None
    assert (candle.bid.open, candle.volume, candle.mid_derived) == (1.38676, 43, True)


def test_names_in_the_file_name_are_used_only_where_the_caller_names_none(write: Write) -> None:
    path = write("oanda-EUR_USD-M1.csv", f"{HEADER}\n{row(0)}\n")
    (_, named), (_, told) = next(read_candles(path)), next(read_candles(path, "NZD_USD", "M1"))
    assert isinstance(named, Candle)
    assert isinstance(told, Candle)
    assert (named.instrument, told.instrument) == ("EUR_USD", "NZD_USD")


def test_bad_csv_lines_are_named_and_the_good_ones_around_them_kept(write: Write) -> None:
    bad_price = row(2).replace("1.38676", "x")
    path = write(
        "a.csv",
        "\n".join([HEADER, row(0), "2014-05-01T00:01:00Z,1", bad_price, "", row(4), "?," + PRICES]),
    )
    good, refused = rows(path)
    assert good == [2, 6]
    assert [(r.file, r.line, r.reason) for r in refused] == [
        (path, 3, "bad_csv"),
        (path, 4, "bad_number"),
        (path, 7, "bad_time"),
    ]
    assert "the header has 10" in refused[0].detail


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_byte_order_mark_and_any_line_ends_are_read(write: Write, end: str) -> None:
    path = write("a.csv", b"\xef\xbb\xbf" + end.join([HEADER.upper(), row(0), row(1)]).encode())
    assert rows(path) == ([2, 3], [])


def test_an_unknown_column_stops_the_file_and_is_named(write: Write) -> None:
    path = write("a.csv", "time,opne,high,low,close\n")
    with pytest.raises(Fatal, match=r"a\.csv:1: unknown columns 'opne'"):
        rows(path)


def test_json_lines_are_read_and_bad_ones_named(write: Write) -> None:
    good = {"time": "2014-05-01T00:00:00Z", "o": "1.1", "h": "1.2", "l": "1.0", "c": "1.15"}
    lines = [json.dumps(good), "{", "[1]", "", json.dumps(good | {"complete": False})]
    path = write("a.jsonl", "\n".join([*lines, json.dumps(good | {"time": "2014-05-01 00:01Z"})]))
    kept, refused = rows(path)
    assert kept == [1, 6]
    assert [(r.line, r.reason) for r in refused] == [
        (2, "bad_json"),
        (3, "bad_json"),
        (5, "incomplete"),
    ]


def oanda_answer(count: int) -> dict[str, object]:
    prices = {"o": "1.38676", "h": "1.38686", "l": "1.38669", "c": "1.38686"}
    return {
        "instrument": "EUR_USD",
        "granularity": "M1",
        "candles": [
            {
                "complete": at < count - 1,
                "volume": 43,
                "time": f"2014-05-01T00:{at:02d}:00.000000000Z",
                "mid": prices,
            }
            for at in range(count)
        ],
    }


@pytest.mark.parametrize("indent", [None, 2])
def test_an_oanda_answer_names_instrument_and_granularity_itself(
    write: Write, indent: int | None
) -> None:
    path = write("answer.json", json.dumps(oanda_answer(3), indent=indent))
    found = list(read_candles(path))
    assert [c.instrument for _, c in found if isinstance(c, Candle)] == ["EUR_USD", "EUR_USD"]
    last = found[-1][1]
    assert isinstance(last, Refused)
    assert (last.line, last.reason) == (3, "incomplete")


def test_a_list_of_candles_is_read_by_place(write: Write) -> None:
    good = {"t": 1_398_902_400, "o": 1.1, "h": 1.2, "l": 1.0, "c": 1.15}
    path = write("a.json", json.dumps([good, 7, good], indent=1))
    kept, refused = rows(path)
    assert kept == [1, 3]
    assert [(r.line, r.reason) for r in refused] == [(2, "bad_json")]


def test_gzip_is_known_by_its_first_bytes_not_by_its_name(write: Write) -> None:
    path = write("a.csv", gzip.compress(f"{HEADER}\n{row(0)}\n".encode()))
    assert rows(path) == ([2], [])


def test_a_truncated_gzip_file_is_fatal_and_takes_nothing(write: Write) -> None:
    whole = gzip.compress("\n".join([HEADER, *map(row, range(60))]).encode())
    path = write("a.csv.gz", whole[: len(whole) // 2])
    with pytest.raises(Fatal, match=r"a\.csv\.gz is a damaged or truncated gzip file"):
        rows(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"\xff\x00\x00", "is not text"),
        ("time,o".encode("utf-16"), "is UTF-16; save it as UTF-8"),
        (b'{"a": [1,', "neither CSV, JSON lines nor a JSON document"),
        (b"[" * 100_000, "neither CSV, JSON lines nor a JSON document"),
    ],
)
def test_a_file_that_holds_no_candles_is_one_sentence(
    write: Write, content: bytes, said: str
) -> None:
    with pytest.raises(Fatal, match=said):
        rows(write("a.json", content))


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(Fatal, match=r"cannot read .*nothing\.csv: No such file"):
        rows(str(tmp_path / "nothing.csv"))


def test_a_gzip_bomb_is_refused_by_its_size(tmp_path: Path) -> None:
    path = tmp_path / "bomb.json.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b'{"candles":[')
        for _ in range(MOST_UNPACKED // (1 << 22) + 1):
            file.write(b" " * (1 << 22))
    assert path.stat().st_size < 4_000_000
    with pytest.raises(Fatal, match=r"bomb\.json\.gz holds more than 256 MiB when it is decomp"):
        file_text(str(path))


def test_a_line_without_end_is_refused_by_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.candles.text_blocks.MOST_LINE", 1 << 20)
    path = tmp_path / "line.csv.gz"
    path.write_bytes(gzip.compress(b"time,open,high,low,close\n" + b"1" * (1 << 22)))
    source = LineSource(str(path), 1 << 18)
    assert source.text(0) == "time,open,high,low,close\n"
    with pytest.raises(Fatal, match="has a line of more than"):
        while source.more():
            source.at = len(source.data)
