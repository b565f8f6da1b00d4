"""Instants as people write and read them."""

from __future__ import annotations

from datetime import UTC, datetime

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
    """Return a UTC time for people, ``-`` for none, ``@<ms>`` for one that no calendar has."""
    if at_ms is None:
        return "-"
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"@{at_ms}"
