"""A server that answers with any bytes, for the OANDA client's tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from streams.config.oanda import Oanda

TOKEN = "a1b2c3-very-secret-token"


@asynccontextmanager
async def serving(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[tuple[Oanda, list[bytes]]]:
    heads: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            await talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            return
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    made = Oanda.from_env(
        {
            "OANDA_API_KEY": TOKEN,
            "OANDA_ACCOUNT_ID": "101-001-1-001",
            "OANDA_BASE_URL": url,
            "OANDA_STREAM_URL": url,
            "OANDA_HTTP_RETRIES": "0",
            "OANDA_HTTP_TIMEOUT_SEC": "2",
            "OANDA_HTTP_BACKOFF": "1",
            "OANDA_STREAM_SILENCE_SEC": "0.4",
        }
    )
    try:
        yield made, heads
    finally:
        server.close()


def answering(*pieces: bytes, pause_s: float = 0.0, stay_s: float = 0.0) -> Any:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_s)
        await asyncio.sleep(stay_s)

    return talk


def page(body: bytes, status: str = "200 OK", head: str = "") -> bytes:
    return (
        f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nContent-Type: application/json\r\n"
        f"{head}\r\n"
    ).encode() + body
