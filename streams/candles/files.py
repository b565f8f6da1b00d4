"""Candle files: CSV, JSON lines, or one JSON document such as an OANDA response; plain or gzip.

JSON may also be the output of ``manifold tail`` or ``rpk topic consume`` for ``md.candles``.
Refused rows are reported with file, line and reason; all valid rows are accepted.
"""

from __future__ import annotations

import csv
import gzip
import io
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from streams.candles.csv_header import check_header, header_names
from streams.candles.file_names import file_names
from streams.candles.record_text import candle_fields, documents, parse_json_text
from streams.candles.rows import candle_from_row
from streams.candles.rules import FileRefused, RowRefused
from streams.candles.times import TimeColumn
from streams.errors import Fatal
from streams.records.events import Candle

STANDARD_INPUT = "-"
MOST_UNPACKED = 1 << 28


class Refused(NamedTuple):
    """A refused row, and why."""

    file: str
    line: int
    reason: str
    detail: str

    def text(self) -> str:
        """Return a one-line description."""
        return f"{self.file}:{self.line}: refused: {self.reason}: {self.detail}"


class CsvReader(Protocol):
    """Type of the object returned by ``csv.reader``."""

    line_num: int

    def __next__(self) -> list[str]: ...


Row = tuple[int, Candle | Refused]
RawRow = dict[str, Any] | Refused


def read_candles(
    path: str,
    instrument: str | None = None,
    granularity: str | None = None,
    times: TimeColumn | None = None,
) -> Iterator[Row]:
    """Yield (line, candle or refusal) for every row of a file, in order.

    Parameters
    ----------
    path
        The file; gzip is decompressed. ``-`` is standard input.
    instrument, granularity
        Used for rows that do not name them; taken from the file name when omitted.
    times
        Receives the time format of the file.

    Raises
    ------
    Fatal
        The file cannot be read, or is ambiguous.
    """
    instrument, granularity = file_names(path, instrument, granularity)
    times = times or TimeColumn()
    text = file_text(path)
    start = text.lstrip()[:1]
    if not start:
        raise Fatal(f"{path} is empty")
    if start not in ("{", "["):
        rows = _csv_rows(path, text, instrument, granularity)
    elif _is_lines(text):
        rows = _json_lines(path, text)
    else:
        rows = _json_document(path, text)
    for line, row in rows:
        yield line, candle_of(path, line, row, instrument, granularity, times)


def candle_of(
    path: str,
    line: int,
    row: RawRow,
    instrument: str | None,
    granularity: str | None,
    times: TimeColumn,
) -> Candle | Refused:
    """Return the candle of a row, or its refusal.

    Raises
    ------
    Fatal
        The row shows that the file cannot be read correctly.
    """
    if isinstance(row, Refused):
        return row
    try:
        return candle_from_row(row, instrument, granularity, "file", times, line)
    except FileRefused as refused:
        raise Fatal(f"{path}:{line}: no row is accepted: {refused}") from refused
    except RowRefused as refused:
        return Refused(path, line, refused.reason, str(refused))


def file_text(path: str) -> str:
    """Return the text of a file, plain or gzip.

    Raises
    ------
    Fatal
        The file cannot be read, is a damaged gzip file, is too large when it is decompressed, or is
        not UTF-8.
    """
    try:
        raw = sys.stdin.buffer.read() if path == STANDARD_INPUT else Path(path).read_bytes()
        if raw[:2] == b"\x1f\x8b":
            raw = unpacked(path, raw)
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        what = f"is not text (byte {error.start} is not UTF-8)"
        if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
            what = "is UTF-16; save it as UTF-8"
        raise Fatal(f"{path} {what}") from error
    except OSError as error:
        raise Fatal(f"cannot read {path}: {error.strerror or error}") from error


def unpacked(path: str, raw: bytes, most: int = MOST_UNPACKED) -> bytes:
    """Return the content of a gzip file.

    Parameters
    ----------
    most
        Maximum size of the content, bytes: a few kB of gzip can decompress to many GB.

    Raises
    ------
    Fatal
        The file is damaged, or its content is larger.
    """
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as packed:
            content = packed.read(most + 1)
            if len(content) > most:
                raise Fatal(
                    f"{path} holds more than {most >> 20} MiB when it is decompressed; split it "
                    "into smaller files"
                )
            return content
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise Fatal(f"{path} is a damaged or truncated gzip file: {error}") from error


def _is_lines(text: str) -> bool:
    """Return whether a text is JSON lines: the first line is a complete value and more follow."""
    first, _, rest = text.lstrip().partition("\n")
    try:
        value = parse_json_text(first)
    except (ValueError, RecursionError):
        return False
    return bool(rest.strip()) or not (isinstance(value, list) or "candles" in value)


def _csv_rows(
    path: str, text: str, instrument: str | None, granularity: str | None
) -> Iterator[tuple[int, RawRow]]:
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        header = header_names(next(reader))
    except (StopIteration, csv.Error) as error:
        raise Fatal(f"{path} has no header line") from error
    check_header(path, header, instrument, granularity)
    yield from csv_rows(path, header, reader)


def csv_rows(
    path: str, header: Sequence[str], reader: CsvReader, before: int = 0
) -> Iterator[tuple[int, RawRow]]:
    """Yield (line, row) of the remaining rows of a CSV reader.

    Parameters
    ----------
    header
        Of ``header_names``.
    before
        Number of lines before the reader's first line.
    """
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            line = before + reader.line_num
            yield line, Refused(path, line, "bad_csv", str(error))
            continue
        if not cells:
            continue
        line = before + reader.line_num
        if len(cells) != len(header):
            detail = f"{len(cells)} columns, the header has {len(header)}"
            yield line, Refused(path, line, "bad_csv", detail)
            continue
        yield line, dict(zip(header, cells, strict=True))


def _json_lines(path: str, text: str) -> Iterator[tuple[int, RawRow]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            value = parse_json_text(line)
        except (ValueError, RecursionError) as error:
            yield number, Refused(path, number, "bad_json", str(error))
            continue
        yield from _rows_of(path, number, value)


def _json_document(path: str, text: str) -> Iterator[tuple[int, RawRow]]:
    try:
        found = list(documents(text))
    except (ValueError, RecursionError) as error:
        raise Fatal(f"{path} is neither CSV, JSON lines nor a JSON document: {error}") from error
    if len(found) > 1:
        for line, value in found:
            yield from _rows_of(path, line, value)
        return
    value = found[0][1]
    if isinstance(value, list):
        for number, item in enumerate(value, 1):
            yield from _rows_of(path, number, item)
    else:
        yield from _rows_of(path, 1, value)


def _rows_of(path: str, number: int, value: Any) -> Iterator[tuple[int, RawRow]]:
    if not isinstance(value, dict):
        yield number, Refused(path, number, "bad_json", "not an object")
        return
    row = {str(name).lower(): item for name, item in value.items()}
    if "candles" not in row:
        yield from _row(path, number, row)
        return
    shared = {name: item for name, item in row.items() if name != "candles"}
    candles = row["candles"] if isinstance(row["candles"], list) else [row["candles"]]
    for place, item in enumerate(candles, 1):
        # within a JSON document the number of the candle is used as line
        at = place if number == 1 else number
        if isinstance(item, dict):
            yield at, shared | {str(name).lower(): x for name, x in item.items()}
        else:
            yield at, Refused(path, at, "bad_json", "a candle is not an object")


def _row(path: str, number: int, row: dict[str, Any]) -> Iterator[tuple[int, RawRow]]:
    try:
        fields = candle_fields(row)
    except RowRefused as refused:
        yield number, Refused(path, number, refused.reason, str(refused))
        return
    if fields is not None:
        yield number, fields


AHEAD_MS = 3_600_000


def in_the_future(file: str, line: int, as_of_ms: int, now_ms: int) -> Refused:
    """Return the refusal of a candle that ends more than ``AHEAD_MS`` in the future."""
    detail = f"the candle ends {(as_of_ms - now_ms) // 60_000} minutes from now"
    return Refused(file, line, "in_the_future", detail)
