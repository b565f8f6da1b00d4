"""Instrument, bar length and side from a candle file's name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple

from streams.errors import Fatal
from streams.instants import GRANULARITY_MS
from streams.instruments import decorated_pair, instrument_name, pairs_in, words_of

_WORDS = "ALL BAM BOB COP CUP GEL LAK MAD MOP NAD PAB PEN PHP SOS TOP"
ENGLISH: Final = frozenset(_WORDS.split())
"""Currency codes that are also common words; no pair is derived from them."""
_UNITS: Final = {
    "SEC": 1_000,
    "SECOND": 1_000,
    "SECONDS": 1_000,
    "MIN": 60_000,
    "MINS": 60_000,
    "MINUTE": 60_000,
    "MINUTES": 60_000,
    "H": 3_600_000,
    "HOUR": 3_600_000,
    "HOURS": 3_600_000,
}
_BY_LENGTH: Final = {length: name for name, length in GRANULARITY_MS.items()}
_CODE = re.compile(r"[SMH]\d+")
_COUNTED = re.compile(r"(\d{1,4})([A-Z]+)")


class FileName(NamedTuple):
    """Information in the words of a file name.

    Attributes
    ----------
    pairs, granularities
        Distinct values in the name.
    sides
        ``bid`` and ``ask`` if in the name.
    """

    pairs: list[str]
    granularities: list[str]
    sides: list[str]


def read_file_name(path: str) -> FileName:
    """Parse the name of a file; its folders are ignored."""
    words = words_of(Path(path).name)
    return FileName(
        pairs_in(["" if word in ENGLISH else word for word in words]),
        list(dict.fromkeys(_granularities(words))),
        [side for side in ("bid", "ask") if side.upper() in words],
    )


def file_names(
    path: str, instrument: str | None, granularity: str | None
) -> tuple[str | None, str | None]:
    """Return the instrument and granularity of a file, from its name if not given.

    A name with two different values is ambiguous and gives none.

    Raises
    ------
    Fatal
        The given instrument is a pair with a suffix, or the granularity is not a bar length.
    """
    found = read_file_name(path)
    if instrument is not None:
        instrument = instrument_name(instrument)
        pair = decorated_pair(instrument)
        if pair is not None:
            raise Fatal(f"--instrument {instrument}: write {pair} if you mean that pair")
    elif len(found.pairs) == 1:
        instrument = found.pairs[0]
    if granularity is not None:
        granularity = granularity.strip().upper()
        if granularity not in GRANULARITY_MS:
            raise Fatal(
                f"--granularity {granularity} is not a bar length; use one of "
                f"{', '.join(GRANULARITY_MS)}"
            )
    elif len(found.granularities) == 1:
        granularity = found.granularities[0]
    return instrument, granularity


def ask_instrument(path: str) -> str:
    """Return the error message for a file with unknown instrument."""
    pairs = read_file_name(path).pairs
    if pairs:
        said = f"its name says {' and '.join(pairs)}"
        return f"{said}; give its instrument with --instrument"
    said = "neither its rows nor its name contain the instrument"
    return f"{said}; give --instrument, such as --instrument EUR_USD"


def ask_granularity(path: str) -> str:
    """Return the error message for a file with unknown bar length."""
    lengths = read_file_name(path).granularities
    if lengths:
        said = f"its name says {' and '.join(lengths)}"
        return f"{said}; give the bars' true length with --granularity"
    said = "neither its rows nor its name contain the bar length"
    return f"{said}; give --granularity, such as --granularity M1"


def _granularities(words: list[str]) -> list[str]:
    found = []
    for place, word in enumerate(words):
        if _CODE.fullmatch(word) and word in GRANULARITY_MS:
            found.append(word)
            continue
        counted = _COUNTED.fullmatch(word)
        if counted:
            number, unit = counted[1], counted[2]
        elif word.isdigit() and len(word) <= 4 and place + 1 < len(words):
            number, unit = word, words[place + 1]
        else:
            continue
        length = _BY_LENGTH.get(int(number) * _UNITS.get(unit, 0))
        if length:
            found.append(length)
    return found
