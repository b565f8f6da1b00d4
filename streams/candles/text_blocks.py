"""The text of a candle file in blocks of whole lines, plain or gzip, without holding all of it."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from streams.candles.files import text_of
from streams.errors import Fatal

PIECE_BYTES = 1 << 22
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
FAULTS = (OSError, EOFError, zlib.error, UnicodeDecodeError)


class LineSource:
    """A file's bytes, a block of whole lines at a time.

    Parameters
    ----------
    path
        The file, a regular one; gzip is known by its first bytes.

    Attributes
    ----------
    data
        The present block: whole lines; only at the end of the file the last may lack its end.
    at
        How far the block is used up; whoever reads moves this.

    Raises
    ------
    Fatal
        The file cannot be read. Here and in every method, in the words of ``files.text_of``; a
        fault further on in the file is found when reading comes to it.
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
        """Return whether anything is left to read, with a new block when the last is used up."""
        if self.at < len(self.data):
            return True
        pieces = [self._rest]
        while True:
            piece = self._piece()
            pieces.append(piece)
            if not piece or b"\n" in piece:
                break
        joined = b"".join(pieces)
        end = joined.rfind(b"\n") + 1 if piece else len(joined)
        self.data, self._rest, self.at = joined[:end], joined[end:], 0
        return end > 0

    def text(self, start: int) -> str:
        """Return the line that begins at ``start`` of the present block, with its end."""
        end = self.data.find(b"\n", start) + 1 or len(self.data)
        try:
            return self.data[start:end].decode("utf-8")
        except UnicodeDecodeError as error:
            self._refuse(error)

    def lines(self) -> Iterator[str]:
        """Yield line by line from where the file is used up to, using it up.

        Lines also end at a lone carriage return, as they do for ``csv``.
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
        text_of(self._path)
        raise Fatal(f"cannot read {self._path}: it changed meanwhile ({error})") from error


def _opened(path: str) -> io.BufferedIOBase:
    with Path(path).open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if packed else Path(path).open("rb")
