"""Check of the header line of a candle CSV file."""

from __future__ import annotations

from collections.abc import Sequence

from streams.candles.file_names import ask_granularity, ask_instrument
from streams.candles.rows import GRANULARITY_NAMES, INSTRUMENT_NAMES, known_columns
from streams.candles.times import TIME_NAMES
from streams.errors import Fatal

_KNOWN = (
    "known are time, volume, instrument, granularity, complete, and open, high, low, close with or "
    "without bid_, ask_ or mid_ before them"
)


def header_names(cells: Sequence[str]) -> list[str]:
    """Return the normalised column names of a header."""
    return [name.strip().lower() for name in cells]


def check_header(
    path: str, header: Sequence[str], instrument: str | None, granularity: str | None
) -> None:
    """Refuse a header with which rows could not be read, or would be read wrongly.

    Parameters
    ----------
    path
        The file.
    header
        Result of ``header_names``.
    instrument, granularity
        Known from other sources.

    Raises
    ------
    Fatal
        Columns are unknown, duplicated or ambiguous, or instrument or bar length is unknown.
    """
    problem = _problem(header)
    if problem:
        raise Fatal(f"{path}:1: {problem}")
    if not instrument and not set(header).intersection(INSTRUMENT_NAMES):
        raise Fatal(f"{path}: {ask_instrument(path)}")
    if not granularity and not set(header).intersection(GRANULARITY_NAMES):
        raise Fatal(f"{path}: {ask_granularity(path)}")


def _problem(header: Sequence[str]) -> str | None:
    if not header:
        return f"the first line is empty; name the columns there: {_KNOWN}"
    first = header[0]
    for separator, words in ((";", "semicolons"), ("\t", "tabs")):
        if len(header) == 1 and separator in first:
            return f"cells are separated by {words}; separate them by commas"
    if first[:1].isdigit():
        return f"there is no header line, it begins with {first[:40]!r}; name the columns: {_KNOWN}"
    unknown = [name for name in header if name not in known_columns()]
    if "" in unknown:
        place = header.index("")
        return (
            f"column {place + 1} has no name; name it, such as time for the times, or remove it: "
            f"{_KNOWN}"
        )
    if unknown:
        return (
            f"unknown columns {', '.join(map(repr, unknown[:5]))}; rename or remove them: {_KNOWN}"
        )
    twice = [name for name in dict.fromkeys(header) if header.count(name) > 1]
    if twice:
        return f"two columns have the name {twice[0]!r}; keep one"
    times = [name for name in TIME_NAMES if name in header]
    if not times:
        return "there is no time column; name it time"
    if len(times) > 1 and set(times) != {"date", "time"}:
        return f"{' and '.join(times)} both hold times; keep one of these columns"
    return None
