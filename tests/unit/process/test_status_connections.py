"""The limits of a status port: time, size, and number of connections."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from streams.process.child import free_port
from streams.process.status_connections import (
    ANSWERED_WITHIN_S,
    MOST_BYTES,
    listen,
)
from tests.support.waiting import PATIENCE_S

SOON_S = 0.2
HEAD = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n"
LARGE = bytes(8_000_000)
"""More than the buffers of the kernel hold."""


async def _small(_: web.Request) -> web.Response:
    return web.Response(text="a 1\n")


async def _large(_: web.Request) -> web.Response:
    return web.Response(body=LARGE)


@contextlib.asynccontextmanager
async def served(within_s: float = ANSWERED_WITHIN_S) -> AsyncIterator[tuple[int, web.AppRunner]]:
    """Serve; yield the port."""
    application = web.Application()
    application.router.add_get("/metrics", _small)
    application.router.add_get("/large", _large)
    port = free_port()
    runner = await listen(application, "127.0.0.1", port, within_s)
    try:
        yield port, runner
    finally:
        await runner.cleanup()


async def opened(port: int, first: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(first)
    return reader, writer


async def answer(port: int, request: bytes = HEAD + b"\r\n") -> bytes:
    reader, writer = await opened(port, request)
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await reader.read()
    finally:
        writer.close()


async def test_a_request_is_answered_and_its_connection_closed() -> None:
    async with served() as (port, _):
        found = await answer(port)
        assert found.startswith(b"HTTP/1.1 200 ") and found.endswith(b"a 1\n")
        assert b"connection: close" in found.lower()
        missing = await answer(port, HEAD.replace(b"/metrics", b"/else") + b"\r\n")
        assert missing.startswith(b"HTTP/1.1 404 ") and b"connection: close" in missing.lower()


@pytest.mark.parametrize(
    "first", [b"", b"GET", HEAD, HEAD + b"Content-Le", b"POST /metrics HTTP/1.1\r\nHost: a\r\nX: "]
)
async def test_a_request_that_is_not_completed_ends_at_the_deadline(first: bytes) -> None:
    async with served(SOON_S) as (port, _):
        assert (await answer(port, first)).startswith(b"HTTP/1.1 408 ")


async def test_a_request_that_drips_in_ends_at_the_deadline() -> None:
    async with served(SOON_S) as (port, _):
        reader, writer = await opened(port, HEAD)

        async def drip() -> None:
            with contextlib.suppress(OSError):
                while True:
                    writer.write(b"X: y\r\n")
                    await asyncio.sleep(SOON_S / 10)

        dripping = asyncio.create_task(drip())
        async with asyncio.timeout(PATIENCE_S):
            found = await reader.read()
        dripping.cancel()
        writer.close()
        assert found.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    "request_bytes",
    [
        HEAD + b"X: y\r\n" * MOST_BYTES,
        b"GET /" + b"a" * MOST_BYTES + b" HTTP/1.1\r\n",
        (HEAD + b"X-Long: " + b"a" * MOST_BYTES),
    ],
    ids=["many headers", "a long path", "a long header"],
)
async def test_a_request_that_is_too_large_is_refused(request_bytes: bytes) -> None:
    async with served() as (port, runner):
        reader, writer = await opened(port, request_bytes)
        found = b""
        with contextlib.suppress(ConnectionResetError):
            async with asyncio.timeout(PATIENCE_S):
                found = await reader.read()
        writer.close()
        assert not found.startswith(b"HTTP/1.1 200")
        await gone(runner)


async def gone(runner: web.AppRunner) -> None:
    """Wait until no connection is left."""
    async with asyncio.timeout(PATIENCE_S):
        while runner.server and runner.server.connections:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def silent_client(port: int) -> socket.socket:
    """Return a client that asks for much, and reads none of it."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, ("127.0.0.1", port))
    await loop.sock_sendall(client, HEAD.replace(b"/metrics", b"/large") + b"\r\n")
    return client


async def test_a_client_that_does_not_read_ends_at_the_deadline() -> None:
    async with served(SOON_S) as (port, runner):
        with contextlib.closing(await silent_client(port)):
            assert runner.server is not None
            async with asyncio.timeout(PATIENCE_S):
                while not runner.server.requests_count:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            await gone(runner)


async def test_neither_half_requests_nor_clients_that_do_not_read_keep_out_a_whole_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streams.process.status_connections.MOST_INCOMPLETE", 12)
    monkeypatch.setattr("streams.process.status_connections.MOST_ANSWERED", 4)
    async with served() as (port, runner):
        assert runner.server is not None
        halves = []
        for _ in range(40):
            halves.append(await opened(port, b"GET /met"))
            assert (await answer(port)).startswith(b"HTTP/1.1 200 ")
        silent = []
        for _ in range(12):
            silent.append(await silent_client(port))
            assert (await answer(port)).startswith(b"HTTP/1.1 200 ")
        async with asyncio.timeout(PATIENCE_S):
            while len(runner.server.connections) > 12 + 4:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        for _, writer in halves:
            writer.close()
        for client in silent:
            client.close()
