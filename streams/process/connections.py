"""A limit for the connections of a server: beyond it the oldest one is closed."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Abortable(Protocol):
    """A connection that can be closed at once."""

    @property
    def transport(self) -> asyncio.Transport | None:
        """The transport; None when the connection is closed."""


class Waiting:
    """Connections of one kind, oldest first.

    Parameters
    ----------
    most
        Maximum number.

    Attributes
    ----------
    closed
        Number of connections that were closed because of a limit.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._connections: dict[Abortable, None] = {}
        self.closed = 0

    def add(self, connection: Abortable) -> None:
        """Add a connection as the newest; close the oldest when there are too many."""
        self._connections.pop(connection, None)
        self._connections[connection] = None
        while len(self._connections) > self._most:
            oldest = next(iter(self._connections))
            del self._connections[oldest]
            self.closed += 1
            if oldest.transport is not None:
                oldest.transport.abort()

    def discard(self, connection: Abortable) -> None:
        """Remove a connection that is closed, or is of another kind now."""
        self._connections.pop(connection, None)

    def __len__(self) -> int:
        return len(self._connections)
