"""JSON with a repeated key, which every parser may read differently: it is refused."""

from __future__ import annotations

import json
from typing import Any


class _Repeated(Exception):
    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def repeated_key(body: str | bytes) -> str | None:
    """Return a key that an object of the body has twice; None without one, or for no JSON."""
    try:
        json.loads(body, object_pairs_hook=_once_each)
    except _Repeated as found:
        return found.key
    except (ValueError, RecursionError):
        return None  # whoever parses the body says what is wrong
    return None


def _once_each(pairs: list[tuple[str, Any]]) -> None:
    keys = set()
    for key, _ in pairs:
        if key in keys:
            raise _Repeated(key)
        keys.add(key)
