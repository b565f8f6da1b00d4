"""``manifold serve`` as a process, and how a test talks to it."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from websockets.sync.client import ClientConnection, connect

from streams.process.child import free_port
from streams.process.supervise import Supervised
from tests.support.deployment import Deployment
from tests.support.waiting import PATIENCE_S

TOKEN = "a-token-of-the-tests-0123456789"
PORTS = ("API_PORT", "WS_PORT", "ALLOCATOR_STATUS_PORT", "HYDRATOR_STATUS_PORT")


class Answer(NamedTuple):
    """An answer to an HTTP request."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body; numbers that JSON does not have fail."""
        return json.loads(self.body, parse_constant=_no_constant)


def _no_constant(constant: str) -> Any:
    raise AssertionError(f"{constant} is no JSON")


class ServiceProcess:
    """One service of a deployment, on free ports.

    Parameters
    ----------
    deployment
        Where it reads.
    settings
        More of its settings.
    """

    def __init__(self, deployment: Deployment, **settings: str) -> None:
        self.deployment = deployment
        self.ports = {name: free_port() for name in PORTS}
        self.settings = {
            "API_TOKEN": TOKEN,
            "TRADE_STATUS_URL": f"http://127.0.0.1:{free_port()}/status",
            **{name: str(port) for name, port in self.ports.items()},
            **settings,
        }
        self.process: Supervised | None = None

    def start(self) -> None:
        """Start it, and wait until it answers; the supervisor starts it again when it ends."""
        self.process = self.deployment.start("serve", "serve", **self.settings)
        self.wait_until(lambda: self.healthy)

    @property
    def healthy(self) -> bool:
        """Whether it answers and follows the log."""
        try:
            return self.get("/health").status == 200
        except OSError:
            return False

    def wait_until(self, ready: Callable[[], Any], seconds: float = PATIENCE_S) -> Any:
        """Supervise until ``ready`` returns something true, and return that."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for process in self.deployment.processes.values():
                process.poll()
            found = ready()
            if found:
                return found
            time.sleep(0.05)
        raise AssertionError(self.words)

    @property
    def words(self) -> str:
        """What it said last."""
        return self.process.child.last_output(12) if self.process else "(not started)"

    def get(self, path: str, port: str = "API_PORT", **headers: str) -> Answer:
        """Ask."""
        return self.ask("GET", path, None, port, **headers)

    def post(self, path: str, body: Any, token: str | None = TOKEN, **headers: str) -> Answer:
        """Change something; a ``body`` that is bytes is sent as it is."""
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.ask("POST", path, content, **({"Content-Type": "application/json"} | headers))

    def ask(
        self, method: str, path: str, body: bytes | None, port: str = "API_PORT", **headers: str
    ) -> Answer:
        """Send any request; any status is an answer."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.ports[port]}{path}",
            data=body,
            method=method,
            headers={name.replace("_", "-"): text for name, text in headers.items()},
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                return Answer(answer.status, _lower(answer.headers), answer.read())
        except urllib.error.HTTPError as answer:
            return Answer(answer.code, _lower(answer.headers), answer.read())

    @contextmanager
    def socket(self, port: str = "WS_PORT", **options: Any) -> Iterator[ClientConnection]:
        """Open a WebSocket and take its first frame."""
        # no pings of the library's own: their answers wait behind what a test has not read yet
        options = {"ping_interval": None} | options
        with connect(f"ws://127.0.0.1:{self.ports[port]}/ws", **options) as socket:
            first = frame(socket)
            assert first["type"] == "connection", first
            yield socket


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): text for name, text in headers.items()}


def frame(socket: ClientConnection, seconds: float = PATIENCE_S) -> dict[str, Any]:
    """Return the next frame that is no heartbeat."""
    end = time.monotonic() + seconds
    while True:
        text = socket.recv(max(0.0, end - time.monotonic()))
        found: dict[str, Any] = json.loads(text, parse_constant=_no_constant)
        if found["type"] != "heartbeat":
            return found


def say(socket: ClientConnection, **message: Any) -> None:
    """Send a message."""
    socket.send(json.dumps(message))


def subscribe(socket: ClientConnection, *channels: str, **more: Any) -> dict[str, Any]:
    """Subscribe and return the answer."""
    say(socket, type="subscribe", channels=list(channels), **more)
    found = frame(socket)
    assert found["type"] == "subscription", found
    return found


def frames_until(
    socket: ClientConnection, last: Callable[[dict[str, Any]], bool], seconds: float = PATIENCE_S
) -> list[dict[str, Any]]:
    """Return the frames up to the one that is ``last``."""
    found, end = [], time.monotonic() + seconds
    while True:
        found.append(frame(socket, max(0.1, end - time.monotonic())))
        if last(found[-1]):
            return found
