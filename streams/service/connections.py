"""Timeouts and a limit for connections whose request is incomplete (slow clients).

uvicorn has no timeout for the header of a request. Here the header must arrive within
``HEADERS_WITHIN_S`` of the first byte (or of the connection). The number of connections without a
request in progress is limited; beyond that the oldest of them is closed. So a complete request is
always read, whatever the number of incomplete ones.
"""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from streams.process.connections import Waiting

HEADERS_WITHIN_S = 5.0
MOST_WAITING = 512
"""Maximum number of connections without a request in progress, over all ports."""
TIMEOUT_ANSWER = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 with a timeout for the header of a request; a subclass sets ``waiting``."""

    waiting: Waiting
    headers_within_s = HEADERS_WITHIN_S
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timeout of the first request."""
        super().connection_made(transport)
        self.waiting.add(self)
        self._start_deadline()

    def data_received(self, data: bytes) -> None:
        """Read data; cancel the timeout when the header is complete."""
        if self._deadline is None and not self._in_progress:
            self._start_deadline()
        super().data_received(data)
        if self._in_progress:
            self._end_waiting()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Pass the connection to the WebSocket protocol."""
        self._end_waiting()
        super().handle_websocket_upgrade(event)

    def on_response_complete(self) -> None:
        """Wait for the next request; a timeout applies if part of it has arrived already."""
        super().on_response_complete()
        if self.transport.is_closing() or self._in_progress:
            return
        self.waiting.add(self)
        if self.conn.trailing_data[0] or self.conn.their_state is not h11.IDLE:
            self._start_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """Remove the connection."""
        self._end_waiting()
        super().connection_lost(exc)

    @property
    def _in_progress(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _start_deadline(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.headers_within_s, self._too_late)

    def _end_waiting(self) -> None:
        self.waiting.discard(self)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_late(self) -> None:
        self._deadline = None
        if self._in_progress or self.transport.is_closing():
            return
        self.waiting.discard(self)
        self.waiting.closed += 1
        if self.conn.our_state is h11.IDLE:
            self.transport.write(TIMEOUT_ANSWER)
        self.transport.close()


def protocol_with(waiting_connections: Waiting) -> type[BoundedProtocol]:
    """Return the protocol class of a server; several servers may share one ``Waiting``."""

    class Bounded(BoundedProtocol):
        waiting = waiting_connections

    return Bounded
