"""What a test does to the broker, beside the API: ``/control/...`` on the same port, no token.

==========================  =====================================================================
GET  /control/state         time, accounts (transactions, positions, orders by client id and how
                            often each id was submitted, accepted, filled, rejected), streams
GET  /control/requests      every request of a client: method, path, query, headers (without the
                            value of Authorization), body, time, status, connection
GET  /control/violations    requests and responses that break OANDA's own API description
GET  /control/faults        the faults that are set, and how often each struck
POST /control/faults        set one (``faults``); the answer has its id
DELETE /control/faults      all away; ``/control/faults/{id}``: one
POST /control/clock         {"advance_sec": 60} or {"to": time} or {"speed": 10}
POST /control/prices        {"instrument", "bid", "ask", "hold": true}: a tick now; held, the market
                            makes none of its own; {"instrument", "release": true} ends that
POST /control/halt          {"instruments": [...], "halted": true}; the price streams say so
POST /control/delist        {"instruments": [...], "delisted": true}: the account cannot trade them
                            any more; what is open stays, and can be closed
POST /control/cancel        {"order": id, "reason": "..."}: the broker itself ends a pending order
POST /control/transfer      {"amount": "-15000"}: money into the first account, or out of it
POST /control/token         {"token": "..."}: from now on that one, and no other, is accepted
POST /control/drop          end every connection there is now; {"reset": true} with RST
POST /control/reset         forget requests and violations
==========================  =====================================================================
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.support.v20.account import Account
from tests.support.v20.amounts import number, parse_time, rfc3339, units_text
from tests.support.v20.instruments import INSTRUMENTS
from tests.support.v20.views import summary_json

if TYPE_CHECKING:
    from tests.support.v20.broker import Broker

Json = dict[str, Any]


def add_routes(app: web.Application, broker: Broker) -> None:
    """Add the control paths."""

    async def state(request: web.Request) -> web.Response:
        broker.exchange.pump()
        return web.json_response(broker_state(broker))

    async def requests(request: web.Request) -> web.Response:
        return web.json_response(broker.requests)

    async def violations(request: web.Request) -> web.Response:
        return web.json_response(broker.violations)

    async def list_faults(request: web.Request) -> web.Response:
        return web.json_response([fault.as_json() for fault in broker.faults.faults])

    async def add_fault(request: web.Request) -> web.Response:
        fault = broker.faults.add(await request.json())
        return web.json_response(fault.as_json(), status=201)

    async def clear_faults(request: web.Request) -> web.Response:
        number_text = request.match_info.get("number")
        broker.faults.clear(int(number_text) if number_text else None)
        return web.json_response({})

    async def clock(request: web.Request) -> web.Response:
        move_clock(broker, await request.json())
        return web.json_response({"time": rfc3339(broker.exchange.now_ns())})

    async def prices(request: web.Request) -> web.Response:
        return web.json_response(place_price(broker, await request.json()))

    async def halt(request: web.Request) -> web.Response:
        body = await request.json()
        names = set(body.get("instruments") or INSTRUMENTS)
        halted = broker.exchange.market.halted
        halted |= names
        if not body.get("halted", True):
            halted -= names
        broker.exchange.repeat_prices(names)
        return web.json_response({"halted": sorted(halted)})

    async def delist(request: web.Request) -> web.Response:
        body = await request.json()
        names, delisted = set(body["instruments"]), broker.exchange.delisted
        delisted |= names
        if not body.get("delisted", True):
            delisted -= names
        return web.json_response({"delisted": sorted(delisted)})

    async def cancel(request: web.Request) -> web.Response:
        body = await request.json()
        broker.exchange.end_order(str(body["order"]), str(body["reason"]))
        return web.json_response({})

    async def transfer(request: web.Request) -> web.Response:
        account = next(iter(broker.exchange.accounts.values()))
        broker.exchange.transfer(account, Decimal(str((await request.json())["amount"])))
        return web.json_response({})

    async def token(request: web.Request) -> web.Response:
        broker.token = str((await request.json())["token"])
        return web.json_response({})

    async def drop(request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else {}
        return web.json_response({"dropped": broker.drop(bool(body.get("reset")))})

    async def reset(request: web.Request) -> web.Response:
        broker.requests.clear()
        broker.violations.clear()
        return web.json_response({})

    app.router.add_get("/control/state", state)
    app.router.add_get("/control/requests", requests)
    app.router.add_get("/control/violations", violations)
    app.router.add_get("/control/faults", list_faults)
    app.router.add_post("/control/faults", add_fault)
    app.router.add_delete("/control/faults", clear_faults)
    app.router.add_delete("/control/faults/{number}", clear_faults)
    app.router.add_post("/control/clock", clock)
    app.router.add_post("/control/prices", prices)
    app.router.add_post("/control/halt", halt)
    app.router.add_post("/control/delist", delist)
    app.router.add_post("/control/cancel", cancel)
    app.router.add_post("/control/transfer", transfer)
    app.router.add_post("/control/token", token)
    app.router.add_post("/control/drop", drop)
    app.router.add_post("/control/reset", reset)


def move_clock(broker: Broker, body: Json) -> None:
    """Move the clock as a test asks."""
    exchange = broker.exchange
    if "speed" in body:
        exchange.clock.set_speed(float(body["speed"]))
    if "advance_sec" in body:
        exchange.advance(int(float(body["advance_sec"]) * 1_000_000_000))
    if "to" in body:
        exchange.advance(parse_time(str(body["to"])) - exchange.now_ns())


def place_price(broker: Broker, body: Json) -> Json:
    """Place a price by hand, or let the market go on."""
    instrument = INSTRUMENTS.get(str(body.get("instrument")))
    if instrument is None:
        raise ValueError(f"unknown instrument {body.get('instrument')!r}")
    if body.get("release"):
        broker.exchange.release(instrument.name)
        return {}
    sides: list[int] = []
    for name in ("bid", "ask"):
        price = number(body.get(name))
        if price is None:
            raise ValueError(f"{name} must be a price")
        sides.append(instrument.points(price))
    if sides[0] > sides[1]:
        raise ValueError("the bid must not be above the ask")
    tick = broker.exchange.place(instrument.name, sides[0], sides[1], bool(body.get("hold", True)))
    return {"time": rfc3339(tick.time_ms * 1_000_000)}


def broker_state(broker: Broker) -> Json:
    """Return everything a test needs to know of the broker."""
    exchange = broker.exchange
    accounts = {}
    for account in exchange.accounts.values():
        positions = {n: account.units(n) for n in account.sides}
        accounts[account.id] = {
            "summary": summary_json(account, exchange.quotes),
            "positions": {n: units_text(u) for n, u in positions.items() if u},
            "pending": list(account.pending.values()),
            "openTrades": [t.id for t in account.open.values()],
            "clientOrders": client_orders(account),
            "transactions": account.transactions,
        }
    return {
        "time": rfc3339(exchange.now_ns()),
        "accounts": accounts,
        "streams": {
            "pricing": len(exchange.price_listeners),
            "transactions": len(exchange.transaction_listeners),
        },
        "validated": broker.contract is not None,
    }


def client_orders(account: Account) -> Json:
    """Return by client order id how often it came and what became of it."""
    found: dict[str, Json] = {}

    def of(client_id: str) -> Json:
        return found.setdefault(
            client_id,
            {
                "submitted": 0,
                "accepted": 0,
                "rejected": 0,
                "filled": 0,
                "cancelled": 0,
                "units": "0",
                "orders": [],
            },
        )

    for transaction in account.transactions:
        kind = transaction["type"]
        named = transaction.get("clientExtensions", {}).get("id")
        if kind.endswith(("_ORDER", "_ORDER_REJECT")) and named:
            entry = of(named)
            entry["submitted"] += 1
            entry["rejected" if kind.endswith("_REJECT") else "accepted"] += 1
            if not kind.endswith("_REJECT"):
                entry["orders"].append(transaction["id"])
        named = transaction.get("clientOrderID")
        if kind == "ORDER_FILL" and named:
            entry = of(named)
            entry["filled"] += 1
            entry["units"] = units_text(Decimal(entry["units"]) + Decimal(transaction["units"]))
        elif kind == "ORDER_CANCEL" and named:
            of(named)["cancelled"] += 1
    return found
