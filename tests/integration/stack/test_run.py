"""``manifold run`` on a real cluster and the v20 test broker: one host from warm-up to its end."""

from __future__ import annotations

import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis

from streams.process.child import free_port
from streams.process.supervise import Supervised
from streams.records.topics import CANDLES, WEIGHTS
from streams.stack.kafka import KafkaBroker
from tests.support.deployment import Deployment
from tests.support.v20 import V20Process
from tests.support.waiting import until

pytestmark = pytest.mark.kafka

PAIR = "EUR_USD"
ROLES = {"worker", "mirror", "serve", "feed", "trade"}
PORTS = (
    *("API_PORT", "WS_PORT", "ALLOCATOR_STATUS_PORT", "HYDRATOR_STATUS_PORT", "RUN_STATUS_PORT"),
    *("TRADE_STATUS_PORT", "FEED_METRICS_PORT", "METRICS_PORT"),
)


class Place(NamedTuple):
    """A host of a deployment."""

    deployment: Deployment
    process: Supervised
    ports: dict[str, int]

    @property
    def output(self) -> list[str]:
        """Every line of the one log so far."""
        return self.process.child.log.read_text("utf-8").splitlines()

    def status(self) -> dict[str, Any]:
        """What is told of the host; empty before it answers."""
        url = f"http://127.0.0.1:{self.ports['RUN_STATUS_PORT']}/status"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except (urllib.error.URLError, ConnectionError):
            return {"phase": "", "well": False, "processes": []}

    def processes(self) -> dict[str, Any]:
        """Name -> what is told of it."""
        return {one["name"]: one for one in self.status()["processes"]}

    def until_well(self) -> None:
        """Wait until everything runs."""
        until(lambda: self.status()["well"], lambda: "\n".join(self.output[-40:]), 0.2)


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0]
    return state != "Z"


@pytest.fixture(scope="module")
def place(
    kafka: KafkaBroker, new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """A host with every role, from an empty log on."""
    ports = {name: free_port() for name in PORTS}
    with_ports = {name: str(port) for name, port in ports.items()}
    broker = V20Process(hours="always").start()
    deployment = Deployment(
        tmp_path_factory.mktemp("host"),
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        TOPIC_PREFIX="host.",
        TOPIC_PARTITIONS="2",
        VALKEY_URL=new_database(),
        HOTBAND_PAIRS=PAIR,
        EVAL_SLICES_DAYS="1",
        EVAL_SPAN_DAYS="1",
        TRADING_VENUE="oanda",
        TRADE_STATUS_URL=f"http://127.0.0.1:{ports['TRADE_STATUS_PORT']}/status",
        **broker.environment() | with_ports,
    )
    try:
        yield Place(deployment, deployment.start("host", "run"), ports)
    finally:
        deployment.stop()
        broker.stop()


def test_the_warm_up_comes_first_and_then_feed_and_executor(place: Place) -> None:
    place.until_well()
    status = place.status()
    assert (status["phase"], status["warmup"]) == ("running", "done")
    assert {one["name"] for one in status["processes"]} == ROLES
    (over,) = [n for n, line in enumerate(place.output) if "the warm-up has ended (done)" in line]
    before = {line.partition("|")[0].strip() for line in place.output[:over]}
    assert before <= {"run", "worker", "mirror", "serve", "warmup"}, before
    ends = place.deployment.status().ends
    assert ends[CANDLES] > 1_000 and ends[WEIGHTS], "a day of candles is there and derived"


def test_one_status_and_the_command_that_shows_it(place: Place) -> None:
    place.until_well()
    shown = place.deployment.run("run", "--status")
    assert shown.returncode == 0, shown.stderr
    for role in ROLES:
        assert f"{role} " in shown.stdout
    found = json.loads(place.deployment.run("run", "--status", "--json").stdout)
    assert found["well"] and len(found["processes"]) == len(ROLES)
    health = f"http://127.0.0.1:{place.ports['RUN_STATUS_PORT']}/healthz"
    with urllib.request.urlopen(health, timeout=30) as answer:
        assert answer.status == 200


def test_the_parts_work_together(place: Place) -> None:
    place.until_well()

    def trading() -> Any:
        url = f"http://127.0.0.1:{place.ports['API_PORT']}/api/global-status"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)["trading"]

    found = until(lambda: (said := trading())["reconciled"] and said, every_s=0.3)
    assert (found["executor"], found["mode"]) == ("running", "practice")
    with redis.Redis.from_url(place.deployment.environment["VALKEY_URL"]) as client:
        until(lambda: client.exists("risk:alloc_budget"))
        budget = client.hgetall("risk:alloc_budget")
        assert 0 < client.ttl("risk:alloc_budget") <= 60
        assert float(budget[b"budget"]) > 0 and budget[b"currency"]
        assert client.exists("ops:kill_switch"), "the service keeps the key"


@pytest.mark.parametrize("role", ["worker", "trade", "feed"])
def test_what_is_killed_is_started_again_and_told(place: Place, role: str) -> None:
    place.until_well()
    before = place.processes()[role]
    os.kill(before["pid"], signal.SIGKILL)
    until(lambda: place.processes()[role]["restarts"] > before["restarts"], every_s=0.1)
    place.until_well()
    after = place.processes()
    assert after[role]["pid"] != before["pid"]
    said = [line for line in place.output if line.startswith("run ") and f"{role} " in line]
    assert any("ended with code -9" in line for line in said)
    assert any("is restarted" in line for line in said)


def test_told_to_stop_it_ends_everything_in_order_and_the_log_verifies(place: Place) -> None:
    place.until_well()
    pids = [one["pid"] for one in place.processes().values()]
    assert place.process.stop() == 0, "\n".join(place.output[-20:])
    assert place.output[-1].endswith("all processes have ended")
    assert not [pid for pid in pids if is_there(pid)]
    place.deployment.require_verified()
    gone = place.deployment.run("run", "--status")
    assert gone.returncode == 75 and "no manifold run answers" in gone.stderr


def test_settings_that_every_process_refuses_end_it_with_a_sentence(
    kafka: KafkaBroker, valkey_url: str, topic_prefix: str, tmp_path: Path
) -> None:
    deployment = Deployment(
        tmp_path,
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        TOPIC_PREFIX=topic_prefix,
        TOPIC_PARTITIONS="1",
        VALKEY_URL=valkey_url,
        RUN_STATUS_PORT=str(free_port()),
    )
    done = deployment.run("run", "--roles", "mirror", TOPIC_PREFIX="no-such-deployment.")
    assert done.returncode == 2
    assert "manifold: the mirror refuses to run: " in done.stderr
    assert "topics create" in done.stderr
    assert deployment.run("run", "--roles", "mirrors").stderr.startswith("manifold: --roles")


def test_a_killed_host_takes_its_processes_along(
    kafka: KafkaBroker, valkey_url: str, topic_prefix: str, tmp_path: Path
) -> None:
    port = free_port()
    deployment = Deployment(
        tmp_path,
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        TOPIC_PREFIX=topic_prefix,
        TOPIC_PARTITIONS="1",
        VALKEY_URL=valkey_url,
        RUN_STATUS_PORT=str(port),
    )
    try:
        process = deployment.start("host", "run", "--roles", "mirror")
        host = Place(deployment, process, {"RUN_STATUS_PORT": port})
        host.until_well()
        pid = host.processes()["mirror"]["pid"]
        process.child.signal(signal.SIGKILL)
        until(lambda: not is_there(pid))
    finally:
        deployment.stop()
