"""Validation against OANDA's own description of the API (filled in below)."""

from __future__ import annotations

from typing import Any


class Contract:
    """Checks requests and responses; None where the description is not at hand."""

    @classmethod
    def available(cls) -> Contract | None:
        """Return the contract if its files are there."""
        return None

    def request(self, method: str, path: str, query: dict[str, str], body: Any) -> list[str]:
        """Return what is wrong with a request."""
        return []

    def response(self, method: str, path: str, status: int, body: Any) -> list[str]:
        """Return what is wrong with a response."""
        return []

    def line(self, path: str, line: Any) -> list[str]:
        """Return what is wrong with a line of a stream."""
        return []
