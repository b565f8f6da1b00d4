"""The processes of the product on one machine, for the local stack and for a host of a cluster."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from streams.config.roles import ROLES
from streams.process.child import Child
from streams.process.logged_child import LoggedChild
from streams.process.supervise import Supervised

LEAVE_WITHIN_S: Final = 20.0
"""Seconds a process may take to end; then it is killed."""
_LOOK_S: Final = 0.05


def program(
    name: str,
    arguments: Sequence[str],
    output: Path | Callable[[str], None],
    env: Mapping[str, str],
    *,
    done_codes: Iterable[int] = (),
) -> Supervised:
    """Return a command of the product as a process that is restarted; it is not started yet.

    Parameters
    ----------
    name
        Name in messages.
    arguments
        Of ``manifold``.
    output
        File for its output, or a callback for every line of it.
    env
        Its whole environment.
    done_codes
        Exit codes after which it is not restarted.
    """
    command = [sys.executable, "-m", "streams", *arguments]
    title = f"the {name}"
    child: Child
    if isinstance(output, Path):
        child = Child(title, command, output, env=env)
    else:
        child = LoggedChild(title, command, output, env=env)
    return Supervised(child, done_codes=done_codes)


def stop_in_order(processes: Mapping[str, Supervised], role_of: Mapping[str, str]) -> None:
    """Stop processes: writers before readers, those of one rank at the same time.

    Parameters
    ----------
    processes
        Name -> process.
    role_of
        Name -> role; processes without one end first.
    """
    ranks: dict[int, list[Supervised]] = {}
    for name, process in processes.items():
        role = ROLES.get(role_of.get(name, ""))
        ranks.setdefault(-1 if role is None else role.ends, []).append(process)
    for rank in sorted(ranks):
        _stop_together(ranks[rank])


def _stop_together(processes: Sequence[Supervised]) -> None:
    for process in processes:
        process.forget()
        if process.child.running:
            process.child.signal(signal.SIGTERM)
    end = time.monotonic() + LEAVE_WITHIN_S
    while any(p.child.running for p in processes) and time.monotonic() < end:
        time.sleep(_LOOK_S)
    for process in processes:
        if process.child.running:
            process.child.kill()
        process.stop()


def reap_orphans(known: Iterable[int]) -> int:
    """Reap ended orphan processes; return their number.

    As process 1 of a container this one inherits the children of processes that ended.

    Parameters
    ----------
    known
        Process ids that other code waits for.
    """
    kept, count = set(known), 0
    while True:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return count
        if found is None or found.si_pid in kept:
            return count
        os.waitpid(found.si_pid, 0)
        count += 1
