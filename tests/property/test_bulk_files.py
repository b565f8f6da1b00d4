"""The bulk reader of candle files gives what the reader row by row gives, to the bit."""

from __future__ import annotations

import gzip
import os
import random
import struct
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from streams.errors import Fatal
from streams.events import Candle
from streams.feed import bulk
from streams.feed.bulk import BulkFile, Chunk
from streams.feed.column_series import SeriesColumns, candles_of
from streams.feed.files import Refused, read_candles
from streams.feed.series import SeriesKey
from tests.candle_files import HEADER, csv_line, market

MINUTE_MS = 60_000
SIDED = "time,bid_o,bid_h,bid_l,bid_c,ask_o,ask_h,ask_l,ask_c,volume"
HEADERS = (
    SIDED,
    HEADER,
    "time,open,high,low,close,volume",
    "volume,c,l,h,o,Time",
    "t,mid.o,mid.h,mid.l,mid.c,bid_o,bid_h,bid_l,bid_c,v,complete",
    "symbol, timestamp ,o,h,l,c,ask.open,ask.high,ask.low,ask.close,bid,gran",
    "time,o,h,l,c,o,volume",
)
HEADERS_OF_THE_SLOW_WAY = (
    "time,open,high,low,close,o",
    "time,t,o,h,l,c",
    'time,"o",h,l,c',
    "time,o,h,l,c,what",
    "o,h,l,c",
    "time,o,h,l",
    "",
    " {",
)
Found = tuple[dict[SeriesKey, list[tuple[int, str]]], list[Refused], int]


def bits(candle: Candle) -> str:
    """Return all of a candle; of a double the repr tells every bit but those of a NaN."""
    return repr(candle)


def slowly(path: str, instrument: str | None = "EUR_USD", granularity: str | None = "M1") -> Found:
    series: dict[SeriesKey, list[tuple[int, str]]] = {}
    refused, read = [], 0
    for line, item in read_candles(path, instrument, granularity):
        read += 1
        if isinstance(item, Refused):
            refused.append(item)
        else:
            key = SeriesKey(item.instrument, item.granularity)
            series.setdefault(key, []).append((line, bits(item)))
    return series, refused, read


def gathered(chunks: Iterator[Chunk]) -> Found:
    series: dict[SeriesKey, list[tuple[int, str]]] = {}
    refused, read = [], 0
    for chunk in chunks:
        assert chunk.read == len(chunk.refused) + sum(len(b.bar_ms) for b in chunk.blocks)
        refused += chunk.refused
        read += chunk.read
        for block in chunk.blocks:
            candles = candles_of(block.key, SeriesColumns(*block[1:5]))
            lines = block.lines.tolist()
            series.setdefault(block.key, []).extend(
                (line, bits(candle)) for line, candle in zip(lines, candles, strict=True)
            )
    return series, refused, read


def in_bulk(
    path: str,
    instrument: str | None = "EUR_USD",
    granularity: str | None = "M1",
    rows: int = 65_536,
    piece_bytes: int = 1 << 22,
) -> Found:
    one = BulkFile(path, instrument, granularity, rows=rows, piece_bytes=piece_bytes)
    return gathered(iter(one))


def outcome(read: Iterator[Found]) -> Found | str:
    try:
        return next(read)
    except Fatal as fatal:
        return str(fatal)


# -- generated files -----------------------------------------------------------------------------


def written(draw: st.DrawFn, points: int) -> str:
    """Return a price of so many points, in one of the ways people write it."""
    plain = f"{points // 100_000}.{points % 100_000:05d}"
    odd = (
        *(plain + "0" * 12, plain + "0" * 13, plain + "0" * 40, "0" * 30 + plain, "00" + plain),
        *(f"{points}e-5", f"{points}E-5", "+" + plain, " " + plain, plain + "\t", f'"{plain}"'),
        *(plain.rstrip("0"), plain + "1234567", plain + "12345678901234567890", plain + "_0"),
        *("", "-" + plain, "nan", "inf", "0", "0.0", "1e400", plain + "x", "x", "1.2.3", ".", "1."),
        *("٣", "1\0", '1"', "9007199254740993", "9007199254740992", "1000000000000.1", ".00005"),
    )
    return plain if draw(st.integers(0, 60)) else draw(st.sampled_from(odd))


def time_text(draw: st.DrawFn, bar_ms: int) -> str:
    at = datetime.fromtimestamp(bar_ms / 1000, UTC)
    iso = at.strftime("%Y-%m-%dT%H:%M:%S")
    usual = (iso + "Z", iso, iso.replace("T", " "), iso + ".000000000Z", iso + "+00:00")
    numbers = (str(bar_ms // 1000), str(bar_ms), f"{bar_ms}000", f"{bar_ms}000000")
    odd = (
        *(iso + ".000000001Z", iso + ".001Z", iso + ".Z", iso + ".000", iso + "+01:00", iso + "z"),
        *(iso[:-3], iso[:10], iso[:-2] + "60Z", iso[:-5] + "60:00Z", iso[:11] + "24:00:00Z"),
        *("2014-02-29T00:00:00Z", "2016-02-29T00:00:00Z", "2000-02-29T00:00:00Z"),
        *("1969-12-31T23:59:00Z", "2099-12-31T23:59:00Z", "2100-01-01T00:00:00Z", "1900-01-01"),
        *("2014-00-01T00:00:00Z", "2014-13-01T00:00:00Z", "2014-01-00T00:00:00Z"),
        *("", "0", "-60", "60.0", "1e9", f"{bar_ms}001", "99999999999", "100000000000"),
        *("99999999999999", "100000000000000", "99999999999999999", "9999999999999999999"),
        *("123456789012345678901", iso + "Z ", " " + iso + "Z", f'"{iso}Z"', "0" * 25, "٣"),
    )
    if draw(st.integers(0, 40)) == 0:
        return draw(st.sampled_from(odd))
    return draw(st.sampled_from((usual[0], usual[0], *usual, *numbers)))


VOLUMES = ("", "", "7", "0", "43.0", "43.5", "-1", "1e3", "9007199254740993", "x", " 7", "99" * 9)


@st.composite
def lines_of(draw: st.DrawFn, header: str) -> str:
    bar_ms = 1_398_902_400_000 + MINUTE_MS * draw(st.integers(0, 40))
    if draw(st.integers(0, 30)) == 0:
        bar_ms += draw(st.sampled_from((1, 1_000, 5_000, -5_000)))
    low = draw(st.integers(100_000, 140_000))
    opened, closed = low + draw(st.integers(0, 30)), low + draw(st.integers(0, 30))
    high = max(opened, closed) + draw(st.integers(0, 9))
    if draw(st.integers(0, 30)) == 0:
        high = draw(st.integers(low - 2, high))
    prices = {"o": opened, "h": high, "l": low, "c": closed}
    left_out = draw(st.sampled_from(("", "", "", "bid", "ask", "mid", "all")))
    cells = []
    for name in header.lower().split(","):
        letter = name.strip(' "').replace(".", "_").rpartition("_")[2][:1]
        side = name.strip().replace(".", "_").rpartition("_")[0] or "mid"
        if name.strip() in ("time", "t", "timestamp"):
            cells.append(time_text(draw, bar_ms))
        elif name.strip() in ("volume", "v"):
            usual = draw(st.integers(0, 9))
            cells.append(str(usual) if usual else draw(st.sampled_from(VOLUMES)))
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
            cells.append(written(draw, prices.get(letter, opened)))
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
    for _ in range(draw(st.integers(0, 25))):
        if draw(st.integers(0, 20)) == 0:
            out += draw(st.sampled_from(odd))
        else:
            out += draw(lines_of(header if header.strip() else SIDED))
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
    slow = outcome(slowly(str(path)) for _ in range(1))
    assert outcome(in_bulk(str(path)) for _ in range(1)) == slow
    assert outcome(in_bulk(str(path), None, None, rows, piece) for _ in range(1)) == outcome(
        slowly(str(path), None, None) for _ in range(1)
    )
    assert outcome(in_bulk(str(path), rows=rows, piece_bytes=piece) for _ in range(1)) == slow


NUMBERS = st.from_regex(r"[0-9]{1,13}\.[0-9]{1,18}|[0-9]{1,19}", fullmatch=True)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(NUMBERS, min_size=1, max_size=200))
def test_decimals_are_rounded_as_python_rounds_them(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[str]
) -> None:
    path = tmp_path_factory.mktemp("numbers") / "candles.csv"
    rows = (f"{60 * at},{n},{n},{n},{n}" for at, n in enumerate(numbers))
    path.write_text("time,o,h,l,c\n" + "\n".join(rows))
    assert in_bulk(str(path)) == slowly(str(path))


def test_halves_between_doubles_and_the_last_exact_digits_are_read_to_the_bit(
    tmp_path: Path,
) -> None:
    source = random.Random(20_240_304)
    numbers = [f"{source.randrange(2**53)}" for _ in range(3_000)]
    numbers = [f"{n[:-p]}.{n[-p:]}" for n in numbers if (p := source.randrange(4, 15)) < len(n)]
    path = tmp_path / "candles.csv"
    rows = (f"{60 * at},{n},{n},{n},{n}" for at, n in enumerate(numbers))
    path.write_text("time,o,h,l,c\n" + "\n".join(rows))
    (block,) = next(iter(BulkFile(str(path), "EUR_USD", "M1"))).blocks
    wanted = [float(n) for n in numbers]
    assert block.prices[0].tobytes() == struct.pack(f"<{len(wanted)}d", *wanted)
    assert len(wanted) > 2_900


# -- recorded and synthetic candles --------------------------------------------------------------


@pytest.fixture
def the_slow_way_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **named: object) -> None:
        raise AssertionError(f"read row by row: {arguments}")

    for name in ("candle_of", "csv_rows", "read_candles"):
        monkeypatch.setattr(bulk, name, refuse)


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
    path.write_text("\n".join([row.format(60 * at) for at in range(20)] + ["{", "[1]"]))
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
    rows = ["0,1,1,1,1", "x,1,1,1,1", "7200,1,1,1,1", "y,1,1,1,1", "60,1,1,1,1"]
    path.write_text("\n".join(["time,o,h,l,c", *rows]))
    (chunk,) = BulkFile(str(path), "EUR_USD", "M1", now_ms=2 * MINUTE_MS)
    assert [(r.line, r.reason) for r in chunk.refused] == [
        (3, "bad_time"),
        (4, "in_the_future"),
        (5, "bad_time"),
    ]
    assert [block.lines.tolist() for block in chunk.blocks] == [[2, 6]]
