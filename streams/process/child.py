"""A server as a child process that ends with its parent."""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from streams.errors import Fatal
from streams.process.disk import cannot_write, full_disk

FIRST_PORT, LAST_PORT = 20_000, 31_999
"""Ports to choose from; those for outgoing connections are left out."""
LOWEST_PORT, HIGHEST_PORT = 1_024, 65_535
EPHEMERAL_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
USUAL_EPHEMERAL = range(32_768, 61_000)
_PR_SET_PDEATHSIG = 1

log = logging.getLogger("manifold.process")


def ephemeral_ports(setting: Path = EPHEMERAL_PORTS) -> range:
    """Return the ports that this machine gives to outgoing connections.

    A server on such a port may find it in use whenever it is started again.

    Parameters
    ----------
    setting
        The kernel's file; where it cannot be read, the range is that of most Linux machines.
    """
    try:
        low, high = (int(text) for text in setting.read_text(encoding="ascii").split())
    except (OSError, ValueError):
        return USUAL_EPHEMERAL
    return range(low, high + 1)


def ephemeral_warning(named: Mapping[str, int], setting: Path = EPHEMERAL_PORTS) -> str:
    """Return a sentence about ports of servers that outgoing connections may take; empty without.

    Parameters
    ----------
    named
        Option or setting -> port.
    setting
        The kernel's file.
    """
    taken = ephemeral_ports(setting)
    shared = {name: port for name, port in named.items() if port in taken}
    if not shared:
        return ""
    return (
        f"{', '.join(f'{name} {port}' for name, port in shared.items())}: within the ports "
        f"{taken.start} to {taken.stop - 1} of outgoing connections ({setting}), any of which may "
        "hold it at the next start; choose a port outside, or reserve it (sysctl "
        f"net.ipv4.ip_local_reserved_ports={','.join(map(str, shared.values()))})"
    )


def free_port(ephemeral: range | None = None) -> int:
    """Return a free loopback port that no outgoing connection is given.

    Where this machine's range of outgoing connections leaves no port, one of it is returned and a
    warning is logged.

    Parameters
    ----------
    ephemeral
        Ports of outgoing connections; those of this machine by default.

    Raises
    ------
    Fatal
        No port is free.
    """
    taken = ephemeral_ports() if ephemeral is None else ephemeral
    usual, every = range(FIRST_PORT, LAST_PORT + 1), range(LOWEST_PORT, HIGHEST_PORT + 1)
    for ports in (usual, every):
        port = _free_of([each for each in ports if each not in taken])
        if port is not None:
            return port
    port = _free_of(list(usual))
    if port is None:
        raise Fatal(f"no free port between {FIRST_PORT} and {LAST_PORT}")
    log.warning(
        "port %d is one of the ports %d to %d of outgoing connections (%s), which leave no other: "
        "it may be in use when a server is started there again",
        *(port, taken.start, taken.stop - 1, EPHEMERAL_PORTS),
    )
    return port


def _free_of(ports: list[int]) -> int | None:
    random.shuffle(ports)
    return next((port for port in ports if port_is_free(port)), None)


def port_is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Return whether a server could listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def require_port(port: int, what: str) -> None:
    """Raise Fatal when the port is in use; the message names the server that needs it."""
    if not port_is_free(port):
        raise Fatal(f"port {port} is in use; {what} needs it: stop what uses it or choose another")


def require_space(directory: Path, mebibytes: int) -> None:
    """Raise Fatal when the directory cannot be created or its disk is full."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        found = os.statvfs(directory)
    except OSError as error:
        raise Fatal(f"cannot use the directory {directory}: {error.strerror}") from error
    if found.f_bavail * found.f_frsize < mebibytes * 1024 * 1024:
        raise Fatal(f"the disk of {directory} has less than {mebibytes} MiB left; free some space")


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies. For ``preexec_fn``."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Child:
    """A process in its own process group, with its output in a file.

    Parameters
    ----------
    name
        Name used in messages.
    command
        Program and arguments.
    log
        File to which stdout and stderr are appended.
    env
        Complete environment; the parent's when None.
    cwd
        Working directory.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.name, self.command, self.log = name, list(command), log
        self._env, self._cwd = env, cwd
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the current or last process."""
        if self._process is None:
            raise Fatal(f"{self.name} was not started")
        return self._process.pid

    @property
    def started(self) -> bool:
        """Whether the process was ever started."""
        return self._process is not None

    @property
    def returncode(self) -> int | None:
        """Exit code; None while it runs or before the start."""
        return None if self._process is None else self._process.poll()

    @property
    def running(self) -> bool:
        """Whether the process is running."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process.

        Raises
        ------
        Fatal
            The program does not exist or the log cannot be written.
        """
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self.log.open("ab") as out:
                self._process = subprocess.Popen(
                    self.command,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    env=None if self._env is None else dict(self._env),
                    cwd=self._cwd,
                    start_new_session=True,
                    preexec_fn=die_with_parent,
                )
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise cannot_write(self.log, error) from error
            raise Fatal(f"cannot start {self.name}: {error}") from error

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> None:
        """Wait until ``ready`` returns true.

        Raises
        ------
        Fatal
            The process ended, or the time limit has passed; the message has the last lines of
            output.
        """
        end = time.monotonic() + seconds
        while not ready():
            if not self.running:
                raise Fatal(f"{self.name} ended with code {self.returncode}: {self.last_output()}")
            if time.monotonic() > end:
                raise Fatal(
                    f"{self.name} was not ready after {seconds:.0f} s: {self.last_output()}"
                )
            time.sleep(0.05)

    def last_output(self, lines: int = 3) -> str:
        """Return the last lines of the output as one line; a full disk, which cuts it, is named."""
        try:
            text = self.log.read_bytes()[-4_000:].decode("utf-8", "replace")
        except OSError:
            return "(no output)"
        kept = [line.strip() for line in text.splitlines() if line.strip()]
        full = full_disk(self.log.parent)
        return " | ".join([*kept[-lines:], *([full] if full else [])]) or "(no output)"

    def stop(self, seconds: float = 20.0) -> int | None:
        """Stop the process: SIGTERM, then SIGKILL to its process group after a timeout."""
        if self._process is None:
            return None
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()
        self._kill_group()
        return self._process.returncode

    def kill(self) -> None:
        """Kill the process and its process group with SIGKILL."""
        self._kill_group()
        if self._process is not None:
            self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        os.kill(self.pid, number)

    def _kill_group(self) -> None:
        if self._process is not None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:
                return


def listens(port: int) -> bool:
    """Return whether a server accepts connections on the loopback port."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0
