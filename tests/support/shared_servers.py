"""Servers that the processes of a parallel run share.

A Kafka takes many seconds of CPU time to start and some percent of a core for as long as it runs.
Therefore the processes of a run share them: the process that hands out the tests (the controller
of xdist) starts a server when the first test asks for it, tells the others its port, and stops all
servers at the end.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from multiprocessing.connection import Client, Listener
from pathlib import Path
from typing import Protocol

from streams.errors import Fatal

SHARERS = 4
"""How many processes use one server."""


class Server(Protocol):
    """What a shared server can do."""

    port: int

    def start(self) -> None:
        """Start it and wait until it answers."""

    def stop(self) -> None:
        """Stop it."""


class SharedServers:
    """The controller's side: starts servers on demand.

    Parameters
    ----------
    makers
        Name -> a function that makes the server, not yet started, in a directory.
    """

    def __init__(self, makers: Mapping[str, Callable[[Path], Server]]) -> None:
        self._makers = makers
        self._directory = Path(tempfile.mkdtemp(prefix="manifold-servers-"))
        self._servers: list[Server] = []
        self._answers: dict[tuple[str, int], int | str] = {}
        self._key = secrets.token_bytes(16)
        # every process may ask while a server starts
        self._listener = Listener(("127.0.0.1", 0), backlog=128, authkey=self._key)
        # one thread that lives to the end: a server dies with the thread that started it
        threading.Thread(target=self._serve, name="shared servers", daemon=True).start()

    @property
    def address(self) -> tuple[int, str]:
        """Port and key, for ``port_of``."""
        return self._listener.address[1], self._key.hex()

    def close(self) -> None:
        """Stop every server and remove the directories."""
        self._listener.close()
        for server in self._servers:
            server.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _serve(self) -> None:
        while True:
            try:
                connection = self._listener.accept()
            except OSError:  # closed
                return
            with connection:
                name, process = connection.recv()
                connection.send(self._answer(name, process // SHARERS))

    def _answer(self, name: str, number: int) -> int | str:
        if (name, number) not in self._answers:
            server = self._makers[name](self._directory / f"{name}{number}")
            try:
                server.start()
            except Fatal as error:
                self._answers[name, number] = str(error)
            else:
                self._servers.append(server)
                self._answers[name, number] = server.port
        return self._answers[name, number]


def port_of(address: tuple[int, str], name: str, process: int) -> int:
    """Return the port of a shared server; it is started if nobody has asked for it yet.

    Parameters
    ----------
    address
        ``SharedServers.address``.
    name
        The server's name.
    process
        Number of the asking process, from 0.

    Raises
    ------
    Fatal
        The server cannot be started.
    """
    port, key = address
    with Client(("127.0.0.1", port), authkey=bytes.fromhex(key)) as connection:
        connection.send((name, process))
        answer = connection.recv()
    if isinstance(answer, str):
        raise Fatal(answer)
    return int(answer)
