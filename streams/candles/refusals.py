"""How reading a file says that something is not taken in: a row, or the file whole."""

from __future__ import annotations


class RowRefused(Exception):
    """A row that is no candle; ``reason`` is a code, the text says what was found.

    An outcome of the data: it is listed with file and line, never raised to the user.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class FileRefused(Exception):
    """A row that shows that the file means something else than it would be read as.

    No row of the file is taken in, since the others would be read wrongly without a sign of it.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
