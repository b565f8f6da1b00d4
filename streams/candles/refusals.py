"""Exceptions for refused rows and refused files."""

from __future__ import annotations


class RowRefused(Exception):
    """A row that is not a candle; ``reason`` is a code, the text describes the problem.

    Refused rows are listed with file and line; the exception does not reach the user.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class FileRefused(Exception):
    """A row that shows that the file would be read wrongly.

    The whole file is refused, because other rows would be misread silently.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
