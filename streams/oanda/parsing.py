"""Strict parsing of fields of OANDA's responses; a mismatch raises ``NotAsDescribed``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

from streams.oanda.errors import NotAsDescribed

T = TypeVar("T")

_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:Z|\+00:00)", re.ASCII)
_DECIMAL = re.compile(r"-?\d{1,24}(\.\d{1,24})?", re.ASCII)


class Fields:
    """A JSON object of a response, and its path in the response.

    Parameters
    ----------
    content
        The object.
    endpoint
        Name of the request for messages; never contains a secret.
    place
        Path of the object in the response.

    Raises
    ------
    NotAsDescribed
        ``content`` is not an object.
    """

    def __init__(self, content: Any, endpoint: str, place: str = "") -> None:
        self.endpoint, self.place = endpoint, place
        if not isinstance(content, Mapping):
            raise self.wrong("", "an object", content)
        self.content: Mapping[str, Any] = content

    def wrong(self, name: str, expected: str, actual: Any) -> NotAsDescribed:
        """Return the error for a field with an invalid value."""
        place = ".".join(part for part in (self.place, name) if part) or "the answer"
        return NotAsDescribed(
            f"OANDA's answer to {self.endpoint} is not as described: {place} is "
            f"{_shown(actual)} instead of {expected}"
        )

    def has(self, name: str) -> bool:
        """Return whether a field exists."""
        return self.content.get(name) is not None

    def text(self, name: str) -> str:
        """Return a non-empty string."""
        value = self.content.get(name)
        if not isinstance(value, str) or not value:
            raise self.wrong(name, "a text", value)
        return value

    def whole(self, name: str) -> int:
        """Return an integer."""
        value = self.content.get(name)
        if type(value) is not int:
            raise self.wrong(name, "a whole number", value)
        return value

    def flag(self, name: str) -> bool:
        """Return a boolean."""
        value = self.content.get(name)
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false", value)
        return value

    def decimal(self, name: str) -> Decimal:
        """Return a decimal number, which OANDA writes as a string."""
        value = self.content.get(name)
        if isinstance(value, str) and _DECIMAL.fullmatch(value):
            try:
                return Decimal(value)
            except InvalidOperation:  # pragma: no cover - excluded by the pattern
                pass
        raise self.wrong(name, "a decimal number in quotes", value)

    def price(self, name: str) -> float:
        """Return a price: a positive decimal number."""
        return float(self.exact_price(name))

    def exact_price(self, name: str) -> Decimal:
        """Return a price as a Decimal, exactly as written."""
        value = self.decimal(name)
        if value <= 0:
            raise self.wrong(name, "a positive price", self.content.get(name))
        return value

    def time_ms(self, name: str) -> int:
        """Return an RFC 3339 time in UTC as epoch ms, truncated."""
        return self.time_ns(name) // 1_000_000

    def time_ns(self, name: str) -> int:
        """Return an RFC 3339 time in UTC as epoch ns."""
        value = self.content.get(name)
        match = _TIME.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise self.wrong(name, "a time such as 2024-03-04T07:00:00.000000000Z", value)
        try:
            whole = datetime.fromisoformat(match[1]).replace(tzinfo=UTC)
        except ValueError as error:
            raise self.wrong(name, "a time", value) from error
        return int(whole.timestamp()) * 1_000_000_000 + int((match[2] or "0").ljust(9, "0"))

    def part(self, name: str) -> Fields:
        """Return a nested object."""
        return Fields(self.content.get(name), self.endpoint, f"{self.place}.{name}".lstrip("."))

    def each(self, name: str) -> Iterator[Fields]:
        """Yield the objects of a list."""
        for at, value in enumerate(self._list(name)):
            yield Fields(value, self.endpoint, f"{self.place}.{name}[{at}]".lstrip("."))

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of strings; empty when the field is missing."""
        values = self._list(name) if self.has(name) else []
        if not all(isinstance(value, str) for value in values):
            raise self.wrong(name, "a list of texts", values)
        return tuple(values)

    def maybe(self, name: str, read: Callable[[str], T]) -> T | None:
        """Return the result of ``read`` (a method of this object) for a field, None if it is
        missing."""
        return read(name) if self.has(name) else None

    def _list(self, name: str) -> list[Any]:
        value = self.content.get(name)
        if not isinstance(value, list):
            raise self.wrong(name, "a list", value)
        return value


def _shown(value: Any) -> str:
    if value is None:
        return "missing"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
