"""Read a candle file, plain or gzip, in blocks of complete lines."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from streams.candles.files import file_text
from streams.errors import Fatal

PIECE_BYTES = 1 << 22
MOST_LINE = 1 << 26
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
FAULTS = (OSError, EOFError, zlib.error, UnicodeDecodeError)


class LineSource:
    """A file's bytes in blocks of complete lines.

    Parameters
    ----------
    path
        A regular file; gzip is detected by its first bytes.

    Attributes
    ----------
    data
        The current block of complete lines; only the last line of the file may lack a line end.
    at
        Position in the block, advanced by the reader.

    Raises
    ------
    Fatal
        The file cannot be read; raised here and by every method, with the messages of
        ``files.text_of``. An error inside the file is found when that part is read.
    """

    def __init__(self, path: str, piece_bytes: int = PIECE_BYTES) -> None:
        self._path = path
        self._piece_bytes = piece_bytes
        self._rest = b""
        self.data, self.at = b"", 0
        try:
            self._file = _opened(path)
        except FAULTS as error:
            self._refuse(error)
        if self.more() and self.data.startswith(BYTE_ORDER_MARK):
            self.at = len(BYTE_ORDER_MARK)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def more(self) -> bool:
        """Return whether there is more to read; loads the next block at the end of the current
        one."""
        if self.at < len(self.data):
            return True
        pieces = [self._rest]
        while True:
            piece = self._piece()
            pieces.append(piece)
            if not piece or b"\n" in piece:
                break
            if sum(map(len, pieces)) > MOST_LINE:
                raise Fatal(f"{self._path} has a line of more than {MOST_LINE >> 20} MiB")
        joined = b"".join(pieces)
        end = joined.rfind(b"\n") + 1 if piece else len(joined)
        self.data, self._rest, self.at = joined[:end], joined[end:], 0
        return end > 0

    def text(self, start: int) -> str:
        """Return the line at ``start`` of the current block, including its line end."""
        end = self.data.find(b"\n", start) + 1 or len(self.data)
        try:
            return self.data[start:end].decode("utf-8")
        except UnicodeDecodeError as error:
            self._refuse(error)

    def lines(self) -> Iterator[str]:
        """Yield and consume the remaining lines.

        A single carriage return also ends a line, as for ``csv``.
        """
        while self.more():
            for line in io.StringIO(self.text(self.at), newline=""):
                self.at += len(line.encode())
                yield line

    def _piece(self) -> bytes:
        try:
            return self._file.read(self._piece_bytes)
        except FAULTS as error:
            self._refuse(error)

    def _refuse(self, error: Exception) -> NoReturn:
        file_text(self._path)
        raise Fatal(f"cannot read {self._path}: it changed meanwhile ({error})") from error


def _opened(path: str) -> io.BufferedIOBase:
    with Path(path).open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if packed else Path(path).open("rb")
