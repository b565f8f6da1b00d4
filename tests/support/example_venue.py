"""The HTTP service that ``examples/add_venue.py`` trades at: one account, filled at once."""

from __future__ import annotations

import asyncio
import threading
import time
from decimal import Decimal
from typing import Any

from aiohttp import web

PRICES = {"EUR_USD": (1.1000, 1.1001), "GBP_USD": (1.2700, 1.2702), "USD_JPY": (148.00, 148.02)}
BALANCE = 100_000.0


class VenueService:
    """An account in US dollars, served from a thread; ``trades`` and ``booked`` are its state."""

    def __init__(self, port: int) -> None:
        self.port, self.url = port, f"http://127.0.0.1:{port}"
        self.trades: list[dict[str, Any]] = []
        self.booked: list[dict[str, Any]] = []
        self.results: dict[str, dict[str, Any]] = {}
        self.submitted: list[str] = []
        self._ready, self._loop = threading.Event(), asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def start(self) -> VenueService:
        """Serve; return itself."""
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def stop(self) -> None:
        """End the service."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)

    def _serve(self) -> None:
        app = web.Application()
        app.router.add_get("/account", self._account)
        app.router.add_get("/prices", self._prices)
        app.router.add_get("/rates", self._rates)
        app.router.add_get("/trades", self._trades)
        app.router.add_get("/transactions", self._transactions)
        app.router.add_get("/orders", self._lookup)
        app.router.add_post("/orders", self._order)
        app.router.add_post("/levels", self._levels)
        runner = web.AppRunner(app)
        self._loop.run_until_complete(runner.setup())
        site = web.TCPSite(runner, "127.0.0.1", self.port)
        self._loop.run_until_complete(site.start())
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())

    async def _account(self, _: web.Request) -> web.Response:
        used = sum(abs(float(one["units"])) * 1.1 * 0.02 for one in self.trades)
        money = {"currency": "USD", "balance": BALANCE, "nav": BALANCE, "margin_used": used}
        money |= {"margin_available": BALANCE - used, "unrealized_pl": 0.0}
        return web.json_response(money | {"last_transaction_id": str(len(self.booked))})

    async def _prices(self, _: web.Request) -> web.Response:
        return web.json_response(PRICES)

    async def _rates(self, _: web.Request) -> web.Response:
        return web.json_response({"USD": 1.0, "EUR": 1.1, "GBP": 1.27})

    async def _trades(self, _: web.Request) -> web.Response:
        return web.json_response(self.trades)

    async def _transactions(self, request: web.Request) -> web.Response:
        since = int(request.query["since"] or 0)
        return web.json_response([one for one in self.booked if int(one["transaction_id"]) > since])

    async def _lookup(self, request: web.Request) -> web.Response:
        return web.json_response(self.results.get(request.query["client_id"]))

    async def _levels(self, request: web.Request) -> web.Response:
        wanted = await request.json()
        for one in self.trades:
            if one["trade_id"] == wanted["trade_id"]:
                for name in ("stop_loss", "take_profit"):
                    one[name] = wanted[name] if wanted[name] is not None else one[name]
        return web.json_response({})

    async def _order(self, request: web.Request) -> web.Response:
        order = await request.json()
        client_id, name = order["client_id"], order["instrument"]
        self.submitted.append(client_id)
        units = Decimal(order["units"])
        price = PRICES[name][1 if units > 0 else 0]
        number, now_ms = str(len(self.booked) + 1), int(time.time() * 1000)
        mine = [one for one in self.trades if one["instrument"] == name]
        if order["reduce_only"]:
            assert sum(Decimal(one["units"]) for one in mine) == -units, "closed as a whole"
            touched = [one["trade_id"] for one in mine]
            self.trades = [one for one in self.trades if one["instrument"] != name]
        else:
            touched = [number]
            opened = {"trade_id": number, "instrument": name, "units": str(units), "price": price}
            opened |= {"opened_ms": now_ms, "client_id": client_id, "unrealized_pl": 0.0}
            levels = {"stop_loss": order["stop_loss"], "take_profit": order["take_profit"]}
            self.trades.append(opened | levels)
        filled = {"client_id": client_id, "time_ms": now_ms, "units": str(units), "price": price}
        filled |= {"realized_pl": 0.0, "trade_ids": touched, "transaction_id": number}
        more = {"kind": "fill", "cause": "order", "instrument": name}
        self.booked.append(filled | more)
        self.results[client_id] = filled | {"outcome": "filled", "broker_ids": [number]}
        return web.json_response(self.results[client_id])
