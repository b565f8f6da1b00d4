"""``manifold run``: the processes of one host of a deployment, supervised as one.

Processes that follow the log (workers, mirror, service) start first, with the warm-up; when that
has ended, feed and executor start. A warm-up that fails because a service is unavailable is retried
while they run: the executor has its own guards for opening, and must run to close. A process that
ends is restarted with back-off; one that refuses its settings (exit code 2) is restarted only after
SIGHUP, while the others run on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, NamedTuple

from streams.config.host import RunSettings
from streams.config.roles import FEED, ROLES, TRADE, WORKER, Role
from streams.config.runtime import Runtime
from streams.errors import Fatal
from streams.process.supervise import Supervised
from streams.stack.processes import program, reap_orphans, stop_in_order

Phase = Literal["starting", "warming up", "running", "stopping"]

WARMUP: Final = "warmup"
WARMUP_DONE: Final = (0, 1, 3)
"""Exit codes of a finished warm-up: all done; some pair differs; rows were refused."""
FIRST_PID: Final = 1


class Member(NamedTuple):
    """A process of the host."""

    name: str
    role: Role
    arguments: tuple[str, ...]
    env: Mapping[str, str]


def members_of(settings: RunSettings, env: Mapping[str, str]) -> list[Member]:
    """Return the processes of a host, in the order of the start.

    Parameters
    ----------
    settings
        Its roles.
    env
        The environment of all of them; several workers differ in name and port.
    """
    found: list[Member] = []
    for role in settings.roles:
        if role.name == WORKER and settings.run_workers > 1:
            found += _workers(role, settings.run_workers, env)
            continue
        command = role.command
        if role.name == FEED and settings.run_feed == "synthetic":
            command = ("feed", "synthetic", "--live")
        found.append(Member(role.name, role, command, env))
    return found


def _workers(role: Role, count: int, env: Mapping[str, str]) -> list[Member]:
    runtime = Runtime.from_env(env)
    made = []
    for number in range(1, count + 1):
        port = runtime.metrics_port + number - 1 if runtime.metrics_port else 0
        own = {"WORKER_ID": f"{runtime.worker_id}-{number}", "METRICS_PORT": str(port)}
        made.append(Member(f"{role.name}-{number}", role, role.command, {**env, **own}))
    return made


def warmup_arguments(settings: RunSettings) -> tuple[str, ...] | None:
    """Return the warm-up of a host; None if no role on it needs one.

    The host of the feed fills the log; that of the executor waits until all stages have caught up.
    """
    names = {role.name for role in settings.roles}
    if not settings.run_warmup or settings.run_feed != "oanda" or not names & {FEED, TRADE}:
        return None
    steps = "backfill,prime,hydrate" if FEED in names else "prime,hydrate"
    return ("warmup", "--steps", steps)


class Host:
    """Starts, supervises and stops the processes of a host.

    Parameters
    ----------
    settings
        Roles of this host.
    env
        The whole environment of the processes.
    write
        Called with every output line: name of the process and text.
    clock
        Monotonic seconds.
    """

    def __init__(
        self,
        settings: RunSettings,
        env: Mapping[str, str],
        write: Callable[[str, str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write, self._clock = write, clock
        self.members = members_of(settings, env)
        self.processes: dict[str, Supervised] = {}
        for member in self.members:
            self.processes[member.name] = self._program(member.name, member.arguments, member.env)
        arguments = warmup_arguments(settings)
        self._warmup: Supervised | None = None
        if arguments is not None:
            self._warmup = self._program(WARMUP, arguments, env, WARMUP_DONE)
        self.phase: Phase = "starting"
        self.warmup_words = "" if self._warmup else "none on this host"
        self._told: dict[str, str] = {}

    def _program(
        self,
        name: str,
        arguments: tuple[str, ...],
        env: Mapping[str, str],
        done_codes: tuple[int, ...] = (),
    ) -> Supervised:
        def line(text: str) -> None:
            self._write(name, text)

        return program(name, arguments, line, env, done_codes=done_codes)

    def start(self) -> None:
        """Start the processes that follow the log, and the warm-up; all processes without one.

        Raises
        ------
        Fatal
            A process cannot be started at all.
        """
        self._start(after_warmup=False)
        if self._warmup is None:
            self._start(after_warmup=True)
            self._enter("running", "all processes are started")
        else:
            self._warmup.start()
            self._enter("warming up", "feed and executor start after the warm-up")

    def _start(self, *, after_warmup: bool) -> None:
        for member in self.members:
            if member.role.after_warmup == after_warmup:
                self.processes[member.name].start()

    def poll(self) -> None:
        """Restart processes that ended; start those that waited for the warm-up.

        Raises
        ------
        Fatal
            Every process refuses its settings.
        """
        if os.getpid() == FIRST_PID:
            started = [p for p in self._all().values() if p.child.started]
            reap_orphans(p.child.pid for p in started)
        for name, process in self._all().items():
            if process.child.started:
                process.poll()
                self._tell(name, process)
        if self._warmup is not None and not self._warmup.child.running:
            code, words = self._warmup.child.returncode, self._warmup.child.last_output(1)
            self.warmup_words = "done" if code == 0 else f"ended with code {code}: {words}"
            if self.phase == "warming up":
                self._start(after_warmup=True)
                self._enter("running", f"the warm-up has ended ({self.warmup_words})")
        self._require_one()

    def _all(self) -> dict[str, Supervised]:
        warmup = {} if self._warmup is None else {WARMUP: self._warmup}
        return warmup | self.processes

    def _tell(self, name: str, process: Supervised) -> None:
        """Log once that a process has ended, or is running again."""
        said = "running" if process.child.running else "done" if process.done else "ended"
        if process.failed:
            said = "refused"
        before = self._told.get(name)
        self._told[name] = said
        if before is None or before == said or said == "done":
            return  # the end of the warm-up is logged with its consequence
        if said == "running":
            self._write("run", f"{name} is restarted (restart {process.restarts})")
        elif said == "refused":
            self._write(
                "run",
                f"{name} refuses to run and is not restarted before SIGHUP: "
                f"{process.child.last_output(1)}",
            )
        else:
            self._write("run", f"{name} {process.state}")

    def _require_one(self) -> None:
        started = {n: p for n, p in self.processes.items() if p.child.started}
        if started and all(p.failed for p in started.values()) and self.phase == "running":
            name, process = next(iter(started.items()))
            raise Fatal(f"the {name} refuses to run: {process.child.last_output(1)}")

    def retry(self) -> None:
        """Restart processes that refused their settings, after SIGHUP."""
        for name, process in self._all().items():
            if process.failed:
                self._write("run", f"{name} is retried")
                process.start()
                self._told[name] = "running"

    def stop(self) -> None:
        """Stop all processes, writers before readers."""
        self._enter("stopping", "a signal to stop was received")
        roles = {member.name: member.role.name for member in self.members}
        stop_in_order(self._all(), roles)
        self._write("run", "all processes have ended")

    def _enter(self, phase: Phase, words: str) -> None:
        self.phase = phase
        self._write("run", f"{phase}: {words}")

    @property
    def well(self) -> bool:
        """Whether all processes run."""
        return self.phase == "running" and all(p.child.running for p in self.processes.values())

    def status(self) -> dict[str, Any]:
        """Return the state of the processes, for ``/status``."""
        return {
            "phase": self.phase,
            "well": self.well,
            "warmup": self.warmup_words or self._warmup_state(),
            "processes": [self._status_of(member) for member in self.members],
        }

    def _warmup_state(self) -> str:
        return "" if self._warmup is None else self._warmup.state

    def _status_of(self, member: Member) -> dict[str, Any]:
        process = self.processes[member.name]
        running = process.child.running
        state = process.state if process.child.started else "waits for the warm-up"
        return {
            "name": member.name,
            "role": member.role.name,
            "running": running,
            "state": state,
            "pid": process.child.pid if running else None,
            "restarts": process.restarts,
            "up_sec": round(self._clock() - process.started_at, 1) if running else 0.0,
            "last_line": process.child.last_output(1),
        }


def role_lines() -> list[str]:
    """Return the roles for a help text."""
    return [f"{name}: {role.content}" for name, role in ROLES.items()]
