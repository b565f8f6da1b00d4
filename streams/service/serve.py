"""``manifold serve``: starts the parts, serves until stopped, and shuts down cleanly."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import uvicorn

from streams.config.kill_switch import KillSwitchSettings
from streams.config.oanda import Oanda
from streams.config.runtime import Runtime
from streams.config.service import METRICS_PORT, Service
from streams.config.settings import Config
from streams.config.trading import Trading
from streams.errors import Fatal
from streams.kafka.registry import open_codec
from streams.kafka.topics_admin import require_topics
from streams.mirror.series import Mirror
from streams.monitoring.sources import feed_url, limits_of, open_gatherer
from streams.monitoring.verdict import Limits
from streams.monitoring.view_start import read_start
from streams.process.clock_skew import now_ms
from streams.process.connections import Waiting
from streams.process.open_files import allow_files
from streams.records.codec import Codec
from streams.records.log_record import RecordCoordinates
from streams.service.app import make_api_app, make_socket_app
from streams.service.audit import AuditLog
from streams.service.budget import keep_budget
from streams.service.channels import Frame, status_frame
from streams.service.connections import MOST_WAITING, BoundedProtocol, protocol_with
from streams.service.facts import Change, Facts
from streams.service.follower import ViewFollower
from streams.service.history import History
from streams.service.hub import Hub
from streams.service.live import Live, Pen
from streams.service.long_runs import LongRuns
from streams.service.metrics import ServiceMetrics
from streams.service.oanda import OandaDoor
from streams.service.security import MOST_REQUESTS, App, Doorkeeper
from streams.service.status_ports import make_allocator_app, make_hydrator_app, make_metrics_app
from streams.service.websocket import WebSocketDoor, beat
from streams.trading.kill_switch.keeper import KillSwitchKeeper
from streams.trading.kill_switch.reader import KillSwitchReader

BACKLOG = 1_024
LEAVE_WITHIN_S = 5
USER_TIMEOUT_MS = 30_000
MAX_FRAME = 65_536
OTHER_FILES = 200
"""Open files besides clients: log, Valkey, broker, code."""
LEAST_WAITING = 64
ENDLESS = ("facts", "heartbeat", "long runs", "signals", "budget")
SEND_BUFFER = 131_072
"""Send buffer of a client in the kernel, in bytes; the rest waits in its queue."""

log = logging.getLogger("manifold.api")


class _Server(uvicorn.Server):
    """A server without signal handlers: several run in one process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Settings(NamedTuple):
    """All settings of the process, read and checked."""

    env: Mapping[str, str]
    runtime: Runtime
    config: Config
    service: Service
    kill: KillSwitchSettings
    oanda: Oanda
    trading: Trading
    limits: Limits

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Read all settings.

        Raises
        ------
        Fatal
            One is unusable; the message names it.
        """
        return cls(
            env,
            Runtime.from_env(env),
            Config.from_env(env),
            Service.from_env(env),
            KillSwitchSettings.from_env(env),
            Oanda.from_env(env),
            Trading.from_env(env),
            limits_of(env),
        )


async def serve_api(settings: Settings) -> None:
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
    sockets = _listen(settings.service, settings.runtime.metrics_host)
    try:
        live = await _assemble(settings)
        await _run(live, sockets, stopping)
    finally:
        for each in sockets.values():
            each.close()


async def _assemble(settings: Settings) -> Live:
    runtime, config, service = settings.runtime, settings.config, settings.service
    await asyncio.to_thread(require_topics, runtime)

    async def codec() -> Codec:
        # a codec belongs to one thread, so every decoding part has its own
        return await open_codec(runtime)

    hub, metrics, mirror = Hub(), ServiceMetrics(), Mirror(runtime)
    following = await codec()
    start = await asyncio.to_thread(read_start, runtime, following)
    reader = KillSwitchReader(runtime, await codec(), settings.kill)
    gatherer = open_gatherer(settings.env, runtime, config, await codec(), reader)

    def changed(change: Change) -> None:
        hub.publish(status_frame(now_ms(), change._asdict()))

    return Live(
        runtime=runtime,
        environment_config=config,
        settings=service,
        kill_settings=settings.kill,
        engaging=Pen(await codec()),
        clearing=Pen(await codec()),
        hub=hub,
        follower=ViewFollower(
            runtime, config, following, start, hub, max(1, min(100, service.ws_max_queue // 2))
        ),
        facts=Facts(
            reader,
            gatherer,
            settings.limits,
            service.trade_status_url,
            int(1000 * settings.trading.cycle_patience_s),
            changed,
        ),
        history=History(runtime, config, await codec()),
        mirror=mirror,
        doorkeeper=Doorkeeper(service),
        oanda=OandaDoor(settings.oanda, feed_url(settings.env, runtime)),
        metrics=metrics,
        keeper=KillSwitchKeeper(runtime, await codec(), settings.kill, metrics.kill_switch),
        audit_log=AuditLog(runtime, await codec()),
        long_runs=LongRuns(settings.env),
    )


async def _run(live: Live, sockets: dict[str, socket.socket], stopping: asyncio.Event) -> None:
    async def missed(places: Sequence[RecordCoordinates], channels: Sequence[str]) -> list[Frame]:
        limit = live.settings.ws_resume_max
        return await live.history.since(live.hub, live.view, places, channels, limit)

    door = WebSocketDoor(live.settings, live.doorkeeper, live.hub, missed)
    apps = {
        "API_PORT": make_api_app(live, door),
        "WS_PORT": make_socket_app(live, door),
        "ALLOCATOR_STATUS_PORT": make_allocator_app(live),
        "HYDRATOR_STATUS_PORT": make_hydrator_app(live),
        METRICS_PORT: make_metrics_app(live),
    }
    protocol = protocol_with(_waiting(live.settings.ws_max_clients))
    servers = {name: _server(apps[name], protocol) for name in sockets}
    await live.facts.read_kill_switch()
    parts = [
        asyncio.create_task(live.follower.run(), name="follower"),
        asyncio.create_task(live.keeper.run(), name="lease holder of the kill switch"),
        asyncio.create_task(live.facts.run(), name="facts"),
        asyncio.create_task(live.long_runs.run(), name="long runs"),
        asyncio.create_task(keep_budget(live), name="budget"),
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
            raise (
                error if error is not None else Fatal(f"{ended.get_name()} has ended unexpectedly")
            )
    finally:
        await _leave(live, list(servers.values()), [stop, *parts])


async def _leave(
    live: Live, servers: Sequence[uvicorn.Server], tasks: Sequence[asyncio.Task[object]]
) -> None:
    live.follower.stop()
    live.keeper.stop()
    for server in servers:
        server.should_exit = True
    for task in tasks:
        if task.get_name() in ENDLESS:
            task.cancel()
    _, pending = await asyncio.wait(tasks, timeout=LEAVE_WITHIN_S)
    for task in pending:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    live.history.close()
    live.audit_log.close()
    await live.facts.close()
    await live.oanda.close()
    await live.mirror.close()


def _waiting(most_clients: int) -> Waiting:
    """Return the connections without a request, as many as this process's open files allow."""
    files = allow_files()
    room = files - most_clients - MOST_REQUESTS - OTHER_FILES
    if room < LEAST_WAITING:
        log.warning(
            "this process may open %d files, too few for WS_MAX_CLIENTS=%d: raise the limit "
            "(ulimit -n, LimitNOFILE) or set fewer clients",
            files,
            most_clients,
        )
    return Waiting(max(LEAST_WAITING, min(MOST_WAITING, room)))


def _server(app: App, protocol: type[BoundedProtocol]) -> uvicorn.Server:
    return _Server(
        uvicorn.Config(
            app,  # type: ignore[arg-type]  # the same protocol in other words
            http=protocol,
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


def _listen(settings: Service, metrics_host: str) -> dict[str, socket.socket]:
    """Return a listening socket for each configured port.

    Raises
    ------
    Fatal
        A port is in use, or the address is not of this machine; the message names the setting.
    """
    found: dict[str, socket.socket] = {}
    for name, port in settings.ports.items():
        if not port:
            continue
        host = metrics_host if name == METRICS_PORT else settings.api_host
        host = "127.0.0.1" if host == "localhost" else host
        made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # the kernel drops a client that accepts no data for this long
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        try:
            made.bind((host, port))
            made.listen(BACKLOG)
        except OSError as error:
            made.close()
            for other in found.values():
                other.close()
            address = "METRICS_HOST" if name == METRICS_PORT else "API_HOST"
            what = address if error.errno == errno.EADDRNOTAVAIL else name
            raise Fatal(
                f"{what}: cannot listen on {host} port {port} ({error.strerror}); choose another"
                + (", or 0 for none" if name != "API_PORT" else "")
            ) from error
        made.setblocking(False)
        found[name] = made
    return found
