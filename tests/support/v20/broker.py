"""The application: authorisation, faults, the request log, validation."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import socket
import struct
import time
import weakref
from collections.abc import Awaitable, Callable, Iterable
from decimal import Decimal
from email.utils import formatdate
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.support.v20 import control, rest, streams
from tests.support.v20.amounts import parse_time, with_unix_times
from tests.support.v20.call import Call
from tests.support.v20.clock import BrokerClock
from tests.support.v20.contract import Contract
from tests.support.v20.desk import Answer, Forced
from tests.support.v20.exchange import Exchange, Journal
from tests.support.v20.faults import SPARED, Fault, FaultBook
from tests.support.v20.market import Market
from tests.support.v20.options import Options
from tests.support.v20.orders import BadParameter
from tests.support.v20.streams import REQUEST_ID

Json = dict[str, Any]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Make = Callable[[Call], Answer]

ENTRY: web.RequestKey[Json] = web.RequestKey("entry", dict)
"""Where a request keeps its line of the log."""

BEFORE = ("cut_before", "status", "slow", "hang")
AFTER = ("cut_after", "lost_answer", "cut_middle", "wrong_json", "wrong_type")
STATUS_TEXT = {
    429: "Rate limit violation: too many requests",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


class Broker:
    """The application and everything it holds."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.token = options.token or secrets.token_hex(16) + "-" + secrets.token_hex(16)
        start = parse_time(options.start) if options.start else None
        self.exchange = Exchange(
            Market(options.seed, options.hours == "always", options.next_tick, options.nzd_pause),
            BrokerClock(start, options.speed),
            Journal(Path(options.state) if options.state else None),
            options.unique_ids,
            options.show_finished,
        )
        for account_id in (options.account_id, *options.more_accounts):
            self.exchange.open_account(
                account_id,
                options.currency,
                Decimal(options.balance),
                Decimal(options.margin_rate),
            )
        for account in self.exchange.accounts.values():
            account.fifo, account.mt4_account_id = options.fifo, options.mt4_account_id
            account.guaranteed_stops = options.guaranteed_stops
        self.faults = FaultBook()
        self.heartbeat_sec = options.heartbeat_sec
        self.stopping = asyncio.Event()
        self.requests: list[Json] = []
        self.violations: list[Json] = []
        published = options.contract == "published"
        self.contract = Contract.published() if published else Contract.available()
        self.connections: weakref.WeakSet[asyncio.BaseTransport] = weakref.WeakSet()
        self._recent: list[float] = []
        self._number = 0
        self.app = web.Application(middlewares=[self._middleware], client_max_size=1 << 20)
        control.add_routes(self.app, self)
        account = "/v3/accounts/{account}"
        self.app.router.add_get(f"{account}/pricing/stream", self._prices)
        self.app.router.add_get(f"{account}/transactions/stream", self._transactions)
        for method, path, reading in rest.ROUTES:
            self.app.router.add_route(method, path, rest.handler(self, reading))
        self.app.on_response_prepare.append(self._stamp)

    async def pump(self) -> None:
        """Let time pass for the market until the broker stops."""
        while not self.stopping.is_set():
            self.exchange.pump()
            await asyncio.sleep(0.05)

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith("/control/"):
            try:
                return await handler(request)
            except (ValueError, LookupError, TypeError) as error:
                return web.json_response({"error": str(error)}, status=400)
        self._number += 1
        request[REQUEST_ID] = f"{7_000_000_000_000_000 + self._number}"
        entry = await self._logged(request)
        request[ENTRY] = entry
        response = await self._admitted(request, handler)
        entry["status"] = response.status
        return response

    async def _logged(self, request: web.Request) -> Json:
        shown = {
            k: "***" if k.lower() == "authorization" else v for k, v in request.headers.items()
        }
        text = await request.text()
        if request.transport is not None:
            self.connections.add(request.transport)
        peer = request.transport.get_extra_info("peername") if request.transport else None
        entry: Json = {
            "number": self._number,
            "requestID": request[REQUEST_ID],
            "time": time.time(),
            "method": request.method,
            "path": request.path,
            "query": dict(request.query),
            "headers": shown,
            "body": text,
            "connection": f"{peer[0]}:{peer[1]}" if peer else None,
            "status": None,
            "fault": None,
        }
        self.requests.append(entry)
        return entry

    async def _admitted(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return self._error(request, 401, "Insufficient authorization to perform request.")
        if self._too_many():
            return self._error(request, 429, STATUS_TEXT[429])
        account = request.match_info.get("account")
        if account is not None and account not in self.exchange.accounts:
            return self._error(request, 403, "The provided request was forbidden.")
        try:
            return await handler(request)
        except web.HTTPNotFound:
            return self._error(request, 404, "The requested resource was not found.")
        except web.HTTPMethodNotAllowed:
            return self._error(request, 405, "The requested method is not allowed.")
        except Exception as error:
            self._violated(request, "broker", [f"{type(error).__name__}: {error}"])
            raise

    def _too_many(self) -> bool:
        limit = self.options.requests_per_sec
        if not limit:
            return False
        now = time.monotonic()
        self._recent = [t for t in self._recent if t > now - 1] + [now]
        return len(self._recent) > limit

    async def _stamp(self, request: web.Request, response: web.StreamResponse) -> None:
        if REQUEST_ID in request:
            response.headers["RequestID"] = request[REQUEST_ID]
            skew = self.faults.skew_sec(request.method, request.path)
            now = self.exchange.now_ns() / 1_000_000_000 + skew
            response.headers["Date"] = formatdate(now, usegmt=True)

    def _error(self, request: web.Request, status: int, text: str) -> web.Response:
        return self._json(request, Answer(status, {"errorMessage": text}))

    def _json(self, request: web.Request, answer: Answer) -> web.Response:
        body: Any = answer.body
        self._check_response(request, answer)
        if request.headers.get("Accept-Datetime-Format", "RFC3339").upper() == "UNIX":
            body = with_unix_times(body)
        return web.json_response(body, status=answer.status)

    def _check_response(self, request: web.Request, answer: Answer) -> None:
        if self.contract is not None:
            found = self.contract.response(request.method, request.path, answer.status, answer.body)
            self._violated(request, "response", found)

    def _violated(self, request: web.Request, what: str, found: list[str]) -> None:
        for text in found:
            self.violations.append(
                {
                    "of": what,
                    "method": request.method,
                    "path": request.path,
                    "requestID": request[REQUEST_ID],
                    "text": text,
                }
            )

    def check_line(self, request: web.Request, line: Json) -> None:
        """Validate one line of a stream."""
        if self.contract is not None:
            self._violated(request, "response", self.contract.line(request.path, line))

    def _check_request(self, request: web.Request, body: Json | None) -> None:
        if self.contract is not None:
            query = dict(request.query)
            found = self.contract.request(request.method, request.path, query, body)
            kind = request.headers.get("Content-Type", "")
            if body is not None and not kind.startswith("application/json"):
                found.append(f"{request.method} {request.path}: the body's type is {kind!r}")
            self._violated(request, "request", found)

    def forced_order(self, request: web.Request) -> Forced | None:
        """Return what a fault makes of the order of this request."""
        fault = self._fault(request, ("reject_order", "cancel_order"))
        if fault is None:
            return None
        self._note(request, fault)
        reason = str(fault.more.get("reason", "INTERNAL_SERVER_ERROR"))
        return Forced(reject=reason) if fault.kind == "reject_order" else Forced(cancel=reason)

    def _fault(self, request: web.Request, kinds: Iterable[str]) -> Fault | None:
        """Return the fault that strikes a request; none strikes one that wants none."""
        if SPARED in request.headers:
            return None
        return self.faults.take(kinds, request.method, request.path)

    def _note(self, request: web.Request, fault: Fault) -> None:
        request[ENTRY]["fault"] = fault.kind

    async def respond(self, request: web.Request, make: Make) -> web.StreamResponse:
        """Answer a request of the API, with the faults that strike it."""
        fault = self._fault(request, BEFORE)
        if fault is not None:
            self._note(request, fault)
            if fault.kind == "cut_before":
                return self.cut(request, bool(fault.more.get("reset")))
            if fault.kind == "hang":
                return await self._hang(request)
            if fault.kind == "slow" and not fault.more.get("after"):
                await asyncio.sleep(float(fault.more.get("delay_sec", 1)))
            if fault.kind == "status" and not fault.more.get("processed"):
                return self._failed(fault)
        answer = self._processed(request, make)
        if fault is not None and fault.kind == "status":
            return self._failed(fault)
        if fault is not None and fault.kind == "slow" and fault.more.get("after"):
            await asyncio.sleep(float(fault.more.get("delay_sec", 1)))
        return await self._answered(request, answer)

    def _processed(self, request: web.Request, make: Make) -> Answer:
        self.exchange.pump()
        try:
            body = rest.read_body(request[ENTRY]["body"])
        except BadParameter:
            self._check_request(request, None)
            return Answer(400, {"errorMessage": "Unable to parse JSON from the request body"})
        self._check_request(request, body or None)
        return make(Call(self, request, body, request[REQUEST_ID]))

    def _failed(self, fault: Fault) -> web.Response:
        code = int(fault.more.get("code", 503))
        headers = {}
        if fault.more.get("retry_after") is not None:
            headers["Retry-After"] = str(fault.more["retry_after"])
        body = {"errorMessage": STATUS_TEXT.get(code, "Error")}
        return web.json_response(body, status=code, headers=headers)

    async def _answered(self, request: web.Request, answer: Answer) -> web.StreamResponse:
        kinds: tuple[str, ...] = AFTER
        ordered = request.method == "POST" and answer.status == 201
        closed = request.path.endswith("/close") and answer.status == 200
        if not (ordered or closed):
            kinds = tuple(kind for kind in AFTER if kind != "lost_answer")
        fault = self._fault(request, kinds)
        if fault is None:
            return self._located(request, answer)
        self._note(request, fault)
        if fault.kind == "lost_answer" and fault.more.get("how") == "hang":
            return await self._hang(request)
        if fault.kind in ("cut_after", "lost_answer"):
            return self.cut(request, bool(fault.more.get("reset")))
        if fault.kind == "cut_middle":
            return await self._half(request, answer, bool(fault.more.get("reset")))
        if fault.kind == "wrong_type":
            return web.json_response([answer.body], status=answer.status)
        text = str(fault.more.get("body", json.dumps(answer.body)[:-3]))
        return web.Response(text=text, status=answer.status, content_type="application/json")

    def _located(self, request: web.Request, answer: Answer) -> web.Response:
        response = self._json(request, answer)
        created = answer.body.get("orderCreateTransaction")
        if answer.status == 201 and created:
            account = request.match_info["account"]
            response.headers["Location"] = f"/v3/accounts/{account}/orders/{created['id']}"
        return response

    async def _half(self, request: web.Request, answer: Answer, reset: bool) -> web.StreamResponse:
        text = json.dumps(answer.body).encode()
        response = web.StreamResponse(status=answer.status)
        response.content_type, response.content_length = "application/json", len(text)
        await response.prepare(request)
        await response.write(text[: len(text) // 2])
        self.cut(request, reset)
        return response

    async def _hang(self, request: web.Request) -> web.StreamResponse:
        await self.until_gone(request)
        return self.cut(request, False)

    async def until_gone(self, request: web.Request) -> None:
        """Wait until the client has gone away or the broker stops."""
        while not streams.gone(request):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), 0.05)
                return

    def cut(self, request: web.Request, reset: bool) -> web.Response:
        """End the connection, politely or with a reset; return what nobody will read."""
        if request.transport is not None:
            end_connection(request.transport, reset)
        return web.Response(status=500)

    def drop(self, reset: bool) -> int:
        """End every connection of a client, idle ones and streams too; return how many."""
        open_now = [each for each in self.connections if not each.is_closing()]
        for transport in open_now:
            end_connection(transport, reset)
        return len(open_now)

    async def _stream_fault(self, request: web.Request) -> web.StreamResponse | None:
        self._check_request(request, None)
        fault = self._fault(request, BEFORE)
        if fault is None:
            return None
        self._note(request, fault)
        if fault.kind == "cut_before":
            return self.cut(request, bool(fault.more.get("reset")))
        if fault.kind == "hang":
            return await self._hang(request)
        if fault.kind == "status":
            return self._failed(fault)
        await asyncio.sleep(float(fault.more.get("delay_sec", 1)))
        return None

    async def _prices(self, request: web.Request) -> web.StreamResponse:
        failed = await self._stream_fault(request)
        if failed is not None:
            return failed
        names = streams.stream_names(request)
        if names is None:
            return self._error(request, 400, "Invalid value specified for 'instruments'")
        return await streams.price_stream(self, request, names)

    async def _transactions(self, request: web.Request) -> web.StreamResponse:
        failed = await self._stream_fault(request)
        if failed is not None:
            return failed
        return await streams.transaction_stream(self, request)


def end_connection(transport: asyncio.BaseTransport, reset: bool) -> None:
    """End a connection, politely or with a reset."""
    if reset and isinstance(transport, asyncio.Transport):
        sock = transport.get_extra_info("socket")
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    else:
        transport.close()
