"""``manifold run``."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from types import FrameType
from typing import Any

import click

from streams.cli import read_env_file_option
from streams.cli.output import echo
from streams.config.host import RunSettings
from streams.config.roles import ROLES
from streams.config.runtime import Runtime
from streams.config.status_ports import status_headers
from streams.errors import Fatal, Recoverable
from streams.process.service_manager import ServiceManager
from streams.stack.host import Host
from streams.stack.host_page import HostPage

POLL_S = 0.25
TELL_EVERY_S = 5.0
ANSWER_S = 5.0
_ROLE_LINES = "\n".join(f"  {name:<7} {role.content}" for name, role in ROLES.items())


@click.command(
    epilog="\b\nRoles, in the order of the start (feed and trade after the warm-up):\n"
    + _ROLE_LINES
)
@click.option("--roles", help="Run these roles, comma separated.  [env: RUN_ROLES; default: "
"feed,worker,mirror,serve,trade]")  # fmt: skip
@click.option(
    "--workers",
    type=int,
    help="Set the number of worker processes.  [env: RUN_WORKERS; default: 1]",
)
@click.option(
    "--feed",
    type=click.Choice(["oanda", "synthetic"]),
    help="Select the feed.  [env: RUN_FEED; default: oanda]",
)
@click.option(
    "--no-warmup",
    is_flag=True,
    help="Start all roles at once, without the warm-up.  [env: RUN_WARMUP=0]",
)
@click.option("--status", "show", is_flag=True, help="Show the processes of this host, then exit.")
@click.option("--json", "as_json", is_flag=True, help="Print /status as JSON; with --status only.")
@read_env_file_option("--env-file", "--from-file")
def run(
    roles: str | None,
    workers: int | None,
    feed: str | None,
    no_warmup: bool,
    show: bool,
    as_json: bool,
) -> None:
    """Run the processes of a host: start them in order, restart them, merge their output.

    Processes that only follow the log start first, then the warm-up runs (manifold warmup), then
    feed and executor start. A process that ends is restarted after 1, 2, 4, ... 30 s; one that
    refuses its settings at its first start stays down until SIGHUP, while the others run on.
    SIGTERM and Ctrl-C end all processes, feed and executor first. Roles may be spread over hosts; a
    deployment has one feed and one trade, and about as many workers as there are cores.

    /status, /healthz (503 unless all runs) and /metrics are on RUN_STATUS_PORT (8130); every line
    on standard output begins with the name of its process. A systemd unit is in deploy/systemd.

    Exit codes: 0 stopped by a signal; 2 every process refuses its settings. With --status: 0 all
    processes run, 1 one does not, 75 no answer.

    \b
    Examples:
      manifold run --env-file live.env
      manifold run --roles worker,mirror --workers 4
      manifold run --status
    """
    given = {
        "RUN_ROLES": roles,
        "RUN_WORKERS": workers,
        "RUN_FEED": feed,
        "RUN_WARMUP": 0 if no_warmup else None,
    }
    os.environ.update({name: str(value) for name, value in given.items() if value is not None})
    settings, runtime = RunSettings.from_env(), Runtime.from_env()
    if show:
        sys.exit(_show(runtime, settings, as_json))
    stopping, again = threading.Event(), threading.Event()

    def stop(_: int, __: FrameType | None) -> None:
        stopping.set()

    def hang_up(_: int, __: FrameType | None) -> None:
        again.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    signal.signal(signal.SIGHUP, hang_up)
    page = HostPage(runtime.metrics_host, settings.run_status_port)
    width = max(len(name) for name in ROLES)
    log = _Log(max(width, len(f"worker-{settings.run_workers}")))
    host = Host(settings, os.environ, log.write)
    try:
        _supervise(host, log, page, stopping, again)
    finally:
        host.stop()
        page.close()


class _Log:
    """Writes whole lines to standard output from several threads.

    Where standard output is a file on a full disk, lines are lost and counted: the processes of the
    host must go on, and one whose output is not read would stand still.
    """

    def __init__(self, width: int) -> None:
        self._width, self._lock = width, threading.Lock()
        self.lost_lines, self.lost_why = 0, ""
        self._told = 0

    def write(self, name: str, text: str) -> None:
        with self._lock:
            try:
                if self.lost_lines > self._told:
                    self._line("run", f"{self.lost_lines - self._told} lines were lost before this")
                    self._told = self.lost_lines
                self._line(name, text)
            except (Fatal, Recoverable) as error:
                self.lost_lines, self.lost_why = self.lost_lines + 1, str(error)

    def _line(self, name: str, text: str) -> None:
        if name == "run":
            text = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC {text}"
        echo(f"{name:<{self._width}} | {text}")


def _supervise(
    host: Host, log: _Log, page: HostPage, stopping: threading.Event, again: threading.Event
) -> None:
    manager, ready, told_at = ServiceManager(), False, 0.0
    host.start()
    while not stopping.is_set():
        host.poll()
        if again.is_set():
            again.clear()
            host.retry()
        status = host.status()
        lost = {"lost_lines": log.lost_lines, "lost_why": log.lost_why}
        page.show(status | lost | {"ts_ms": int(time.time() * 1000)})
        if not ready and host.phase == "running":
            ready = manager.tell(READY=1)
        if time.monotonic() - told_at > TELL_EVERY_S:
            told_at = time.monotonic()
            down = [p["name"] for p in status["processes"] if not p["running"]]
            words = f"{host.phase}; not running: {', '.join(down) or 'none'}"
            manager.tell(WATCHDOG=1, STATUS=words)
        stopping.wait(POLL_S)
    manager.tell(STOPPING=1)


def _show(runtime: Runtime, settings: RunSettings, as_json: bool) -> int:
    host = "127.0.0.1" if runtime.metrics_host in ("0.0.0.0", "::") else runtime.metrics_host
    url = f"http://{host}:{settings.run_status_port}/status"
    try:
        asked = urllib.request.Request(url, headers=status_headers(url))
        with urllib.request.urlopen(asked, timeout=ANSWER_S) as answer:
            status: dict[str, Any] = json.load(answer)
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise Recoverable(f"no manifold run answers at {url} (RUN_STATUS_PORT): {error}") from error
    if as_json:
        echo(json.dumps(status))
    else:
        for line in host_lines(status):
            echo(line)
    return 0 if status["well"] else 1


def host_lines(status: dict[str, Any]) -> list[str]:
    """Return the status of a host as text."""
    lines = [f"{status['phase']}; warm-up: {status.get('warmup') or 'running'}"]
    for one in status["processes"]:
        pid = f"pid {one['pid']}" if one["pid"] else "-"
        lines.append(
            f"  {one['name']:<10} {pid:<12} up {one['up_sec']:>8.0f} s  "
            f"restarts {one['restarts']:<3} {one['state']}"
        )
    return lines
