"""``manifold serve``: starts the parts, serves until told to stop, and leaves cleanly."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import socket
from collections.abc import Iterator, Sequence

import uvicorn

from streams.admin import require_topics
from streams.api.app import make_app, make_socket_app
from streams.api.channels import Frame, Place
from streams.api.facts import Facts
from streams.api.follower import LogFollower
from streams.api.history import History
from streams.api.hub import Hub
from streams.api.live import Live
from streams.api.mirrored import Mirror
from streams.api.security import App, Doorkeeper
from streams.api.settings import Service
from streams.api.tail import read_start
from streams.api.websocket import WebSocketDoor, beat
from streams.errors import Fatal
from streams.kill_switch.reader import KillSwitchReader
from streams.kill_switch.settings import KillSwitchSettings
from streams.registry import open_codec
from streams.settings import Config, Runtime

BACKLOG = 1_024
LEAVE_WITHIN_S = 5
USER_TIMEOUT_MS = 30_000
MAX_FRAME = 65_536

log = logging.getLogger("manifold.api")


class _Server(uvicorn.Server):
    """A server that leaves signals to us: there are several in one process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(
    runtime: Runtime, config: Config, settings: Service, kill: KillSwitchSettings
) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises
    ------
    Fatal
        A port is in use, topics are missing, or a login is refused.
    Recoverable
        The broker or the registry cannot be reached at the start.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    sockets = _listen(settings)
    try:
        live = await _assemble(runtime, config, settings, kill)
        await _run(live, sockets, stopping)
    finally:
        for each in sockets.values():
            each.close()


async def _assemble(
    runtime: Runtime, config: Config, settings: Service, kill: KillSwitchSettings
) -> Live:
    await asyncio.to_thread(require_topics, runtime)
    # a codec is for one thread: one follows, one reads back, one writes, one reads the kill switch
    codecs = [await open_codec(runtime) for _ in range(4)]
    start = await asyncio.to_thread(read_start, runtime, codecs[0])
    hub = Hub()
    history = History(runtime, config, codecs[1])
    reader = KillSwitchReader(runtime, codecs[3], kill)
    return Live(
        runtime=runtime,
        environment_config=config,
        settings=settings,
        codec=codecs[2],
        hub=hub,
        follower=LogFollower(runtime, config, codecs[0], start, hub),
        facts=Facts(runtime, reader, history, settings.trade_status_url),
        history=history,
        mirror=Mirror(runtime),
        doorkeeper=Doorkeeper(settings),
    )


async def _run(live: Live, sockets: dict[str, socket.socket], stopping: asyncio.Event) -> None:
    async def missed(places: Sequence[Place], channels: Sequence[str]) -> list[Frame]:
        limit = live.settings.ws_resume_max
        return await live.history.since(live.hub, live.view, places, channels, limit)

    door = WebSocketDoor(live.settings, live.doorkeeper, live.hub, missed)
    apps = {"API_PORT": make_app(live, door), "WS_PORT": make_socket_app(live, door)}
    servers = {name: _server(apps[name]) for name in sockets if name in apps}
    await live.facts.read_kill_switch()
    parts = [
        asyncio.create_task(live.follower.run(), name="follower"),
        asyncio.create_task(live.facts.run(), name="facts"),
        asyncio.create_task(beat(live.hub, live.settings.ws_heartbeat_sec), name="heartbeat"),
        *(
            asyncio.create_task(server.serve(sockets=[sockets[name]]), name=name)
            for name, server in servers.items()
        ),
    ]
    stop = asyncio.create_task(stopping.wait(), name="signals")
    said = ", ".join(f"{name} {port}" for name, port in live.settings.ports.items() if port)
    log.info("serving on %s: %s", live.settings.api_host, said)
    try:
        await asyncio.wait([stop, *parts], return_when=asyncio.FIRST_COMPLETED)
        ended = next((part for part in parts if part.done()), None)
        if ended is not None and not stopping.is_set():
            error = ended.exception()
            raise error if error is not None else Fatal(f"{ended.get_name()} has ended by itself")
    finally:
        await _leave(live, list(servers.values()), [stop, *parts])


async def _leave(
    live: Live, servers: Sequence[uvicorn.Server], tasks: Sequence[asyncio.Task[object]]
) -> None:
    live.follower.stop()
    for server in servers:
        server.should_exit = True
    _, pending = await asyncio.wait(tasks, timeout=LEAVE_WITHIN_S)
    for task in pending:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    live.history.close()
    await live.mirror.close()


def _server(app: App) -> uvicorn.Server:
    return _Server(
        uvicorn.Config(
            app,  # type: ignore[arg-type]  # the same protocol in other words
            ws="websockets-sansio",
            ws_per_message_deflate=False,
            ws_max_size=MAX_FRAME,
            lifespan="off",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            log_config=None,
            timeout_graceful_shutdown=LEAVE_WITHIN_S - 2,
            timeout_keep_alive=30,
            h11_max_incomplete_event_size=32_768,
        )
    )


def _listen(settings: Service) -> dict[str, socket.socket]:
    """Return a listening socket for each port that is on.

    Raises
    ------
    Fatal
        A port is in use, or the address is none of this machine's; names the setting.
    """
    found: dict[str, socket.socket] = {}
    host = "127.0.0.1" if settings.api_host == "localhost" else settings.api_host
    for name, port in settings.ports.items():
        if not port:
            continue
        made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # what a client does not take for so long is given up by the kernel
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            made.bind((host, port))
            made.listen(BACKLOG)
        except OSError as error:
            made.close()
            for other in found.values():
                other.close()
            what = "API_HOST" if error.errno == errno.EADDRNOTAVAIL else name
            raise Fatal(
                f"{what}: cannot listen on {host} port {port} ({error.strerror}); choose another"
                + (", or 0 for none" if name != "API_PORT" else "")
            ) from error
        made.setblocking(False)
        found[name] = made
    return found
