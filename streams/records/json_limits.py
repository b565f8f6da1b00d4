"""Limits of the JSON inside a control record."""

from __future__ import annotations

import json
import math
from typing import Any, Final

JSON_LENGTH: Final = 1 << 18
JSON_DEPTH: Final = 32
"""Maximum number of characters, and of nested brackets."""
_SHOWN: Final = 64


def json_problem(text: str) -> str | None:
    """Return why the JSON of a control record is refused, None when it is accepted.

    Refused are texts of more than ``JSON_LENGTH`` characters, more than ``JSON_DEPTH`` nested
    brackets, numbers that are not finite or do not fit 64 bits, and unpaired surrogates. A value
    that is not JSON is accepted here; the reader of its kind refuses it with its own message.
    """
    if len(text) > JSON_LENGTH:
        return f"{len(text)} characters, at most {JSON_LENGTH} are allowed"
    try:
        found = json.loads(text, parse_int=_integer, parse_float=_real, parse_constant=_constant)
    except _Refused as error:
        return str(error)
    except RecursionError:
        return f"nested more than {JSON_DEPTH} deep"
    except ValueError:
        return None
    if _depth(found) > JSON_DEPTH:
        return f"nested more than {JSON_DEPTH} deep"
    if "\\u" in text:
        try:
            json.dumps(found, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            return "a text in it has half a surrogate pair"
    return None


class _Refused(Exception):
    """A number in a JSON text is out of range."""


def _integer(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= int(text) < 2**63:
        raise _Refused(f"the number {text[:_SHOWN]} does not fit 64 bits")
    return int(text)


def _real(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _Refused(f"the number {text[:_SHOWN]} is not finite")
    return number


def _constant(text: str) -> float:
    raise _Refused(f"{text} is not a number")


def _depth(found: Any) -> int:
    depth, level = 0, [found]
    while level:
        inner: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                inner += each.values()
            elif isinstance(each, list):
                inner += each
        depth += 1
        if depth > JSON_DEPTH:
            break
        level = inner
    return depth
