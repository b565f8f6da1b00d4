"""Detects repeated keys in JSON: parsers disagree on their value, so such a body is refused."""

from __future__ import annotations

import json
from typing import Any


class _Repeated(Exception):
    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def repeated_key(body: str | bytes) -> str | None:
    """Return a key that an object of the body repeats; None without one, or for invalid JSON."""
    try:
        json.loads(body, object_pairs_hook=_once_each)
    except _Repeated as found:
        return found.key
    except (ValueError, RecursionError):
        return None  # the parser of the body reports the error
    return None


def _once_each(pairs: list[tuple[str, Any]]) -> None:
    keys = set()
    for key, _ in pairs:
        if key in keys:
            raise _Repeated(key)
        keys.add(key)
