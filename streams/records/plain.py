"""Events as plain JSON objects, with the names of the records."""

from __future__ import annotations

from typing import Any


def plain(value: Any) -> Any:
    """Return an event, or a part of one, as dicts, lists and plain values.

    The trailing underscore of Python keywords is removed (``lambda_`` -> ``lambda``).
    """
    if isinstance(value, tuple):
        fields = getattr(value, "_fields", None)
        if fields is None:
            return [plain(item) for item in value]
        pairs = zip(fields, value, strict=True)
        return {name.rstrip("_"): plain(item) for name, item in pairs}
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value
