"""Clients that send half a request, by the thousand: who has the token is still answered."""

from __future__ import annotations

import contextlib
import resource
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from streams.stack.kafka import KafkaBroker
from streams.stack.valkey import ValkeyServer
from tests.support.deployment import Deployment
from tests.support.service import TOKEN, ServiceProcess

pytestmark = pytest.mark.kafka

CLIENTS = 1_600
HOST = "Host: 127.0.0.1\r\n"
BEARER = f"Authorization: Bearer {TOKEN}\r\n"
LONG = "Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{"
HALF = {
    "nothing": "",
    "a header": f"POST /api/kill-switch HTTP/1.1\r\n{HOST}X-Slow: ",
    "a body without the token": f"POST /api/kill-switch HTTP/1.1\r\n{HOST}{LONG}",
    "a wrong token": f"POST /api/kill-switch HTTP/1.1\r\n{HOST}Authorization: Bearer x\r\n{LONG}",
    "a whole reading, never read": f"GET /api/global-status HTTP/1.1\r\n{HOST}\r\n",
}


@pytest.fixture(scope="module")
def service(
    kafka: KafkaBroker, valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServiceProcess]:
    directory = tmp_path_factory.mktemp("slow")
    deployment = Deployment(
        directory,
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        TOPIC_PREFIX="slow.",
        TOPIC_PARTITIONS="2",
        VALKEY_URL=valkey.url,
        HOTBAND_PAIRS="EUR_USD",
    )
    deployment.run("topics", "create")
    found = ServiceProcess(deployment, API_WRITE_RATE_PER_MIN="600", API_RATE_PER_SEC="20")
    try:
        found.start()
        yield found
    finally:
        deployment.stop()


@pytest.fixture(autouse=True, scope="module")
def files() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8_192, before[1]), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


class SlowClients:
    """Keeps connections open on which part of a request was sent; opens closed ones again."""

    def __init__(self, port: int, part: str) -> None:
        self._address, self._part = ("127.0.0.1", port), part.encode()
        self._open: list[socket.socket] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep)

    def _keep(self) -> None:
        for _ in range(CLIENTS):
            self._open.append(self._one())
        while not self._stop.wait(0.01):
            # the oldest are the ones that the service closes
            self._open.pop(0).close()
            self._open.append(self._one())

    def _one(self) -> socket.socket:
        made = socket.create_connection(self._address, 10)
        with contextlib.suppress(OSError):
            made.sendall(self._part)
        return made

    def __enter__(self) -> SlowClients:
        self._thread.start()
        end = time.monotonic() + 30
        while len(self._open) < CLIENTS and time.monotonic() < end:
            time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        for one in self._open:
            one.close()


@pytest.mark.parametrize("part", HALF)
def test_the_kill_switch_answers(service: ServiceProcess, part: str) -> None:
    with SlowClients(service.ports["API_PORT"], HALF[part]):
        took = []
        for _ in range(5):
            began = time.monotonic()
            answer = service.post("/api/kill-switch", {"enabled": True, "reason": "a flood"})
            took.append(time.monotonic() - began)
            assert answer.status == 200, answer.body
        print(f"{part}: slowest of 5 took {max(took):.3f} s")


def test_neither_guesses_nor_plain_readings_throttle_the_operator(service: ServiceProcess) -> None:
    for _ in range(100):
        service.get("/api/health")
        service.post("/api/kill-switch", {"enabled": True}, token="a-guess-at-the-token")
    assert service.get("/api/pairs").status == 429
    answer = service.post("/api/kill-switch", {"enabled": True, "reason": "still possible"})
    assert answer.status == 200, answer.body
    assert service.get("/api/pairs", Authorization=f"Bearer {TOKEN}").status == 200
