"""Reading candle files both ways, and the many ways to write a cell."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from streams.candles.bulk_csv import BulkFile, Chunk
from streams.candles.columns import SeriesKey
from streams.candles.files import Refused, read_candles
from streams.errors import Fatal
from streams.records.events import Candle

SIDED = "time,bid_o,bid_h,bid_l,bid_c,ask_o,ask_h,ask_l,ask_c,volume"
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
            lines = block.lines.tolist()
            series.setdefault(block.key, []).extend(
                (line, bits(candle)) for line, candle in zip(lines, block.candles(), strict=True)
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


def odd_prices(points: int) -> tuple[str, ...]:
    """Return a price of so many points as few files write it, and texts that are no price."""
    plain = f"{points // 100_000}.{points % 100_000:05d}"
    return (
        *(plain + "0" * 12, plain + "0" * 13, plain + "0" * 40, "0" * 30 + plain, "00" + plain),
        *(f"{points}e-5", f"{points}E-5", "+" + plain, " " + plain, plain + "\t", f'"{plain}"'),
        *(plain.rstrip("0"), plain + "1234567", plain + "12345678901234567890", plain + "_0"),
        *("", "-" + plain, "nan", "inf", "0", "0.0", "1e400", plain + "x", "x", "1.2.3", ".", "1."),
        *("٣", "1\0", '1"', "9007199254740993", "9007199254740992", "1000000000000.1", ".00005"),
        *("1000000000000", "0.000000000001", "0.0000000000009", "0.00000000000100000"),
    )


def usual_times(bar_ms: int) -> tuple[str, ...]:
    """Return an instant in the ways that most files write it."""
    iso = datetime.fromtimestamp(bar_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    texts = (iso + "Z", iso, iso.replace("T", " "), iso + ".000000000Z", iso + "+00:00")
    return (*texts, str(bar_ms // 1000), str(bar_ms), f"{bar_ms}000", f"{bar_ms}000000")


def odd_times(bar_ms: int) -> tuple[str, ...]:
    """Return ways to write it that few files have, and texts that are no time."""
    iso = datetime.fromtimestamp(bar_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return (
        *(iso + ".000000001Z", iso + ".001Z", iso + ".Z", iso + ".000", iso + "+01:00", iso + "z"),
        *(iso[:-3], iso[:10], iso[:-2] + "60Z", iso[:-5] + "60:00Z", iso[:11] + "24:00:00Z"),
        *("2014-02-29T00:00:00Z", "2016-02-29T00:00:00Z", "2000-02-29T00:00:00Z"),
        *("2014-04-31T00:00:00Z", "2014-12-31T23:59:00Z", "2016-12-31T23:59:00Z"),
        *("2016-02-30T00:00:00Z", "2014-01-32T00:00:00Z", "2016-03-01T00:00:00Z"),
        *("1969-12-31T23:59:00Z", "2099-12-31T23:59:00Z", "2100-01-01T00:00:00Z", "1900-01-01"),
        *("2014-00-01T00:00:00Z", "2014-13-01T00:00:00Z", "2014-01-00T00:00:00Z"),
        *("2014-05x01T00:00:00Z", "2014-05-01x00:00:00Z", "2014-05-01T00x00:00Z", "201a-05-01T"),
        *("2014-05-01T00:00:00-00:00", "2014-05-01T00:00:00+00", "2014-05-01T00:00:00+00:00:00"),
        *("", "0", "-60", "60.0", "1e9", f"{bar_ms}001", "99999999999", "100000000000"),
        *("99999999999999", "100000000000000", "99999999999999999", "9999999999999999999"),
        *("99999999999999990", "99999999999999991", "100000000000000000", "1398902400000000001"),
        *("123456789012345678901", iso + "Z ", " " + iso + "Z", f'"{iso}Z"', "0" * 25, "٣"),
        *("00060", "0" * 17 + "60", iso + "\0", iso + "." + "0" * 99 + "Z"),
    )
