"""``manifold run``: which processes, in which order, and what becomes of those that end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from streams.config.host import RunSettings
from streams.config.roles import DEFAULT_ROLES, ROLES, roles_of
from streams.errors import Fatal
from streams.process.child import Child, free_port
from streams.process.logged_child import LoggedChild
from streams.process.service_manager import ServiceManager
from streams.process.supervise import BACK_OFF_S, Supervised
from streams.stack import host as host_module
from streams.stack import processes
from streams.stack.host import Host, members_of, warmup_arguments
from streams.stack.host_page import HostPage
from tests.support.waiting import until

ALL = ("worker", "mirror", "serve", "feed", "trade")


def settings(**env: str) -> RunSettings:
    return RunSettings.from_env(env)


class Scripted(Child):
    """A process that is there until a test ends it."""

    def __init__(self, name: str, ended: list[str]) -> None:
        super().__init__(f"the {name}", [], Path("/dev/null"))
        self._name, self._ended = name, ended
        self._code: int | None = None
        self.starts = 0

    @property
    def pid(self) -> int:
        return 4_000 + self.starts

    @property
    def started(self) -> bool:
        return self.starts > 0

    @property
    def returncode(self) -> int | None:
        return self._code

    @property
    def running(self) -> bool:
        return self.starts > 0 and self._code is None

    def start(self) -> None:
        self.starts, self._code = self.starts + 1, None

    def end(self, code: int) -> None:
        """Let it end."""
        self._code = code

    def signal(self, number: signal.Signals) -> None:
        assert number == signal.SIGTERM
        self._ended.append(self._name)
        self._code = 0

    def stop(self, seconds: float = 20.0) -> int | None:
        return self._code

    def last_output(self, lines: int = 3) -> str:
        return f"{self._name} said so"


class Bench:
    """A host whose processes and clock are the test's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **env: str) -> None:
        self.now, self.ended, self.log = 0.0, [], []  # type: ignore[var-annotated]
        self.children: dict[str, Scripted] = {}

        def program(
            name: str, arguments: Any, output: Any, env: Any, *, done_codes: Any = ()
        ) -> Supervised:
            self.children[name] = Scripted(name, self.ended)
            return Supervised(self.children[name], clock=lambda: self.now, done_codes=done_codes)

        monkeypatch.setattr(host_module, "program", program)
        self.host = Host(
            settings(**env), {}, lambda name, text: self.log.append(f"{name}: {text}"),
            lambda: self.now,
        )  # fmt: skip

    def running(self) -> set[str]:
        return {name for name, child in self.children.items() if child.running}

    def pass_time(self, seconds: float) -> None:
        """Let time go by, looking as often as the supervisor does."""
        for _ in range(int(seconds / 0.25)):
            self.now += 0.25
            self.host.poll()


def test_roles_are_named_in_any_order_and_start_in_theirs() -> None:
    assert [role.name for role in roles_of(["trade", " Feed", "worker"])] == [
        *("worker", "feed", "trade")
    ]
    assert {role.name for role in settings().roles} == set(DEFAULT_ROLES)
    assert set(DEFAULT_ROLES) == ROLES.keys() - {"keep"}


@pytest.mark.parametrize("text", ["feeds", "worker,tarde", ",", " "])
def test_a_role_that_is_none_is_refused_with_those_there_are(text: str) -> None:
    if not text.strip(", "):
        with pytest.raises(Fatal, match="none is named"):
            roles_of(text.split(","))
        return
    with pytest.raises(Fatal, match=r"unknown: (feeds|tarde); the roles are worker, mirror"):
        settings(RUN_ROLES=text)


def test_several_workers_have_names_and_ports_of_their_own() -> None:
    env = {"WORKER_ID": "box", "METRICS_PORT": "9200", "OTHER": "x"}
    found = members_of(settings(RUN_ROLES="worker,mirror", RUN_WORKERS="3"), env)
    assert [member.name for member in found] == ["worker-1", "worker-2", "worker-3", "mirror"]
    assert [m.env["WORKER_ID"] for m in found] == ["box-1", "box-2", "box-3", "box"]
    assert [m.env["METRICS_PORT"] for m in found] == ["9200", "9201", "9202", "9200"]
    assert all(member.env["OTHER"] == "x" for member in found)
    off = members_of(settings(RUN_ROLES="worker", RUN_WORKERS="2"), {"METRICS_PORT": "0"})
    assert {member.env["METRICS_PORT"] for member in off} == {"0"}
    (one,) = members_of(settings(RUN_ROLES="worker"), env)
    assert (one.name, one.env) == ("worker", env)


def test_the_feed_is_oandas_or_a_rehearsal() -> None:
    for feed, wanted in (
        ("oanda", ("feed", "oanda")),
        ("synthetic", ("feed", "synthetic", "--live")),
    ):
        (found,) = members_of(settings(RUN_ROLES="feed", RUN_FEED=feed), {})
        assert found.arguments == wanted


@pytest.mark.parametrize(
    ("env", "steps"),
    [
        ({}, "backfill,prime,hydrate"),
        ({"RUN_ROLES": "feed"}, "backfill,prime,hydrate"),
        ({"RUN_ROLES": "trade,worker"}, "prime,hydrate"),
        ({"RUN_ROLES": "worker,mirror,serve"}, None),
        ({"RUN_WARMUP": "0"}, None),
        ({"RUN_FEED": "synthetic"}, None),
    ],
)
def test_the_host_of_the_feed_fills_the_log_and_that_of_the_executor_waits(
    env: Mapping[str, str], steps: str | None
) -> None:
    wanted = None if steps is None else ("warmup", "--steps", steps)
    assert warmup_arguments(settings(**env)) == wanted


def test_feed_and_executor_start_when_the_warm_up_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(monkeypatch)
    bench.host.start()
    bench.pass_time(3_600)
    assert bench.running() == {"warmup", "worker", "mirror", "serve"}
    assert bench.host.phase == "warming up" and not bench.host.well
    waits = {p["name"]: p["state"] for p in bench.host.status()["processes"]}
    assert waits["feed"] == waits["trade"] == "waits for the warm-up"
    bench.children["warmup"].end(0)
    bench.pass_time(1)
    assert bench.running() == set(ALL)
    assert bench.host.well and bench.host.status()["warmup"] == "done"
    bench.pass_time(3_600)
    assert bench.children["warmup"].starts == 1, "it is done"


@pytest.mark.parametrize("code", [1, 3])
def test_a_warm_up_that_found_something_is_over_and_its_words_are_shown(
    monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    bench = Bench(monkeypatch)
    bench.host.start()
    bench.children["warmup"].end(code)
    bench.pass_time(120)
    assert bench.running() == set(ALL) and bench.children["warmup"].starts == 1
    assert bench.host.status()["warmup"] == f"ended with code {code}: warmup said so"


def test_a_warm_up_that_something_away_holds_up_does_not_hold_up_the_executor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(monkeypatch)
    bench.host.start()
    bench.children["warmup"].end(75)
    bench.pass_time(0.5)
    assert bench.running() == set(ALL)
    bench.pass_time(2)
    assert bench.children["warmup"].starts == 2 and "warmup" in bench.running()
    bench.children["warmup"].end(0)
    bench.pass_time(1)
    assert bench.host.status()["warmup"] == "done" and bench.children["feed"].starts == 1


def test_without_a_warm_up_everything_starts_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, RUN_WARMUP="0")
    bench.host.start()
    assert bench.running() == set(ALL) and bench.host.well
    assert bench.host.status()["warmup"] == "none on this host"


def test_what_ends_is_started_again_with_longer_pauses_and_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(monkeypatch, RUN_WARMUP="0")
    bench.host.start()
    bench.pass_time(1)
    for number, pause_s in enumerate(BACK_OFF_S, 1):
        bench.children["worker"].end(70)
        bench.pass_time(pause_s)
        assert "worker" not in bench.running()
        assert not bench.host.well
        bench.pass_time(0.5)
        assert "worker" in bench.running()
        assert bench.host.processes["worker"].restarts == number
    assert bench.running() == set(ALL), "nobody else is disturbed"
    ends = [line for line in bench.log if line.startswith("run: worker ended with code 70")]
    starts = [line for line in bench.log if line.startswith("run: worker is restarted")]
    assert len(ends) == len(starts) == len(BACK_OFF_S)


def test_who_refuses_its_settings_stays_down_alone_until_it_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(monkeypatch, RUN_WARMUP="0")
    bench.host.start()
    bench.pass_time(1)
    bench.children["feed"].end(2)
    bench.pass_time(600)
    assert bench.running() == set(ALL) - {"feed"} and not bench.host.well
    said = [line for line in bench.log if "refuses to run" in line]
    assert len(said) == 1 and "feed said so" in said[0]
    bench.host.retry()
    bench.pass_time(1)
    assert bench.running() == set(ALL) and bench.host.well


def test_when_every_process_refuses_the_run_ends_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(monkeypatch, RUN_ROLES="worker,mirror")
    bench.host.start()
    bench.children["worker"].end(2)
    bench.pass_time(1)
    bench.children["mirror"].end(2)
    with pytest.raises(Fatal, match="the worker refuses to run: worker said so"):
        bench.pass_time(1)


def test_writers_end_before_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, RUN_WORKERS="2")
    bench.host.start()
    bench.children["warmup"].end(0)
    bench.pass_time(1)
    bench.children["serve"].end(1)
    bench.host.stop()
    assert set(bench.ended[:2]) == {"feed", "trade"}
    assert set(bench.ended[2:4]) == {"worker-1", "worker-2"}
    assert bench.ended[4:] == ["mirror"], "one that had ended is told nothing"
    assert bench.host.phase == "stopping"


def test_a_process_that_does_not_go_is_killed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(processes, "LEAVE_WITHIN_S", 0.5)
    script = (
        "import signal,time;signal.signal(15,signal.SIG_IGN);print('up',flush=True);time.sleep(600)"
    )
    lines: list[str] = []
    child = LoggedChild("the deaf one", [sys.executable, "-c", script], lines.append)
    process = Supervised(child)
    process.start()
    until(lambda: lines == ["up"])
    processes.stop_in_order({"x": process}, {"x": "worker"})
    assert not child.running and child.returncode == -signal.SIGKILL


def test_the_output_of_a_child_is_one_log(tmp_path: Path) -> None:
    lines: list[str] = []
    script = "import sys;print('one');print('two',file=sys.stderr);print();print('three \\u20ac')"
    command = [sys.executable, "-u", "-c", script]
    child = LoggedChild("the child", command, lines.append, env={"PYTHONIOENCODING": "utf-8"})
    child.start()
    until(lambda: not child.running)
    assert child.last_output() == "one | two | three \u20ac"
    assert lines == ["one", "two", "three \u20ac"]


def test_a_program_that_is_not_there_is_one_sentence() -> None:
    child = LoggedChild("the worker", ["/no/such/program"], print)
    with pytest.raises(Fatal, match="cannot start the worker"):
        child.start()


ORPHANS = """
import ctypes, os, subprocess, sys, time
sys.path.insert(0, sys.argv[1])
from streams.stack.processes import reap_orphans
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # orphans come to this process, as to process 1
kept = subprocess.Popen([sys.executable, "-c", "pass"])
subprocess.run([sys.executable, "-c", "import os\\nif not os.fork(): os._exit(3)"])
end, count = time.monotonic() + 60, 0
while count < 1 and time.monotonic() < end:
    count += reap_orphans([kept.pid])
    if kept.poll() is None:
        time.sleep(0.05)
print(count, kept.wait())
"""


def test_process_1_collects_what_its_processes_leave_behind() -> None:
    root = str(Path(__file__).resolve().parents[3])
    done = subprocess.run(
        [sys.executable, "-c", ORPHANS, root], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["1", "0"], "the orphan, and the code of a child of ours"


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_one_status_tells_of_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, port = Bench(monkeypatch, RUN_WARMUP="0"), free_port()
    page = HostPage("127.0.0.1", port)
    try:
        assert get(port, "/healthz")[0] == 503, "before anything runs"
        bench.host.start()
        page.show(bench.host.status())
        code, text = get(port, "/status")
        found = {one["name"]: one for one in json.loads(text)["processes"]}
        assert code == 200 and found.keys() == set(ALL)
        assert all(one["running"] and one["pid"] for one in found.values())
        assert get(port, "/healthz")[0] == 200
        bench.children["trade"].end(70)
        bench.pass_time(2)
        bench.children["feed"].end(70)
        bench.pass_time(0.25)
        page.show(bench.host.status())
        assert get(port, "/healthz")[0] == 503
        metrics = get(port, "/metrics")[1]
        assert 'manifold_process_running{process="feed"} 0.0' in metrics
        assert 'manifold_process_running{process="trade"} 1.0' in metrics
        assert 'manifold_process_restarts{process="trade"} 1.0' in metrics
        assert get(port, "/nothing")[0] == 404
        with pytest.raises(Fatal, match=f"RUN_STATUS_PORT={port}"):
            HostPage("127.0.0.1", port)
    finally:
        page.close()


def test_without_a_port_there_is_no_page() -> None:
    HostPage("127.0.0.1", 0).close()


@pytest.mark.parametrize(
    "name", [lambda path: str(path), lambda path: f"@{path.name}-{os.getpid()}"]
)
def test_systemd_is_told(tmp_path: Path, name: Callable[[Path], str]) -> None:
    address = name(tmp_path / "notify")
    bound = f"\0{address[1:]}" if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(bound)
        told.settimeout(60)
        manager = ServiceManager({"NOTIFY_SOCKET": address})
        assert manager.tell(READY=1, STATUS="running; not running: none")
        assert told.recv(1_000) == b"READY=1\nSTATUS=running; not running: none"
    assert not manager.tell(WATCHDOG=1), "who asked is gone: nothing happens"
    assert not ServiceManager({}).tell(READY=1)
