"""A server of the page that speaks the service's contract with seeded test data and faults.

The page's tests need states that a real deployment is in for a moment only (a reset, a cut
connection, 28 instruments with all their reasons). It runs in a thread; ``manifold serve`` itself
is tested with the page as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import math
import random
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web

PAGE = Path(__file__).resolve().parents[2] / "streams" / "service" / "page"
CSP = (
    "default-src 'self'; base-uri 'none'; object-src 'none'; frame-ancestors 'none'; "
    "form-action 'none'"
)
TOKEN = "test-token-0123456789"
MINUTE_MS = 60_000
CURRENCIES = ("EUR", "GBP", "AUD", "NZD", "USD", "CAD", "CHF", "JPY")
PAIRS = tuple(sorted(f"{a}_{b}" for at, a in enumerate(CURRENCIES) for b in CURRENCIES[at + 1 :]))

Json = dict[str, Any]


def now_ms() -> int:
    return int(time.time() * 1000)


def last_bar(now: int) -> int:
    return now - now % MINUTE_MS


REASONS: tuple[tuple[str, float | None, float | None, str], ...] = (
    ("coherence_below_min", 0.4731, 0.55, "coherence is 0.4731 and must rise to 0.55"),
    ("entropy_above_max", 0.8412, 0.7, "entropy is 0.8412 and must fall to 0.7"),
    ("repetitions_short", 1.0, 3.0, "count_1h is 1 and must rise to 3"),
    ("session_closed", None, None, "no session of the pair's two currencies is open"),
    ("hysteresis_wait", 1.0, 2.0, "the latch is closed: two consecutive passes open it"),
    ("calmar_below_floor", -0.214, 0.1, "calmar below its upper band in the last evaluation"),
    ("trades_below_floor", 3.0, 12.0, "fewer trades than the floor in the last evaluation"),
    ("cooldown", None, None, "in cooldown after four consecutive misses"),
)


def gate(random_: random.Random, as_of_ms: int, reasons: int) -> Json:
    """Return a gate decision with that many reasons."""
    chosen = random_.sample(REASONS, reasons)
    return {
        "as_of_ms": as_of_ms,
        "eligible": not reasons,
        "reasons": [
            {
                "reason": name,
                "value": value,
                "limit": limit,
                "next_change_ms": as_of_ms + 3_600_000 if name == "session_closed" else None,
                "text": text,
            }
            for name, value, limit, text in chosen
        ],
        "direction": random_.choice((-1, 0, 1)),
        "position": random_.choice((-1, 0, 1)),
        "cooldown_until_ms": None,
        "next_change_ms": as_of_ms + 3_600_000 if reasons else None,
        "score": None if reasons else random_.uniform(0.2, 0.7),
        "session_open": True,
        "near_close": False,
    }


def figures(random_: random.Random, as_of_ms: int) -> Json:
    """Return the figures of a manifold."""
    rupture = random_.uniform(0.08, 0.19)
    return {
        "as_of_ms": as_of_ms,
        "coherence": random_.uniform(0.4, 0.58),
        "stability": 1 - rupture,
        "entropy": random_.uniform(0.78, 0.9),
        "rupture": rupture,
        "lambda_hazard": rupture,
        "sigma_eff": random_.uniform(0.9e-4, 1.4e-4),
        "lambda": rupture * 0.25,
        "count_1h": random_.randint(1, 5),
        "signature": "c0.47_s0.87_e0.84",
    }


def price_of(pair: str) -> float:
    return 151.234 if pair.endswith("JPY") else 1.08123


def instrument(random_: random.Random, pair: str, as_of_ms: int, now: int) -> Json:
    """Return everything of one instrument."""
    mid = price_of(pair)
    return {
        "instrument": pair,
        "candle": {
            "as_of_ms": as_of_ms,
            "age_ms": now - as_of_ms,
            "mid": mid,
            "bid": mid * 0.99995,
            "ask": mid * 1.00005,
            "spread_bps": 1.0,
        },
        "manifold": figures(random_, as_of_ms),
        "gate": gate(random_, as_of_ms, random_.choice((0, 1, 2, 3, 5, 8))),
        "weight": None,
        "target_exposure_pct": None,
        "position": None,
    }


def order(number: int, pair: str, as_of_ms: int, status: str, *, refused: str = "") -> Json:
    """Return an order; with ``refused``, one that this guard did not let through."""
    names = ("kill_switch", "session", "freshness", "gate", "metrics", "spread", "margin", "limits")
    return {
        "order_id": f"{pair}-{number}",
        "instrument": pair,
        "side": "buy" if number % 2 else "sell",
        "units": 1000.0 + number,
        "kind": "open",
        "as_of_ms": as_of_ms,
        "submitted": not refused,
        "status": status,
        "price": 1.08125 if status == "filled" else None,
        "reason": "MARKET_HALTED" if status == "rejected" else None,
        "guards": [
            {
                "guard": name,
                "passed": name != refused,
                "detail": "spread 3.1 bps is above 2" if name == refused else "",
            }
            for name in names
        ],
    }


SIGNALS = (
    ("manifold_stale", "every manifold is younger than 300 s"),
    ("gates_blob_stale", "the gates are of the last minute"),
    ("allocator_stale", "the allocator closed an epoch 41 s ago"),
    ("weights_zeroed", "three instruments have a weight"),
    ("kill_switch_long", "the kill switch is off"),
    ("order_rejections", "no rejection in the last hour"),
    ("feed_silent", "the last price came 0.4 s ago"),
    ("clock_skew", "clocks differ by 12 ms"),
)


def state(seed: int = 7, pairs: tuple[str, ...] = PAIRS) -> Json:
    """Return a calm state: market open, switch off, paper venue, all fresh."""
    random_ = random.Random(seed)
    now = now_ms()
    bar = last_bar(now)
    instruments = [instrument(random_, pair, bar, now) for pair in pairs]
    chosen = [one for one in instruments if one["gate"]["eligible"]][:3]
    for one, weight in zip(chosen, (0.5, 0.3, 0.2), strict=False):
        one["weight"], one["target_exposure_pct"] = weight, weight * 0.3
    held = {
        "instrument": chosen[0]["instrument"] if chosen else "EUR_USD",
        "units": -1200.0,
        "average_price": 1.0815,
        "unrealized_pl": -3.21,
    }
    if chosen:
        chosen[0]["position"] = {k: v for k, v in held.items() if k != "instrument"}
    return {
        "ts_ms": now,
        "granularity": "M1",
        "market": {
            "calendar": "fx",
            "open": True,
            "closed_for": "",
            "next_change_ms": now + 7_500_000,
            "newest_as_of_ms": bar,
        },
        "kill_switch": {
            "engaged": False,
            "why": [],
            "since_ms": now - 5_400_000,
            "actor": "ops",
            "reason": "checks passed",
        },
        "trading": {
            "executor": "running",
            "ts_ms": now,
            "venue": "paper",
            "account_id": "paper-1",
            "mode": "paper",
            "read_only": False,
            "dry_run": False,
            "kill_switch": {"engaged": False, "why": []},
            "account": {
                "currency": "USD",
                "balance": 10_000.0,
                "nav": 9_996.79,
                "margin_used": 43.2,
                "margin_available": 9_953.59,
                "unrealized_pl": -3.21,
            },
            "positions": [held] if chosen else [],
            "joined": {
                one["instrument"]: {"direction": -1, "entry_bar_ms": bar - 600_000}
                for one in chosen[:1]
            },
            "last_cycle_ms": now - 1_000,
            "reconciled": True,
            "differences": [],
            "by_hand": {},
            "paused": {},
            "blocked": {"GBP_USD": ["spread 3.1 bps is above MAX_SPREAD_BPS 2"]},
            "last_transaction_id": "4711",
        },
        "signals": [
            {"name": n, "state": "ok", "detail": d, "since_ms": now - 900_000, "action": ""}
            for n, d in SIGNALS
        ],
        "instruments": instruments,
        "weights": {
            "epoch_ms": bar,
            "action": "published",
            "reason": "",
            "held_since_ms": None,
            "top_k": 3,
            "entries": [
                {
                    "instrument": one["instrument"],
                    "score": one["gate"]["score"],
                    "weight": one["weight"],
                    "target_exposure_pct": one["target_exposure_pct"],
                }
                for one in chosen
            ],
        },
        "orders": [
            order(4, "EUR_USD", bar, "filled"),
            order(3, "GBP_USD", bar - 60_000, "not_sent", refused="spread"),
            order(2, "AUD_JPY", bar - 120_000, "rejected"),
            order(1, "EUR_USD", bar - 180_000, "unknown"),
        ],
        "lag": {"signals": 0, "gates": 3, "weights": 0, "mirror": 12},
        "versions": {"manifold": "0.1.0", "engine": "qfh-2.0.0", "config_id": "cfg-5f2a91c0"},
    }


def empty() -> Json:
    """Return the state of a deployment that has nothing yet, null wherever null may be."""
    return {
        "ts_ms": now_ms(),
        "market": {
            "calendar": "fx",
            "open": True,
            "closed_for": "",
            "next_change_ms": None,
            "newest_as_of_ms": None,
        },
        "kill_switch": {
            "engaged": True,
            "why": ["no kill switch record in ops.control"],
            "since_ms": None,
            "actor": None,
            "reason": None,
        },
        "trading": {"executor": "absent"},
        "signals": [],
        "instruments": [],
        "weights": None,
        "orders": [],
        "lag": {"signals": None, "gates": None, "weights": None, "mirror": None},
        "versions": {"manifold": "0.1.0", "engine": None, "config_id": None},
    }


def history(pair: str, limit: int) -> Json:
    """Return bars with a gap in them."""
    bar, items = last_bar(now_ms()), []
    for at in range(min(limit, 240)):
        back = (min(limit, 240) - 1 - at) * MINUTE_MS
        one = figures(random.Random(at), bar - back - (7_200_000 if at < 40 else 0))
        one["coherence"] = 0.48 + 0.06 * math.sin(at / 17) + 0.01 * math.sin(at * 1.7)
        one["entropy"] = 0.84 - 0.05 * math.sin(at / 23)
        one["price"] = price_of(pair) * (1 + 0.002 * math.sin(at / 31) + 0.0004 * math.sin(at / 3))
        del one["signature"]
        items.append(one)
    return {"instrument": pair, "items": items}


class PageServer:
    """Serves the page and the contract from a thread of its own.

    Attributes
    ----------
    state
        What ``/api/global-status`` answers with a fresh ``ts_ms``.
    asked
        Method and path of every request.
    bodies
        Headers and bodies of the calls that change something.
    messages
        What clients said over the WebSocket.
    silent
        Takes WebSocket messages and answers none (a connection that is dead and looks alive).
    resumable
        Whether missed events can be told; a reset is sent otherwise.
    refuse
        Status and sentence that ``/api/global-status`` answers instead.
    locked
        Reading needs the token too.
    answer_to_kill
        What a change of the kill switch is answered with; what was wanted when None.
    ahead_ms
        How far this server's clock is ahead of the browser's.
    """

    def __init__(self, initial: Json | None = None) -> None:
        self.state = state() if initial is None else initial
        self.asked: list[str] = []
        self.commands: list[tuple[str, Json]] = []
        self.bodies: list[tuple[dict[str, str], Json]] = []
        self.messages: list[Json] = []
        self.silent = self.locked = False
        self.resumable = True
        self.refuse: tuple[int, str] | None = None
        self.answer_to_kill: Json | None = None
        self.port = self.ahead_ms = 0
        self._events: list[Json] = []
        self._sockets: set[web.WebSocketResponse] = set()
        self._loop = asyncio.new_event_loop()
        self._runner: web.AppRunner | None = None
        self._thread: threading.Thread | None = None

    # -- the test's side ---------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Listen; on the same port as before when it was started before."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._call(self._listen)

    def stop(self) -> None:
        """Stop listening and cut every connection; nothing is answered from then on."""
        if self._thread is None:
            return
        self._call(self._close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        self._thread = None

    def emit(self, type_: str, channel: str, data: Json, pair: str | None = None) -> None:
        """Tell every subscriber of an event, and keep it for who comes back."""
        frame = self.missed(type_, channel, data, pair)
        self._call(lambda: self._tell(frame))

    def missed(self, type_: str, channel: str, data: Json, pair: str | None = None) -> Json:
        """Keep an event that nobody is told of now."""
        frame: Json = {"type": type_, "channel": channel, "ts_ms": now_ms(), "data": data}
        frame["id"] = None if type_ == "status" else f"test.{channel}-0-{len(self._events)}"
        if pair is not None:
            frame["instrument"] = pair
        self._events.append(frame)
        return frame

    def say(self, message: Json) -> None:
        """Send any other frame to every client."""
        self._call(lambda: self._tell(message))

    def cut(self) -> None:
        """Cut every WebSocket; new ones are welcome."""

        async def close() -> None:
            for socket in list(self._sockets):
                await socket.close()

        self._call(close)

    def _now(self) -> int:
        return now_ms() + self.ahead_ms

    def _call(self, make: Callable[[], Coroutine[Any, Any, None]]) -> None:
        asyncio.run_coroutine_threadsafe(make(), self._loop).result(15)

    # -- the page's side ---------------------------------------------------------------------

    async def _listen(self) -> None:
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/", self._index)
        app.router.add_static("/page/", PAGE)
        app.router.add_get("/api/global-status", self._status)
        app.router.add_get("/api/manifold/history", self._history)
        app.router.add_get("/api/why", self._why)
        app.router.add_post("/api/kill-switch", self._kill)
        app.router.add_post("/api/trade/{command:.*}", self._command)
        app.router.add_get("/ws", self._socket)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _close(self) -> None:
        for socket in list(self._sockets):
            await socket.close()
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path_qs}")
        given = request.headers.get("Authorization") == f"Bearer {TOKEN}"
        if not given and (
            request.method == "POST" or (self.locked and request.path.startswith("/api/"))
        ):
            problem = {"error": "token_required", "detail": "this call needs the token"}
            return web.json_response(problem, status=401)
        answer: web.StreamResponse = await handler(request)
        if request.path != "/ws":
            answer.headers["Content-Security-Policy"] = CSP
        return answer

    async def _index(self, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(PAGE / "index.html")

    async def _status(self, request: web.Request) -> web.StreamResponse:
        if self.refuse is not None:
            status, detail = self.refuse
            return web.json_response({"error": "refused", "detail": detail}, status=status)
        return web.json_response({**self.state, "ts_ms": self._now()})

    async def _history(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(history(request.query["instrument"], int(request.query["limit"])))

    async def _why(self, request: web.Request) -> web.StreamResponse:
        pair = request.query["instrument"]
        one = next((i for i in self.state["instruments"] if i["instrument"] == pair), None)
        if one is None:
            return web.json_response({"error": "not_found", "detail": f"no {pair}"}, status=404)
        gate_ = one["gate"] or {"eligible": None, "reasons": []}
        steps = [
            {"step": "candle", "ok": True, "detail": "the last candle ended 12 s ago"},
            {"step": "signal", "ok": True, "detail": "signal c0.47_s0.87_e0.84 of that bar"},
            {
                "step": "gate",
                "ok": gate_["eligible"],
                "detail": "; ".join(r["text"] for r in gate_["reasons"]) or "eligible",
            },
            {"step": "weight", "ok": bool(one["weight"]), "detail": "not among the best 3"},
            {"step": "kill_switch", "ok": True, "detail": "off"},
            {"step": "executor", "ok": None, "detail": "not asked: there is no weight"},
        ]
        for step in steps:
            step["change"] = "" if step["ok"] else "look at `manifold why`"
        stops = next(step["step"] for step in steps if step["ok"] is not True)
        return web.json_response(
            {
                "instrument": pair,
                "ts_ms": now_ms(),
                "trading": False,
                "stops_at": stops,
                "summary": f"{pair} stops at {stops}",
                "steps": steps,
            }
        )

    async def _kill(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append((dict(request.headers), body))
        if self.answer_to_kill is not None:
            return web.json_response(self.answer_to_kill)
        self.state = copy.deepcopy(self.state)
        self.state["kill_switch"] = {
            "engaged": body["kill_switch"],
            "why": ["the log says so"] if body["kill_switch"] else [],
            "since_ms": now_ms(),
            "actor": body.get("actor", "api"),
            "reason": body["reason"],
        }
        await self._tell(
            {
                "type": "control",
                "channel": "system",
                "id": f"ops.control-0-{len(self.bodies)}",
                "ts_ms": now_ms(),
                "data": {"kind": "kill_switch", "value": {"engaged": body["kill_switch"]}},
            }
        )
        return web.json_response({"kill_switch": body["kill_switch"]})

    async def _command(self, request: web.Request) -> web.StreamResponse:
        """Take a command about an instrument; a pause and its end are done at once."""
        body = await request.json()
        command, name = request.match_info["command"], body.get("instrument")
        self.commands.append((command, body))
        self.state = copy.deepcopy(self.state)
        paused = self.state["trading"]["paused"]
        if command == "pause":
            given = {"actor": body.get("actor", "api"), "reason": body["reason"]}
            paused[name] = given | {"at_ms": now_ms()}
        elif command == "resume":
            paused.pop(name, None)
        return web.json_response({"offset": len(self.commands), "detail": "in the log"})

    async def _tell(self, frame: Json) -> None:
        text = json.dumps(frame)
        for socket in list(self._sockets):
            if not socket.closed:
                await socket.send_str(text)

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._sockets.add(socket)
        with contextlib.suppress(ConnectionResetError):  # the client may go at any time
            await self._talk(socket)
        self._sockets.discard(socket)
        return socket

    async def _talk(self, socket: web.WebSocketResponse) -> None:
        if not self.silent:
            await socket.send_json(
                {
                    "type": "connection",
                    "available_channels": ["market", "manifold", "gates", "weights", "orders"],
                    "heartbeat_sec": 15.0,
                    "token_required": self.locked,
                    "version": "0.1.0",
                }
            )
        async for message in socket:
            if message.type is WSMsgType.TEXT and not self.silent:
                await self._answer(socket, json.loads(message.data))

    async def _answer(self, socket: web.WebSocketResponse, said: Json) -> None:
        self.messages.append(said)
        if said["type"] == "ping":
            await socket.send_json({"type": "pong", "ts_ms": self._now()})
        elif said["type"] == "token":
            if said["token"] == TOKEN:
                await socket.send_json({"type": "authenticated"})
            else:
                await socket.close(code=1008, message=b"the token is wrong")
        elif said["type"] == "subscribe":
            await self._subscribe(socket, said)

    async def _subscribe(self, socket: web.WebSocketResponse, said: Json) -> None:
        last = said.get("last_event_id")
        ids = [frame["id"] for frame in self._events]
        missed = self._events[ids.index(last) + 1 :] if last in ids else []
        resumed = len(missed) if last in ids and self.resumable else None
        await socket.send_json(
            {
                "type": "subscription",
                "channels": said["channels"],
                "instruments": None,
                "resumed": resumed,
            }
        )
        if last is not None and resumed is None:
            await socket.send_json({"type": "reset", "detail": "reload the state"})
        elif resumed:
            for frame in missed:
                await socket.send_json(frame)


if __name__ == "__main__":  # look at the page by hand
    server = PageServer()
    server.port = 8765
    server.start()
    print(server.url)
    threading.Event().wait()
