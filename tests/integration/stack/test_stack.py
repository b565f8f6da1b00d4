"""`manifold up` as a user runs it: the command in a process of its own, on free ports."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from streams.process.child import free_port
from streams.stack.embedded import EmbeddedBroker
from streams.stack.kafka import KafkaBroker
from tests.support.candle_files import market, write_csv
from tests.support.environment import kept_environment
from tests.support.waiting import PATIENCE_S

ROOT = Path(__file__).resolve().parents[3]
SERVICE_PORTS = (
    *("API_PORT", "WS_PORT", "ALLOCATOR_STATUS_PORT", "HYDRATOR_STATUS_PORT"),
    "TRADE_STATUS_PORT",
)
PROFILE = ROOT / "deploy" / "profiles" / "demo.env"


class Up:
    """A `manifold up` process."""

    def __init__(self, directory: Path, *arguments: str, **settings: str) -> None:
        self.directory = directory
        self.ports = {name: free_port() for name in ("broker", "registry", "valkey", "metrics")}
        options = [f"--{name}-port={port}" for name, port in self.ports.items()]
        kept = kept_environment()
        self.service = {name: free_port() for name in SERVICE_PORTS}
        kept |= {name: str(port) for name, port in self.service.items()} | settings
        self.command = [sys.executable, "-m", "streams", "up", "--data-dir", str(directory)]
        report = directory.with_name(f"{directory.name}.html")
        self.command += [*options, "--env-file", str(PROFILE), "--report", str(report), *arguments]
        self.log = Path(tempfile.mkstemp(suffix=".out")[1])
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                self.command, stdout=out, stderr=subprocess.STDOUT, env=kept
            )

    @property
    def output(self) -> str:
        return self.log.read_text()

    def wait_for(self, text: str, seconds: float = PATIENCE_S) -> None:
        end = time.monotonic() + seconds
        while text not in self.output:
            assert self.process.poll() is None, self.output
            assert time.monotonic() < end, self.output
            time.sleep(0.2)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        env_file = str(self.directory / "stack.env")
        return subprocess.run(
            [sys.executable, "-m", "streams", *arguments, "--env-file", env_file],
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )

    def children(self) -> dict[int, str]:
        """Return process id -> command line of everything that runs out of the directory."""
        found = {}
        for place in Path("/proc").glob("[0-9]*"):
            try:
                environment = (place / "environ").read_bytes()
                command = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                working = os.readlink(place / "cwd")
            except OSError:
                continue
            mine = working.startswith(str(self.directory))
            mine |= f"127.0.0.1:{self.ports['broker']}".encode() in environment
            if mine and int(place.name) != self.process.pid:
                found[int(place.name)] = command
        return found

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


@pytest.fixture
def ups(tmp_path: Path) -> Iterator[list[Up]]:
    made: list[Up] = []
    yield made
    for one in made:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()
        one.log.unlink()


def json_of(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
        return json.loads(answer.read())


def eventually(
    ask: Callable[[], Any], wanted: Callable[[Any], bool], seconds: float = PATIENCE_S
) -> Any:
    """Ask until the answer is as wanted."""
    end, found = time.monotonic() + seconds, None
    while time.monotonic() < end:
        try:
            found = ask()
        except OSError as error:  # not there yet
            found = error
        else:
            if wanted(found):
                return found
        time.sleep(0.3)
    raise AssertionError(f"not within {seconds} s: {found}")


def runs_on_paper(state: Any) -> bool:
    """Whether the service sees a paper executor that agrees with its account."""
    trading = state["trading"]
    return trading["executor"] == "running" and trading["mode"] == "paper" and trading["reconciled"]


def worker_pid(up: Up) -> int:
    return pid_of(up, "worker")


def pid_of(up: Up, program: str) -> int:
    return next(pid for pid, cmd in up.children().items() if f"streams {program}" in cmd)


def kill_and_wait(up: Up, program: str) -> None:
    """Kill a process of a stack; return when another one is there."""
    first = pid_of(up, program)
    os.kill(first, signal.SIGKILL)
    eventually(
        lambda: [p for p, cmd in up.children().items() if f"streams {program}" in cmd],
        lambda there: bool(there) and first not in there,
    )


def config_signal(api: str) -> Any:
    signals = json_of(f"{api}/api/preflight")["signals"]
    return next(one for one in signals if one["name"] == "config_differs")


@pytest.mark.embedded
def test_demo_on_the_embedded_broker_shows_everything_and_leaves_nothing(
    embedded_broker: EmbeddedBroker, tmp_path: Path, ups: list[Up]
) -> None:
    ups.append(up := Up(tmp_path / "stack", "--demo", "--bars", "400"))
    assert up.process.wait(2 * PATIENCE_S) == 0, up.output
    for said in (
        *("embedded broker (memory only)", "gates: the latest decisions", "weights of"),
        *("risk:allocation_weights = {", "replay equals live", "where the time was spent"),
        *("from start to the first weights", "manifold up --broker kafka"),
    ):
        assert said in up.output
    assert not up.children()


@pytest.mark.embedded
def test_interrupt_leaves_no_process_and_frees_the_ports(
    embedded_broker: EmbeddedBroker, tmp_path: Path, ups: list[Up]
) -> None:
    ups.append(up := Up(tmp_path / "stack", "--bars", "200"))
    up.wait_for("md.candles")
    assert len(up.children()) == 7
    api = f"http://127.0.0.1:{up.service['API_PORT']}"
    # the kill switch is off by the profile; engaged while Valkey or the log answers late
    eventually(
        lambda: json_of(f"{api}/api/global-status"),
        lambda state: runs_on_paper(state) and not state["kill_switch"]["engaged"],
    )
    with urllib.request.urlopen(f"{api}/", timeout=PATIENCE_S) as page:
        assert b"manifold-streams" in page.read()
    assert (up.directory / "api.token").stat().st_mode & 0o777 == 0o600
    assert up.end() == 0, up.output
    assert not up.children()
    for port in (*up.ports.values(), *up.service.values()):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.embedded
def test_a_killed_stack_takes_its_processes_along(
    embedded_broker: EmbeddedBroker, tmp_path: Path, ups: list[Up]
) -> None:
    ups.append(up := Up(tmp_path / "stack", "--bars", "200"))
    up.wait_for("md.candles")
    up.end(signal.SIGKILL)
    end = time.monotonic() + PATIENCE_S
    while up.children() and time.monotonic() < end:
        time.sleep(0.1)
    assert not up.children()


@pytest.mark.embedded
def test_death_of_the_worker_ends_the_embedded_stack_and_says_why(
    embedded_broker: EmbeddedBroker, tmp_path: Path, ups: list[Up]
) -> None:
    ups.append(up := Up(tmp_path / "stack", "--bars", "200"))
    up.wait_for("sep.signals")
    os.kill(worker_pid(up), signal.SIGKILL)
    assert up.process.wait(PATIENCE_S) == 75
    last = up.output.strip().splitlines()[-1]
    assert last.startswith("manifold: the worker ended with code -9")
    assert "--broker kafka" in last
    assert not up.children()


@pytest.mark.embedded
def test_a_stack_without_a_market_derives_what_is_loaded(
    embedded_broker: EmbeddedBroker, tmp_path: Path, ups: list[Up]
) -> None:
    ups.append(up := Up(tmp_path / "stack", "--market", "none"))
    up.wait_for("lag: none")
    assert "streams feed" not in " ".join(up.children().values())
    loaded = up.run("load", write_csv(tmp_path / "candles.csv", market(("EUR_USD",), 200)))
    assert loaded.returncode == 0, loaded.stderr
    up.wait_for("risk.weights")
    status = json.loads(up.run("status", "--json").stdout)
    assert status["topics"]["md.candles"] > 150 and list(status["instruments"]) == ["EUR_USD"]
    assert up.end() == 0
    assert not up.children()


@pytest.mark.kafka
def test_durable_stack_restarts_its_worker_and_goes_on_after_a_restart(
    kafka: KafkaBroker, tmp_path: Path, ups: list[Up]
) -> None:
    directory = tmp_path / "stack"
    ups.append(up := Up(directory, "--broker", "kafka", "--bars", "300"))
    up.wait_for("risk.weights")
    api = f"http://127.0.0.1:{up.service['API_PORT']}"
    eventually(lambda: config_signal(api)["state"], lambda state: state == "ok")
    changed = up.run("config", "set", "GATE_MODE=echo", "--reason", "another rule", "--json")
    assert changed.returncode == 0, changed.stderr
    assert [c["name"] for c in json.loads(changed.stdout)["changes"]] == ["GATE_MODE"]
    # both were started with an environment that says something else by now
    for program in ("worker", "trade"):
        kill_and_wait(up, program)
    said = "GATE_MODE is adaptive for the service, the executor, worker 127.0.0.1"
    found = eventually(lambda: config_signal(api), lambda one: said in one["detail"])
    assert found["state"] == "warn"
    # another program has its port when it is started again: the stack waits for it
    port = up.service["API_PORT"]
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        os.kill(pid_of(up, "serve"), signal.SIGKILL)
        eventually(lambda: other.bind(("127.0.0.1", port)), lambda bound: bound is None)
        other.listen()
        up.wait_for("serve: ended with code 2; restart in ")
        up.wait_for(f"API_PORT: cannot listen on 127.0.0.1 port {port}")
    eventually(lambda: json_of(f"{api}/health")["status"], lambda state: state == "ok")
    assert up.process.poll() is None, up.output
    assert up.end() == 0
    ups.append(again := Up(directory, "--broker", "kafka", "--bars", "300"))
    again.wait_for("risk.weights")
    status = json.loads(again.run("status", "--json").stdout)
    # the market of the first start goes on: no second history beside it
    assert 300 <= status["topics"]["risk.weights"] <= 340
    # at every hour of the week: its market trades at weekends
    assert status["market_calendar"] == "continuous"
    # the change holds after a restart of everything, and is what the bars are judged by
    shown = json.loads(again.run("config", "show", "--json").stdout)
    assert [(one["name"], one["active"]) for one in shown["differs"]] == [("GATE_MODE", "echo")]
    eventually(
        lambda: json.loads(again.run("status", "--json").stdout)["weights"]["age_ms"],
        lambda age_ms: age_ms < 3 * 60_000,
        seconds=300,
    )

    def modes() -> set[str]:
        tail = again.run("tail", "opt.gates", "--last", "30").stdout.splitlines()
        values = [json.loads(json.loads(line)["value"]) for line in tail]
        return {value["mode"] for value in values if "mode" in value}

    eventually(modes, lambda found: "echo" in found)
    done = again.run("verify")
    assert done.returncode == 0, done.stdout + done.stderr
    assert again.end() == 0
    assert not again.children()


@pytest.mark.embedded
def test_registry_answers_what_clients_ask(
    embedded_broker: EmbeddedBroker, tmp_path: Path, ups: list[Up]
) -> None:
    ups.append(up := Up(tmp_path / "stack", "--bars", "200"))
    up.wait_for("md.candles")
    root = f"http://127.0.0.1:{up.ports['registry']}"
    assert "md.candles-value" in json_of(f"{root}/subjects")
    latest = json_of(f"{root}/subjects/md.candles-value/versions/latest")
    schema = json_of(f"{root}/schemas/ids/{latest['id']}")["schema"]
    assert schema == latest["schema"]
    assert json.loads(schema)["name"] == "Candle"
    for missing, code in (("/subjects/none/versions", 40401), ("/schemas/ids/99999", 40403)):
        with pytest.raises(urllib.error.HTTPError) as refused:
            json_of(root + missing)
        assert refused.value.code == 404
        assert json.loads(refused.value.read())["error_code"] == code
    # the product itself, with the registry's address set: ids are the same
    assert "SCHEMA_REGISTRY_URL" in (up.directory / "stack.env").read_text()
    tailed = up.run("tail", "md.candles", "-n", "1", "--from", "start")
    assert json.loads(tailed.stdout.splitlines()[0])["topic"] == "md.candles"


def test_a_port_in_use_is_one_sentence(tmp_path: Path, ups: list[Up]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ups.append(up := Up(tmp_path / "stack", f"--valkey-port={port}"))
        assert up.process.wait(PATIENCE_S) == 2
    assert up.output.strip().splitlines() == [
        f"manifold: port {port} is in use; the stack (--valkey-port) needs it: "
        "stop what uses it or choose another"
    ]


def test_a_directory_that_cannot_be_used_is_one_sentence(tmp_path: Path, ups: list[Up]) -> None:
    (tmp_path / "stack").write_text("a file")
    ups.append(up := Up(tmp_path / "stack" / "inner"))
    assert up.process.wait(PATIENCE_S) == 2
    assert up.output.strip().startswith("manifold: cannot use the directory")
    assert len(up.output.strip().splitlines()) == 1
