"""Connections in memory between the processes of one `VirtualLoop`.

A `Process` is what ``kill -9`` ends: its tasks, its connections, and whatever it would have done
next. What it had already sent still arrives.
"""

from __future__ import annotations

import asyncio
import contextvars
import socket
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from tests.support.virtual_time import VirtualLoop

Factory = Callable[[], asyncio.Protocol]

HOST = "127.0.0.1"
CURRENT: contextvars.ContextVar[Process] = contextvars.ContextVar("process")


class Process:
    """Tasks and connections that end together.

    Attributes
    ----------
    dead
        Whether it was killed: nothing that it does from then on has an effect.
    """

    def __init__(self, name: str) -> None:
        self.name, self.dead = name, False
        self.tasks: dict[asyncio.Task[Any], None] = {}  # in order: a set's is another every time
        self.ends: dict[asyncio.Transport, None] = {}

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Begin something in this process."""
        context = contextvars.copy_context()
        context.run(CURRENT.set, self)
        return asyncio.create_task(work, context=context)

    async def kill(self) -> None:
        """End it at this instant."""
        self.dead = True
        for end in list(self.ends):
            end.close()
        tasks = [task for task in self.tasks if not task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _End(asyncio.Transport):
    """One end of a connection."""

    def __init__(
        self, loop: VirtualLoop, process: Process | None, peername: tuple[str, int]
    ) -> None:
        super().__init__({"peername": peername, "sockname": (HOST, 0)})
        self._loop, self._peer = loop, self
        self._context = contextvars.copy_context()
        self._protocol: asyncio.Protocol | None = None
        self._coming: deque[bytes | None] = deque()
        self._held: deque[bytes | None] = deque()
        self._last_at = 0.0
        self._closing = self._paused = False
        if process is not None:
            self._context.run(CURRENT.set, process)
            process.ends[self] = None

    def join(self, peer: _End, factory: Factory) -> asyncio.Protocol:
        """Connect it and tell its protocol."""
        self._peer = peer
        self._protocol = self._context.run(factory)
        self._context.run(self._protocol.connection_made, self)
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._protocol is not None
        return self._protocol

    def is_closing(self) -> bool:
        return self._closing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._closing and data:
            self._send(bytes(data))

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def is_reading(self) -> bool:
        return not self._paused and not self._closing

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        while self._held and not self._paused:
            self._take(self._held.popleft())

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        self._send(None)
        self._loop.call_soon(self._lost, context=self._context)

    def abort(self) -> None:
        self.close()

    def _send(self, data: bytes | None) -> None:
        """Let it arrive a while later, and after everything that was sent before."""
        peer = self._peer
        peer._last_at = max(peer._last_at, self._loop.time() + self._loop.delay_s())
        peer._coming.append(data)
        self._loop.call_at(peer._last_at, peer._arrive, context=peer._context)

    def _arrive(self) -> None:
        data = self._coming.popleft()
        if self._paused:
            self._held.append(data)
        else:
            self._take(data)

    def _take(self, data: bytes | None) -> None:
        if self._closing or self._protocol is None:
            return
        if data is not None:
            self._protocol.data_received(data)
        elif not self._protocol.eof_received():
            self.close()

    def _lost(self) -> None:
        process = self._context.get(CURRENT)
        if process is not None:
            process.ends.pop(self, None)
        if self._protocol is not None:
            self._protocol.connection_lost(None)


class Network:
    """Who listens where, and who is connected. Give it the loop before anything connects.

    Parameters
    ----------
    loop
        Its ``create_connection`` leads here from now on.
    """

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self._listening: dict[int, tuple[Process, Factory]] = {}
        self._wanted: dict[socket.socket, tuple[str, int]] = {}
        loop.set_task_factory(_task)
        loop.sock_connect = self._sock_connect  # type: ignore[method-assign]
        loop.create_connection = self._create_connection  # type: ignore[method-assign,assignment]

    def listen(self, process: Process, factory: Factory) -> int:
        """Let a process take connections; return the port."""
        port = 1 + len(self._listening)
        self._listening[port] = (process, factory)
        return port

    async def _sock_connect(self, sock: socket.socket, address: tuple[str, int]) -> None:
        await asyncio.sleep(self.loop.delay_s())
        process = CURRENT.get(None)
        listening = self._listening.get(address[1])
        if listening is None or listening[0].dead or (process is not None and process.dead):
            raise ConnectionRefusedError(f"nobody listens at {address}")
        self._wanted[sock] = address

    async def _create_connection(
        self, factory: Factory, *_: Any, sock: socket.socket, **__: Any
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        address = self._wanted.pop(sock)
        sock.close()
        process, serve = self._listening[address[1]]
        mine = _End(self.loop, CURRENT.get(None), address)
        theirs = _End(self.loop, process, (HOST, 0))
        theirs.join(mine, serve)
        return mine, mine.join(theirs, factory)


class _Task(asyncio.Task[Any]):
    """A task that belongs to the process in which it was begun."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        context = more.get("context") or contextvars.copy_context()
        process = context.get(CURRENT)
        if process is not None:
            process.tasks[self] = None
            self.add_done_callback(lambda task: process.tasks.pop(task, None))


def _task(loop: asyncio.AbstractEventLoop, work: Any, **more: Any) -> asyncio.Task[Any]:
    return _Task(work, loop=loop, **more)
