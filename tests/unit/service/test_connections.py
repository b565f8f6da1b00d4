"""Half-sent requests: they end at a deadline, and occupy no room of whole ones."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn

from streams.process.connections import Waiting
from streams.service.connections import MOST_WAITING, BoundedProtocol, protocol_with

WITHIN_S = 0.3
REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


async def _app(scope: Any, receive: Any, send: Any) -> None:
    headers = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


@contextlib.asynccontextmanager
async def served(waiting: Waiting) -> AsyncIterator[int]:
    """Serve; yield the port."""
    protocol: type[BoundedProtocol] = protocol_with(waiting)
    protocol.headers_within_s = WITHIN_S
    config = uvicorn.Config(
        _app, host="127.0.0.1", port=0, http=protocol, lifespan="off", log_config=None
    )
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        await server.shutdown()


Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def opened(port: int, first: bytes) -> Ends:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(first)
    await writer.drain()
    return reader, writer


async def answer(ends: Ends) -> bytes:
    head = await ends[0].readuntil(b"\r\n\r\n")
    return head + await ends[0].readexactly(2)


@pytest.mark.parametrize(
    "first", [b"", b"GET / HT", REQUEST[:-2], b"POST / HTTP/1.1\r\nHost: a\r\nContent-Len"]
)
async def test_a_request_that_is_not_completed_ends_at_the_deadline(first: bytes) -> None:
    waiting = Waiting(MOST_WAITING)
    async with served(waiting) as port:
        began = time.monotonic()
        ends = await opened(port, first)
        dripping = asyncio.create_task(_drip(ends[1])) if first else None
        found = await ends[0].read()
        assert found.startswith(b"HTTP/1.1 408 ")
        assert WITHIN_S * 0.8 < time.monotonic() - began < WITHIN_S + 1.0
        assert len(waiting) == 0 and waiting.closed == 1
        if dripping is not None:
            dripping.cancel()
        ends[1].close()


async def _drip(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while True:
            await asyncio.sleep(WITHIN_S / 10)
            writer.write(b"x")


async def test_a_connection_stays_open_between_requests_and_the_next_has_the_deadline_too() -> None:
    async with served(Waiting(MOST_WAITING)) as port:
        ends = await opened(port, REQUEST)
        assert (await answer(ends)).endswith(b"ok")
        await asyncio.sleep(WITHIN_S * 2)
        ends[1].write(REQUEST + REQUEST[:9])
        assert (await answer(ends)).endswith(b"ok")
        assert (await ends[0].read()).startswith(b"HTTP/1.1 408 ")
        ends[1].close()


async def test_a_body_that_no_answer_needed_ends_at_the_deadline() -> None:
    async with served(Waiting(MOST_WAITING)) as port:
        ends = await opened(port, b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n12")
        assert (await answer(ends)).endswith(b"ok")
        began = time.monotonic()
        assert await ends[0].read() == b""
        assert time.monotonic() - began < WITHIN_S + 1.0
        ends[1].close()


async def test_the_connection_that_has_waited_longest_makes_room_for_a_new_one() -> None:
    waiting = Waiting(3)
    async with served(waiting) as port:
        half = [await opened(port, b"GET / HT") for _ in range(5)]
        await asyncio.sleep(0.05)
        assert len(waiting) == 3 and waiting.closed == 2
        whole = await opened(port, REQUEST)
        assert (await answer(whole)).endswith(b"ok")
        with contextlib.suppress(ConnectionResetError):
            assert await half[0][0].read() == b""
        for ends in (*half, whole):
            ends[1].close()
