"""Records as JSON text, as printed by ``manifold tail`` and ``rpk topic consume``.

A printed record names topic, partition and offset, and has the record's own JSON text as ``value``;
with a custom format (``rpk topic consume -f '%v\\n'``) only that text is printed. Both forms are
rows of a candle file for records of ``md.candles``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from streams.candles.rules import RowRefused

_PRINTED: Final = frozenset({"topic", "partition", "offset"})
_TYPES: Final = frozenset({"boolean", "int", "long", "float", "double", "bytes", "string"})
"""Type tags of optional values in Avro's JSON encoding, besides full record names."""


def parse_json_text(text: str) -> Any:
    """Parse a JSON text; decimals are kept as written, because a double would lose digits.

    Raises
    ------
    ValueError, RecursionError
        The text is not JSON.
    """
    return json.loads(text, parse_float=str)


def documents(text: str) -> Iterator[tuple[int, Any]]:
    """Yield (line, value) of consecutive JSON values, each on one or more lines.

    Raises
    ------
    ValueError, RecursionError
        The text between them is not JSON.
    """
    decoder = json.JSONDecoder(parse_float=str)
    at, line = _past_space(text, 0, 1)
    while at < len(text):
        value, end = decoder.raw_decode(text, at)
        yield line, value
        line += text.count("\n", at, end)
        at, line = _past_space(text, end, line)


def _past_space(text: str, at: int, line: int) -> tuple[int, int]:
    end = at
    while end < len(text) and text[end].isspace():
        end += 1
    return end, line + text.count("\n", at, end)


def candle_fields(row: dict[str, Any]) -> dict[str, Any] | None:
    """Return the candle fields of a JSON row; None for a watermark.

    Parameters
    ----------
    row
        Names in lower case.

    Raises
    ------
    RowRefused
        The printed record is not a candle.
    """
    if row.keys() >= _PRINTED:
        row = _value_of(row)
    if _is_watermark(row):
        return None
    return {name: _without_tag(value) for name, value in row.items()}


def _value_of(row: Mapping[str, Any]) -> dict[str, Any]:
    text, topic = row.get("value"), row["topic"]
    try:
        value = parse_json_text(text) if isinstance(text, str) else text
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise RowRefused(
            "bad_json",
            f"the value of this record of {topic} is not a JSON object; print it with the schema "
            "registry (rpk: --use-schema-registry=value)",
        )
    found = {str(name).lower(): item for name, item in value.items()}
    if "mid" not in found and not _is_watermark(found):
        raise RowRefused("bad_json", f"a record of {topic} is not a candle; print md.candles")
    return found


def _is_watermark(row: Mapping[str, Any]) -> bool:
    return "instruments" in row and "as_of_ms" in row and "bar_ms" not in row


def _without_tag(value: Any) -> Any:
    """Remove the type tag of an optional value (``{"long": 5}`` is 5)."""
    if isinstance(value, dict) and len(value) == 1:
        tag, inner = next(iter(value.items()))
        if tag.partition(".")[0] in _TYPES or (isinstance(inner, dict) and "." in tag):
            return inner
    return value
