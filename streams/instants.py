"""Parse and format instants."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from streams.errors import Fatal


def instant_ms(option: str, text: str) -> int:
    """Return epoch milliseconds of an ISO-8601 time (UTC unless it says otherwise) or ``@<ms>``.

    Raises
    ------
    Fatal
        ``text`` is neither; names the option.
    """
    if text.startswith("@") and text[1:].isascii() and text[1:].isdigit():
        return int(text[1:])
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise Fatal(
            f"{option} {text!r} is not a time like 2014-05-01, 2014-05-01T10:00 or @<epoch ms>"
        ) from error
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


def clock(at_ms: int | None) -> str:
    """Format an instant in UTC; ``-`` for None, ``@<ms>`` outside the range of ``datetime``."""
    if at_ms is None:
        return "-"
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"@{at_ms}"


EARLIEST_MS: Final = 31_536_000_000
"""1971-01-01: an earlier time has a wrong unit or format."""
LATEST_MS: Final = 4_102_444_800_000
"""2100-01-01: a later time has a wrong unit or format, and calendars are limited."""
HOUR_MS: Final = 3_600_000

GRANULARITY_MS: dict[str, int] = {
    "S5": 5_000,
    "S10": 10_000,
    "S15": 15_000,
    "S30": 30_000,
    "M1": 60_000,
    "M2": 120_000,
    "M4": 240_000,
    "M5": 300_000,
    "M10": 600_000,
    "M15": 900_000,
    "M30": 1_800_000,
    "H1": 3_600_000,
    "H2": 7_200_000,
    "H3": 10_800_000,
    "H4": 14_400_000,
    "H6": 21_600_000,
    "H8": 28_800_000,
    "H12": 43_200_000,
}
"""Bar length per OANDA granularity; days and longer have no fixed length and are refused."""
