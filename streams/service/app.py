"""The REST application, and the ASGI application that is served."""

from __future__ import annotations

from fastapi import FastAPI

from streams import __version__
from streams.service import (
    routes_broker,
    routes_commands,
    routes_config,
    routes_kill_switch,
    routes_market,
    routes_orders,
    routes_page,
    routes_status,
    routes_studies,
    routes_trading,
)
from streams.service.errors import add_handlers
from streams.service.live import Live
from streams.service.security import App, Guard, Message, Receive, Scope, Send
from streams.service.websocket import WebSocketDoor

ROUTERS = (
    routes_status.router,
    routes_kill_switch.router,
    routes_market.router,
    routes_trading.router,
    routes_commands.router,
    routes_config.router,
    routes_orders.router,
    routes_broker.router,
    routes_studies.router,
    routes_page.router,
)


def make_rest() -> FastAPI:
    """Return the REST application without the parts it uses (``app.state.live``)."""
    app = FastAPI(
        title="manifold-streams",
        version=__version__,
        description="The live loop: candles to signals, gates, weights and orders.",
        docs_url=None,  # the generated pages would load scripts from other hosts
        redoc_url=None,
        openapi_url=None,
    )
    for router in ROUTERS:
        app.include_router(router)
    add_handlers(app, ROUTERS)
    return app


def make_api_app(live: Live, door: WebSocketDoor) -> App:
    """Return the application of the API port: REST, the page, and ``/ws``."""
    rest = make_rest()
    rest.state.live = live
    limit = live.settings.api_max_body_bytes
    guarded = Guard(rest, live.doorkeeper, limit, live.metrics.answered)
    return _with_socket(guarded, door, frozenset(("/ws",)))


def make_socket_app(live: Live, door: WebSocketDoor) -> App:
    """Return the application of the separate WebSocket port."""

    async def nothing(_: Scope, __: Receive, send: Send) -> None:
        body = b'{"error":"not_found"}'
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 404, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    guarded = Guard(nothing, live.doorkeeper, live.settings.api_max_body_bytes)
    return _with_socket(guarded, door, frozenset(("/ws", "/")))


def _with_socket(http: App, door: WebSocketDoor, paths: frozenset[str]) -> App:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await http(scope, receive, send)
        elif scope["path"] in paths:
            await door(scope, receive, send)
        else:
            await _no_socket(receive, send)

    return answer


async def _no_socket(receive: Receive, send: Send) -> None:
    await receive()
    message: Message = {"type": "websocket.http.response.start", "status": 404, "headers": []}
    await send(message)
    await send({"type": "websocket.http.response.body", "body": b""})
