"""Processes that restart in a loop, refused records, slow clients, no file descriptors: one stack.

Every process is one of a running deployment; each test makes one cause and takes it away again.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from confluent_kafka import Producer

from streams.kafka.client import producer_config
from streams.process.child import free_port
from streams.process.status_connections import BACKLOG, MOST_ANSWERED, MOST_INCOMPLETE
from streams.process.supervise import Supervised
from streams.records.topics import FILLS, WEIGHTS
from streams.stack.kafka import KafkaBroker
from tests.support.deployment import Deployment
from tests.support.prometheus import (
    Prometheus,
    changed_rules,
    kubernetes_job,
    shipped_jobs,
)
from tests.support.service import TOKEN, ServiceProcess
from tests.support.waiting import PATIENCE_S, until

pytestmark = pytest.mark.kafka

HALF = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "
FEW = 18
"""Fewer file descriptors than worker, service and executor need."""
METRICS_TOKEN = "a-token-of-the-scrapes-0123456789"
WHOLE = (
    b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    b"Authorization: Bearer " + METRICS_TOKEN.encode() + b"\r\n\r\n"
)


class Stack:
    """A worker, a mirror, an executor and a service, without any market."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.ports = {name: free_port() for name in ("worker", "trade", "mirror")}
        self.service = ServiceProcess(
            deployment,
            API_METRICS_PORT=str(free_port()),
            TRADE_STATUS_URL=f"http://127.0.0.1:{self.ports['trade']}/status",
            WORKER_METRICS_URLS=f"http://127.0.0.1:{self.ports['worker']}/metrics",
        )

    def start(self) -> None:
        """Start everything, and wait until it answers."""
        self.deployment.start(
            "worker", "worker", "--worker-id", "w-1", METRICS_PORT=str(self.ports["worker"])
        )
        self.deployment.start("mirror", "mirror", MIRROR_METRICS_PORT=str(self.ports["mirror"]))
        self.deployment.start("trade", "trade", TRADE_STATUS_PORT=str(self.ports["trade"]))
        self.service.start()
        for name in self.ports:
            self.service.wait_until(lambda name=name: self.page(name))  # type: ignore[misc]

    def process(self, name: str) -> Supervised:
        """One of the processes."""
        return self.deployment.processes[name]

    def page(self, name: str) -> str:
        """The metrics of a process; empty while it does not answer."""
        url = f"http://127.0.0.1:{self.ports[name]}/metrics"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {METRICS_TOKEN}"})
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    def signal(self, name: str) -> dict[str, Any]:
        """One failure signal, as the service has it."""
        answer = self.service.get("/api/preflight")
        found = answer.json.get("signals", []) if answer.status == 200 else []
        return next((one for one in found if one["name"] == name), {})

    def trouble(self) -> str:
        """What ``/health`` says."""
        answer = self.service.get("/health")
        assert answer.status == 200, answer.body
        return "; ".join(answer.json["trouble"])

    def status(self) -> Any:
        """What ``manifold status`` says."""
        done = self.deployment.run("status", "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def output(self, name: str) -> str:
        """What a process has said."""
        return self.process(name).child.log.read_text("utf-8", "replace")


@pytest.fixture(scope="module")
def stack(
    kafka: KafkaBroker, new_database: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    deployment = Deployment(
        tmp_path_factory.mktemp("processes"),
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        VALKEY_URL=new_database(),
        TOPIC_PREFIX=f"t{uuid.uuid4().hex[:8]}.",
        TOPIC_PARTITIONS="1",
        HOTBAND_PAIRS="EUR_USD",
        MARKET_CALENDAR="continuous",
        # as in a container: the status ports need the token
        METRICS_HOST="0.0.0.0",
        TRADE_STATUS_HOST="0.0.0.0",
        METRICS_TOKEN=METRICS_TOKEN,
    )
    made = Stack(deployment)
    try:
        made.start()
        yield made
    finally:
        deployment.stop()


@pytest.fixture(scope="module")
def prometheus(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """One with the shipped jobs and rules: other addresses, and alerts that fire at once."""
    directory = tmp_path_factory.mktemp("prometheus")
    (directory / "token").write_text(METRICS_TOKEN + "\n")
    at = {name: f"127.0.0.1:{port}" for name, port in stack.ports.items()}
    at["serve"] = f"127.0.0.1:{stack.service.settings['API_METRICS_PORT']}"
    pods = {f"manifold-{name}": address for name, address in at.items()}
    with_api_token = {
        "authorization": {"credentials": TOKEN},
        "static_configs": [{"targets": [f"127.0.0.1:{stack.service.ports['API_PORT']}"]}],
    }
    jobs = shipped_jobs(at, directory / "token") | kubernetes_job(pods, directory / "token")
    rules = changed_rules(directory / "rules.yml", wait="1s")
    made = Prometheus(directory, jobs | {"serve-api": with_api_token}, [rules])
    made.start()
    try:
        yield made
    finally:
        made.stop()


def test_every_process_is_scraped_as_it_is_shipped(stack: Stack, prometheus: Prometheus) -> None:
    jobs = ["mirror", "mirror", "serve", "serve", "serve-api", "trade", "trade", "worker", "worker"]
    until(
        lambda: sorted(dict(labels)["job"] for labels in prometheus.value("up == 1")) == jobs,
        lambda: str(prometheus.value("up")),
    )
    up = [dict(labels) for labels in prometheus.value("up")]
    assert {one["instance"] for one in up} >= {f"manifold-{n}-0" for n in (*stack.ports, "serve")}
    for expression in ("sep_failure_signal", "manifold_consumer_lag", "manifold_reconciled"):
        until(lambda expression=expression: prometheus.value(expression))  # type: ignore[misc]


def test_an_engaged_kill_switch_fires(stack: Stack, prometheus: Prometheus) -> None:
    done = stack.deployment.run("kill", "on", "--reason", "a test")
    assert done.returncode == 0, done.stderr
    prometheus.until_firing("KillSwitchEngaged")


@contextlib.contextmanager
def connections(port: int, count: int, first: bytes) -> Iterator[list[socket.socket]]:
    """Open connections, send the same bytes on each, and read nothing."""
    made = []
    try:
        for _ in range(count):
            client = socket.socket()
            made.append(client)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            client.settimeout(PATIENCE_S)
            client.connect(("127.0.0.1", port))
            with contextlib.suppress(OSError):
                client.sendall(first)
        yield made
    finally:
        for client in made:
            client.close()


def open_files(process: Supervised) -> int:
    return len(os.listdir(f"/proc/{process.child.pid}/fd"))


@pytest.mark.parametrize("first", [HALF, WHOLE], ids=["half a request", "an answer never read"])
@pytest.mark.parametrize("name", ["worker", "trade", "mirror"])
def test_slow_clients_of_a_status_port(stack: Stack, name: str, first: bytes) -> None:
    process, before = stack.process(name), open_files(stack.process(name))
    with connections(stack.ports[name], 400, first):
        for _ in range(3):
            assert "manifold_process_start_time_seconds" in stack.page(name)
        most = before + MOST_INCOMPLETE + MOST_ANSWERED + BACKLOG
        assert open_files(process) <= most
        # the limit of time closes the rest
        until(lambda: open_files(process) <= before + 8, every_s=0.2)
    assert process.restarts == 0 and stack.page(name)


def test_a_refused_record_is_named(stack: Stack, prometheus: Prometheus) -> None:
    assert stack.service.wait_until(lambda: stack.signal("invalid_records").get("state")) == "ok"
    producer = Producer(producer_config(stack.deployment.runtime))
    for topic in (WEIGHTS, FILLS):
        producer.produce(stack.deployment.runtime.topic(topic), b"no frame", b"x", partition=0)
    assert producer.flush(PATIENCE_S) == 0
    last = f"{FILLS} bad_magic (1), last {FILLS}-0-"
    stack.service.wait_until(lambda: last in stack.signal("invalid_records")["detail"])
    found = stack.signal("invalid_records")
    assert found["state"] == "warn" and "manifold tail" in found["action"]
    assert "invalid_records: records were refused" in stack.trouble() and last in stack.trouble()
    page = stack.service.get("/metrics").body.decode()
    assert 'sep_failure_signal{name="invalid_records"} 1.0' in page
    prometheus.until_firing("InvalidRecords", topic=FILLS, job="serve")
    prometheus.until_firing("ManifoldWarning", name="invalid_records")
    (refused,) = stack.status()["invalid_records"]
    assert (refused["topic"], refused["reason"], refused["records"]) == (WEIGHTS, "bad_magic", 1)


@pytest.mark.parametrize(("name", "called"), [("worker", "worker w-1"), ("mirror", "mirror ")])
def test_a_process_that_restarts_in_a_loop(
    stack: Stack, prometheus: Prometheus, name: str, called: str
) -> None:
    assert called not in stack.trouble()
    for _ in range(2):
        process = stack.process(name)
        restarts = process.restarts
        process.child.signal(signal.SIGKILL)
        stack.service.wait_until(lambda before=restarts: stack.process(name).restarts > before)
        stack.service.wait_until(lambda: starts(stack, called) >= stack.process(name).restarts + 1)
        assert process.child.running
    stack.service.wait_until(lambda: called in stack.trouble())
    found = stack.signal("restarts")
    assert found["state"] in ("warn", "fail") and called in found["detail"]
    assert found["action"]
    process_label = next(n for n in stack.status()["processes"] if n.startswith(called))
    prometheus.until_firing("ProcessRestarts", process=process_label)
    of_status = stack.status()["processes"]
    assert max(v["restarts"] for n, v in of_status.items() if n.startswith(called)) == 2
    assert "restarted repeatedly" in stack.deployment.run("status").stdout


def starts(stack: Stack, called: str) -> int:
    """Return how often a process is in the record."""
    with redis.Redis.from_url(stack.deployment.environment["VALKEY_URL"]) as client:
        found = client.zrange("ops:process_starts", 0, -1)
    return sum(one.decode().partition(" ")[2].startswith(called) for one in found)


@contextlib.contextmanager
def no_more_files(process: Supervised) -> Iterator[None]:
    """Take every free file descriptor from a process."""
    pid = process.child.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (4, before[1]))
    try:
        yield
    finally:
        if process.child.running and process.child.pid == pid:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("name", ["worker", "trade", "serve", "mirror"])
def test_without_file_descriptors_a_process_says_so_and_goes_on(stack: Stack, name: str) -> None:
    process = stack.process(name)
    pid, said_before = process.child.pid, len(stack.output(name))
    ports = stack.ports | {"serve": stack.service.ports["API_PORT"]}
    with no_more_files(process):
        until(lambda: "may open no more files" in stack.output(name)[said_before:], every_s=0.2)
        assert "RLIMIT_NOFILE=4" in stack.output(name)[said_before:]
        if name in ports and name != "worker":  # which has ended
            with connections(ports[name], 3, WHOLE):
                time.sleep(2.0)  # whatever the process does periodically fails meanwhile
    until(
        lambda: (
            not process.child.running or "can open files again" in stack.output(name)[said_before:]
        ),
        every_s=0.2,
    )
    said = stack.output(name)[said_before:]
    assert "ulimit -n" in said
    assert "Traceback" not in said, said
    if name != "worker":
        assert process.child.running and process.child.pid == pid, said
    stack.service.wait_until(lambda: process.child.running and stack.service.healthy)
    if name in stack.ports:
        stack.service.wait_until(lambda: stack.page(name))


@pytest.mark.parametrize("command", ["worker", "serve", "trade"])
def test_a_start_with_few_file_descriptors_says_so(
    stack: Stack, command: str, tmp_path: Path
) -> None:
    ports = ("API", "WS", "ALLOCATOR_STATUS", "HYDRATOR_STATUS", "METRICS", "TRADE_STATUS")
    output = tmp_path / "output"
    with output.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "streams", command],
            env=stack.deployment.environment
            | {f"{name}_PORT": str(free_port()) for name in ports}
            | {"API_TOKEN": TOKEN, "WORKER_ID": "w-2"},
            stdout=out,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (FEW, FEW)),
        )
    try:
        until(
            lambda: f"RLIMIT_NOFILE={FEW}" in output.read_text("utf-8", "replace"),
            lambda: output.read_text("utf-8", "replace")[-4_000:],
            every_s=0.2,
        )
    finally:
        process.kill()
        process.wait(PATIENCE_S)
    assert "Traceback" not in output.read_text("utf-8", "replace")
