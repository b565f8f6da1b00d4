"""Time and size limits for the connections of a status port.

A request to a status port is a short GET without a body, so a connection carries one request, and
everything about it has one limit: ``ANSWERED_WITHIN_S`` from the connection to the last byte of the
answer, ``MOST_BYTES`` received. The number of connections is limited too, separately for those
whose request is incomplete and those that are being answered: neither half-sent requests nor
clients that do not read keep out a complete request, or use up the file descriptors of the process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web

from streams.process.connections import Waiting

ANSWERED_WITHIN_S: Final = 15.0
MOST_BYTES: Final = 32_768
MOST_INCOMPLETE: Final = 192
"""Maximum number of connections of a port whose request is incomplete."""
MOST_ANSWERED: Final = 64
"""Maximum number of connections of a port that are being answered."""
BACKLOG: Final = 64
STOPPED_WITHIN_S: Final = 2.0
_TOO_LATE = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\n"
    b"Content-Length: 0\r\n\r\n"
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class StatusConnection(web.RequestHandler):
    """One connection of a status port: one request, within the limits.

    Parameters
    ----------
    server
        The server of the application.
    incomplete, answered
        The port's connections whose request is incomplete, and those that are being answered.
    within_s
        Seconds from the connection to the end of the answer.
    options
        Of ``aiohttp.web.RequestHandler``.
    """

    __slots__ = ("_answered", "_deadline", "_incomplete", "_received", "_within_s")

    def __init__(
        self, server: web.Server, incomplete: Waiting, answered: Waiting, within_s: float,
        **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(server, loop=asyncio.get_running_loop(), **options)
        self._incomplete, self._answered = incomplete, answered
        self._within_s, self._received = within_s, 0
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the time limit."""
        super().connection_made(transport)
        self._deadline = self._loop.call_later(self._within_s, self._too_late)
        self._incomplete.add(self)

    def data_received(self, data: bytes) -> None:
        """Take data up to the size limit."""
        self._received += len(data)
        if self._received <= MOST_BYTES:
            super().data_received(data)
        elif self.transport is not None and not self.transport.is_closing():
            self._refuse(_TOO_LARGE)

    def begin_answer(self) -> None:
        """Count this connection as one that is being answered."""
        self._incomplete.discard(self)
        self._answered.add(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Remove the connection."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._incomplete.discard(self)
        self._answered.discard(self)
        super().connection_lost(exc)

    def _too_late(self) -> None:
        if self.transport is None:
            return
        if self._request_in_progress or self.transport.is_closing():
            self.transport.abort()
        else:
            self._refuse(_TOO_LATE)

    def _refuse(self, answer: bytes) -> None:
        assert self.transport is not None
        self.transport.write(answer)
        if self.transport.get_write_buffer_size():
            self.transport.abort()  # the client does not read
        else:
            self.transport.close()


@web.middleware
async def one_request(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer a request and close its connection."""
    connection = request.protocol
    assert isinstance(connection, StatusConnection)
    connection.begin_answer()
    try:
        answer = await handler(request)
    except web.HTTPException as error:
        error.force_close()
        raise
    answer.force_close()
    return answer


async def listen(
    application: web.Application, host: str, port: int, within_s: float = ANSWERED_WITHIN_S
) -> web.AppRunner:
    """Serve an application until the returned runner is cleaned up; port 0 starts no server.

    Parameters
    ----------
    within_s
        Seconds from a connection to the end of its answer.

    Raises
    ------
    OSError
        The address cannot be used.
    """
    listening: list[asyncio.Server] = []

    async def stop_listening(_: web.Application) -> None:
        for one in listening:
            one.close()

    application.middlewares.insert(0, one_request)
    application.on_shutdown.append(stop_listening)
    runner = web.AppRunner(application, shutdown_timeout=STOPPED_WITHIN_S)
    await runner.setup()
    if not port:
        return runner
    incomplete, answered, server = Waiting(MOST_INCOMPLETE), Waiting(MOST_ANSWERED), runner.server
    assert server is not None

    def connection() -> StatusConnection:
        options: dict[str, Any] = {"access_log": None, "lingering_time": 0.0}
        return StatusConnection(server, incomplete, answered, within_s, **options)

    try:
        listening.append(
            await asyncio.get_running_loop().create_server(connection, host, port, backlog=BACKLOG)
        )
    except OSError:
        await runner.cleanup()
        raise
    return runner
