"""The two streams: one JSON object a line, prices or transactions, and a heartbeat every 5 s."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.support.v20.amounts import rfc3339, with_unix_times
from tests.support.v20.instruments import INSTRUMENTS
from tests.support.v20.market import Tick
from tests.support.v20.views import price_json

if TYPE_CHECKING:
    from tests.support.v20.broker import Broker

Json = dict[str, Any]
MS = 1_000_000
REQUEST_ID = web.RequestKey("request_id", str)
FAULTS = ("half_line", "split_line", "garbage_line", "silent", "end_stream")


class StreamEnded(Exception):
    """A fault ended the stream."""


class LineWriter:
    """Writes a stream's lines, each as the faults of the moment make it."""

    def __init__(self, broker: Broker, request: web.Request) -> None:
        self.broker = broker
        self.request = request
        self.response = web.StreamResponse(
            headers={"Content-Type": "application/octet-stream", "RequestID": request[REQUEST_ID]}
        )
        self._unix = request.headers.get("Accept-Datetime-Format", "").upper() == "UNIX"

    async def write(self, line: Json) -> None:
        """Write one object.

        Raises
        ------
        StreamEnded
            When a fault says so.
        """
        if line["type"] == "HEARTBEAT" and self._take("no_heartbeat"):
            return
        self.broker.check_line(self.request, line)
        shown = with_unix_times(line) if self._unix else line
        text = json.dumps(shown, separators=(",", ":")).encode() + b"\n"
        fault = self.broker.faults.take(FAULTS, self.request.method, self.request.path)
        if fault is None:
            await self.response.write(text)
        elif fault.kind == "split_line":
            await self.response.write(text[: len(text) // 2])
            await asyncio.sleep(float(fault.more.get("delay_sec", 0.1)))
            await self.response.write(text[len(text) // 2 :])
        elif fault.kind == "garbage_line":
            await self.response.write(b"<html>502 Bad Gateway</html>\n")
        elif fault.kind == "silent":
            await self._silence(float(fault.more.get("delay_sec", 0)))
        else:
            if fault.kind == "half_line":
                await self.response.write(text[: len(text) // 2])
                self.broker.cut(self.request, bool(fault.more.get("reset")))
            raise StreamEnded

    def _take(self, kind: str) -> bool:
        faults = self.broker.faults
        return faults.take((kind,), self.request.method, self.request.path) is not None

    async def _silence(self, seconds: float) -> None:
        if seconds:
            await asyncio.sleep(seconds)
            return
        await self.broker.until_gone(self.request)
        raise StreamEnded


async def price_stream(
    broker: Broker, request: web.Request, names: list[str]
) -> web.StreamResponse:
    """GET /accounts/{account}/pricing/stream."""
    account = broker.exchange.accounts[request.match_info["account"]]
    exchange, writer = broker.exchange, LineWriter(broker, request)
    queue: asyncio.Queue[Json] = asyncio.Queue()

    def priced(name: str, tick: Tick) -> None:
        tradeable = exchange.market.trading(name, exchange.now_ns() // MS)
        queue.put_nowait(price_json(account, name, tick, tradeable, exchange.quotes))

    wanted = list(dict.fromkeys(names))
    exchange.pump()
    if request.query.get("snapshot", "true").lower() != "false":
        for name in wanted:
            priced(name, exchange.market.at(name, exchange.now_ns() // MS))
    exchange.price_listeners[writer] = (frozenset(wanted), priced)

    def heartbeat() -> Json:
        return {"type": "HEARTBEAT", "time": rfc3339(exchange.now_ns())}

    try:
        return await _run(broker, request, writer, queue, heartbeat)
    finally:
        del exchange.price_listeners[writer]


async def transaction_stream(broker: Broker, request: web.Request) -> web.StreamResponse:
    """GET /accounts/{account}/transactions/stream."""
    account = broker.exchange.accounts[request.match_info["account"]]
    exchange, writer = broker.exchange, LineWriter(broker, request)
    queue: asyncio.Queue[Json] = asyncio.Queue()

    def happened(account_id: str, transaction: Json) -> None:
        if account_id == account.id:
            queue.put_nowait(transaction)

    exchange.transaction_listeners[writer] = happened

    def heartbeat() -> Json:
        now = rfc3339(exchange.now_ns())
        return {"type": "HEARTBEAT", "lastTransactionID": account.last_id, "time": now}

    try:
        return await _run(broker, request, writer, queue, heartbeat)
    finally:
        del exchange.transaction_listeners[writer]


async def _run(
    broker: Broker,
    request: web.Request,
    writer: LineWriter,
    queue: asyncio.Queue[Json],
    heartbeat: Any,
) -> web.StreamResponse:
    await writer.response.prepare(request)
    loop = asyncio.get_running_loop()
    # what holds now comes first, then a heartbeat at once
    due, begun = loop.time(), False
    try:
        while not broker.stopping.is_set() and not gone(request):
            if loop.time() >= due and (begun or queue.empty()):
                begun = True
                await writer.write(heartbeat())
                due = loop.time() + broker.heartbeat_sec
            # a short wait, so that a stop is noticed without waking every stream
            left = min(max(due - loop.time(), 0.001), 0.25) if begun else 1
            try:
                line = await asyncio.wait_for(queue.get(), left)
            except TimeoutError:
                continue
            await writer.write(line)
    except (StreamEnded, ConnectionError):
        pass
    return writer.response


def gone(request: web.Request) -> bool:
    """Return whether the client has closed the connection."""
    return request.transport is None or request.transport.is_closing()


def stream_names(request: web.Request) -> list[str] | None:
    """Return the instruments of a price stream; None when they are missing or unknown."""
    names = [name for name in request.query.get("instruments", "").split(",") if name]
    return names if names and all(name in INSTRUMENTS for name in names) else None
