"""The bulk reader of candle files gives what the reader row by row gives, to the bit."""

from __future__ import annotations

import gzip
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from streams.candles import bulk_csv as bulk
from streams.candles.bulk_csv import BulkFile
from streams.candles.files import Refused
from streams.records.events import Candle
from tests.support.bulk_reading import (
    SIDED,
    in_bulk,
    odd_prices,
    odd_times,
    outcome,
    slowly,
    usual_times,
)
from tests.support.candle_files import HEADER, csv_line, market

MINUTE_MS = 60_000
HEADERS = (
    SIDED,
    HEADER,
    "time,open,high,low,close,volume",
    "volume,c,l,h,o,Time",
    "time,o,h,l,c,bid_o,bid_h,bid_l,bid_c,ask_o,ask_h,ask_l,ask_c",
    "t,mid.o,mid.h,mid.l,mid.c,bid_o,bid_h,bid_l,bid_c,v,complete",
    "symbol, timestamp ,o,h,l,c,ask.open,ask.high,ask.low,ask.close,bid,gran",
    "time,o,h,l,c,v,complete",
)
HEADERS_OF_THE_SLOW_WAY = (
    "time,open,high,low,close,o",
    "time,t,o,h,l,c",
    "date,time,o,h,l,c",
    "time,o,h,l,c,o,volume",
    "time;o;h;l;c",
    "2014-05-01,1,1,1,1",
    ",o,h,l,c",
    'time,"o",h,l,c',
    "time,o,h,l,c,what",
    "o,h,l,c",
    "time,o,h,l",
    "",
    " {",
)
# -- generated files -----------------------------------------------------------------------------


def written(draw: st.DrawFn, points: int) -> str:
    plain = f"{points // 100_000}.{points % 100_000:05d}"
    return plain if draw(st.integers(0, 60)) else draw(st.sampled_from(odd_prices(points)))


WAYS = len(usual_times(0))


def time_text(draw: st.DrawFn, bar_ms: int, way: int) -> str:
    """Return a time as the file writes it (``way``), in some files now and then another way."""
    if way >= WAYS and draw(st.integers(0, 40)) == 0:
        return draw(st.sampled_from(("", "x", *usual_times(bar_ms), *odd_times(bar_ms))))
    return usual_times(bar_ms)[way % WAYS]


VOLUMES = ("", "", "7", "0", "43.0", "-1", "1e3", "9007199254740993", "x", " 7", "99" * 9)
PARTS = (*VOLUMES, "43.5")


@st.composite
def lines_of(draw: st.DrawFn, header: str, way: int) -> str:
    bar_ms = 1_398_902_400_000 + MINUTE_MS * draw(st.integers(0, 40))
    if draw(st.integers(0, 30)) == 0:
        bar_ms += draw(st.sampled_from((1, 1_000, 5_000, -5_000)))
    low = draw(st.integers(100_000, 140_000))
    opened, closed = low + draw(st.integers(0, 30)), low + draw(st.integers(0, 30))
    high = max(opened, closed) + draw(st.integers(0, 9))
    if draw(st.integers(0, 30)) == 0:
        high = draw(st.integers(low - 2, high))
    prices = {"o": opened, "h": high, "l": low, "c": closed}
    spread = draw(st.sampled_from((0, 1, 7, 7, 7, 12, -1)))
    left_out = draw(st.sampled_from(("", "", "", "bid", "ask", "mid", "all")))
    cells = []
    for name in header.lower().split(","):
        letter = name.strip(' "').replace(".", "_").rpartition("_")[2][:1]
        side = name.strip().replace(".", "_").rpartition("_")[0] or "mid"
        if name.strip() in ("time", "t", "timestamp"):
            cells.append(time_text(draw, bar_ms, way))
        elif name.strip() in ("volume", "v"):
            usual = draw(st.integers(0, 9))
            odd = VOLUMES if way % 4 else PARTS
            cells.append(str(usual) if usual else draw(st.sampled_from(odd)))
        elif name.strip() == "complete":
            cells.append(draw(st.sampled_from(("", "true", "True", "1", "yes", "0", "false", "x"))))
        elif name.strip() in ("instrument", "symbol"):
            names = ("EUR_USD", "eur/usd", "NZD_USD", "", "EUR USD", "Ä", "A" * 33, "A" * 99)
            cells.append(draw(st.sampled_from((*names[:3], *names))))
        elif name.strip() in ("granularity", "gran"):
            cells.append(draw(st.sampled_from(("M1", "M1", "m1", "S5", "H1", "H4", "", "D", "é"))))
        elif name.strip() == "bid":
            cells.append(draw(st.sampled_from(("", "1.1", "x", "ü", "1\0"))))
        elif left_out in (side, "all") and draw(st.integers(0, 40)):
            cells.append("")
        else:
            points = prices.get(letter, opened) + (spread if side == "ask" else 0)
            cells.append(written(draw, points))
    if draw(st.integers(0, 60)) == 0:
        cells = cells[: draw(st.integers(0, len(cells)))]
    if draw(st.integers(0, 60)) == 0:
        cells.append(draw(st.sampled_from(("", "1", '"'))))
    return ",".join(cells)


@st.composite
def files(draw: st.DrawFn) -> bytes:
    usual = draw(st.integers(0, 7)) > 0
    header = draw(st.sampled_from(HEADERS if usual else HEADERS_OF_THE_SLOW_WAY))
    ends = draw(st.sampled_from((("\n",), ("\r\n",), ("\n", "\r\n"), ("\n", "\n", "\n", "\r"))))
    odd = ("", " ", "# a comment", '"', 'a"b', '"a\nb",1', "\r", ",", "," * 70, "\0", "\ufeff")
    out = header + draw(st.sampled_from(ends))
    way = draw(st.integers(0, 2 * WAYS - 1))
    for _ in range(draw(st.integers(0, 25))):
        if draw(st.integers(0, 20)) == 0:
            out += draw(st.sampled_from(odd))
        else:
            out += draw(lines_of(header if header.strip() else SIDED, way))
        out += draw(st.sampled_from(ends))
    if draw(st.booleans()):
        out = out[:-1]
    content = out.encode()
    if draw(st.integers(0, 25)) == 0:
        at = draw(st.integers(0, len(content)))
        content = (
            content[:at] + draw(st.sampled_from((b"\xff", b"\xc3", b"\xe2\x82"))) + content[at:]
        )
    return draw(st.sampled_from((b"", b"", b"\xef\xbb\xbf"))) + content


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(files(), st.integers(1, 9), st.integers(1, 400), st.booleans())
@example(f"{SIDED}\r".encode(), 1, 1, False)
@example(f'{SIDED}\n"{"x" * 140_000}\n\n1,2\n"\n'.encode(), 1, 9, False)
@example(f"{SIDED}\n2014-05-01T00:00:00.{'0' * 140_000}Z{',1' * 9}\n".encode(), 1, 9, False)
def test_any_file_gives_what_it_gives_row_by_row(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, rows: int, piece: int, packed: bool
) -> None:
    path = tmp_path_factory.mktemp("files") / "candles.csv"
    path.write_bytes(gzip.compress(content, 1) if packed else content)
    for names in (("EUR_USD", "M1"), (None, None)):
        slow = outcome(slowly(str(path), *names) for _ in range(1))
        for sizes in ((65_536, 1 << 22), (rows, piece)):
            found = outcome(in_bulk(str(path), *names, *sizes) for _ in range(1))
            # of two faults of a file the first is said in bulk, that of its bytes row by row
            bad_bytes = isinstance(slow, str) and "is not UTF-8" in slow
            assert isinstance(found, str) if bad_bytes else found == slow


# -- recorded and synthetic candles --------------------------------------------------------------


@pytest.fixture
def the_slow_way_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let only the first row of a file go the slow way: it says how the times are written."""
    candle_of = bulk.candle_of

    def first_alone(path: str, line: int, *more: Any) -> Candle | Refused:
        assert line == 2, "read row by row"
        return candle_of(path, line, *more)

    def refuse(*arguments: object) -> None:
        raise AssertionError(f"read row by row: {arguments}")

    monkeypatch.setattr(bulk, "read_candles", refuse)
    monkeypatch.setattr(bulk, "candle_of", first_alone)


def recorded(shared_data: Path | None, tmp_path: Path) -> list[str]:
    if shared_data is not None:
        return sorted(map(str, shared_data.glob("oanda-*.csv.gz")))
    path = tmp_path / "EUR_USD-M1.csv.gz"
    text = "\n".join([HEADER, *map(csv_line, market(["EUR_USD"], 3_000))])
    path.write_bytes(gzip.compress(text.encode()))
    return [str(path)]


@pytest.mark.usefixtures("the_slow_way_is_closed")
def test_recorded_files_are_read_to_the_bit_and_no_row_the_slow_way(
    shared_data: Path | None, tmp_path: Path
) -> None:
    paths = recorded(shared_data, tmp_path)
    assert paths
    for path in paths:
        series, refused, read = in_bulk(path, None, None)
        assert (series, refused, read) == slowly(path, None, None)
        assert (len(series), refused) == (1, [])
        assert read > 2_900


@pytest.mark.usefixtures("the_slow_way_is_closed")
def test_a_file_of_many_instruments_is_a_block_for_each(tmp_path: Path) -> None:
    candles = market(["EUR_USD", "NZD_USD", "USD_JPY"], 500)
    path = tmp_path / "all.csv"
    path.write_text("\n".join([HEADER, *map(csv_line, candles)]))
    found = in_bulk(str(path), None, None, rows=100)
    assert found == slowly(str(path), None, None)
    assert {key.instrument for key in found[0]} == {"EUR_USD", "NZD_USD", "USD_JPY"}
    chunk = next(iter(BulkFile(str(path), rows=100)))
    assert (chunk.read, len(chunk.blocks)) == (100, 3)
    assert all(row.flags.c_contiguous for block in chunk.blocks for row in block.prices)


@pytest.mark.parametrize("cut", [2, 400, -9, -4, -1])
def test_gzip_cut_short_or_damaged_is_fatal_in_the_same_words(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "candles.csv.gz"
    text = "\n".join([HEADER, *map(csv_line, market(["EUR_USD"], 300))])
    whole = gzip.compress(text.encode())
    for content in (whole[:cut], whole[:cut] + b"\x55" + whole[cut + 1 or len(whole) :]):
        path.write_bytes(content)
        said = outcome(slowly(str(path)) for _ in range(1))
        assert isinstance(said, str)
        assert outcome(in_bulk(str(path)) for _ in range(1)) == said


def test_gzip_of_several_members_with_zeros_behind_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "candles.csv.gz"
    rows = [csv_line(c) for c in market(["EUR_USD"], 300)]
    first, second = "\n".join([HEADER, *rows[:100]]) + "\n" + rows[100][:20], rows[100][20:]
    second += "\n" + "\n".join(rows[101:])
    path.write_bytes(gzip.compress(first.encode()) + gzip.compress(second.encode()) + b"\0" * 99)
    series, refused, read = in_bulk(str(path), None, None, piece_bytes=100)
    assert (series, refused, read) == slowly(str(path), None, None)
    assert (refused, read) == ([], len(rows))


@pytest.mark.parametrize("content", [b"", b" \n\n", b"\xff\xfe", b"{}", b"[1, 2]", b'{"a": [1,'])
def test_what_is_no_csv_is_left_to_the_other_readers(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "candles.json"
    path.write_bytes(content)
    assert outcome(in_bulk(str(path)) for _ in range(1)) == outcome(
        slowly(str(path)) for _ in range(1)
    )


def test_json_lines_come_in_the_same_blocks(tmp_path: Path) -> None:
    path = tmp_path / "candles.jsonl"
    row = '{{"t": {}, "o": 1.1, "h": 1.2, "l": 1.0, "c": 1.15}}'
    path.write_text(
        "\n".join([row.format(1_398_902_400 + 60 * at) for at in range(20)] + ["{", "[1]"])
    )
    found = in_bulk(str(path), rows=7)
    assert found == slowly(str(path))
    assert (found[2], [r.line for r in found[1]]) == (22, [21, 22])


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    text = "\n".join([HEADER, *map(csv_line, market(["EUR_USD"], 50))])
    writer = threading.Thread(target=lambda: path.write_text(text))
    writer.start()
    series, refused, read = in_bulk(str(path), None, None)
    writer.join()
    plain = tmp_path / "plain"
    plain.write_text(text)
    assert (series, refused, read) == slowly(str(plain), None, None)
    assert read > 40


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    for path in (str(tmp_path / "nothing.csv"), str(tmp_path)):
        said = outcome(slowly(path) for _ in range(1))
        assert isinstance(said, str)
        assert outcome(in_bulk(path) for _ in range(1)) == said


def test_candles_that_end_in_the_future_are_refused_in_their_place(tmp_path: Path) -> None:
    path = tmp_path / "candles.csv"
    start = 1_398_902_400
    times = (start, "x", start + 7_200, "y", start + 60)
    rows = [f"{time},1,1,1,1" for time in times]
    path.write_text("\n".join(["time,o,h,l,c", *rows]))
    (chunk,) = BulkFile(str(path), "EUR_USD", "M1", now_ms=start * 1000 + 2 * MINUTE_MS)
    assert [(r.line, r.reason) for r in chunk.refused] == [
        (3, "bad_time"),
        (4, "in_the_future"),
        (5, "bad_time"),
    ]
    assert [block.lines.tolist() for block in chunk.blocks] == [[2, 6]]
