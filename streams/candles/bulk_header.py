"""Map the header of a CSV file to column roles of the core's parser."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from streams.candles.rows import (
    COMPLETE_NAMES,
    FIELDS,
    GRANULARITY_NAMES,
    INSTRUMENT_NAMES,
    SIDES,
    VOLUME_NAMES,
    known_columns,
)
from streams.candles.times import TIME_NAMES
from streams.core.candle_lines import (
    COMPLETE,
    FIRST_PRICE,
    GRANULARITY,
    IGNORED,
    INSTRUMENT,
    MOST_CELLS,
    TIME,
    VOLUME,
)

_GROUPS = (
    (TIME_NAMES, TIME),
    (VOLUME_NAMES, VOLUME),
    (COMPLETE_NAMES, COMPLETE),
    (INSTRUMENT_NAMES, INSTRUMENT),
    (GRANULARITY_NAMES, GRANULARITY),
)


def column_roles(header: Sequence[str]) -> bytes | None:
    """Return the role of each column, one byte each; None when the roles are ambiguous.

    In a file with two columns for one value (``open`` and ``o``, ``bid_o`` and ``bid.o``) the
    filled cell counts. Such files, and files with unknown columns, are left to ``candles.rows``.
    """
    names = set(header)
    if not names <= known_columns() or not names.intersection(TIME_NAMES):
        return None
    if len(header) > MOST_CELLS:
        return None
    role_of: dict[str, int] = {}
    for group, role in _GROUPS:
        if not _add(role_of, names.intersection(group), role):
            return None
    for number, side in enumerate(SIDES):
        used = [prefix for prefix in _prefixes(side) if names.intersection(_names(prefix))]
        if len(used) > 1:
            return None
        for place, pair in enumerate(FIELDS):
            there = {used[0] + name for name in pair} & names if used else set()
            if not _add(role_of, there, FIRST_PRICE + 4 * number + place):
                return None
    return bytes(role_of.get(name, IGNORED) for name in header)


def _prefixes(side: str) -> tuple[str, ...]:
    return (f"{side}_", f"{side}.", *(("",) if side == "mid" else ()))


def _names(prefix: str) -> set[str]:
    return {prefix + name for pair in FIELDS for name in pair}


def _add(role_of: dict[str, int], there: Iterable[str], role: int) -> bool:
    there = list(there)
    role_of.update(dict.fromkeys(there, role))
    return len(there) <= 1
