"""Checks of this machine: Python and packages, compiler and engine, disk, ports."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Final, NamedTuple

from packaging.requirements import Requirement

from streams import __version__
from streams.checks import Finding, State
from streams.core import ENGINE_VERSION
from streams.process.cache_dir import cache_dir
from streams.process.child import port_is_free

PYTHON_LEAST: Final = (3, 11)
SHOWN: Final = ("faust-streaming", "aiokafka", "confluent-kafka", "cppyy", "redis", "numpy")
ENGINE_SEC: Final = 40.0
TRIAL: Final = """
from streams.core import analyze_bits, build_info
found = analyze_bits([0, 1] * 16)
told = build_info()
print(f"{found.coherence:.6f} {found.stability:g} {found.entropy:g} {found.rupture:g}")
print(told.compiler)
"""
TRIED: Final = "0.907868 1 0.05 0"
"""32 alternating bits (docs/spec/trading-loop.md 1.9)."""
GIB: Final = 1 << 30
LOW_DISK, FULL_DISK = 2 * GIB, GIB // 4


def versions() -> list[Finding]:
    """Check Python and the installed packages."""
    found = []
    if sys.version_info < PYTHON_LEAST:
        least = ".".join(map(str, PYTHON_LEAST))
        detail = f"Python {platform.python_version()} is older than {least}"
        found.append(Finding("versions", "fail", detail, f"install Python {least} or later"))
    wrong = _unmet()
    if wrong:
        action = "install again: pip install -e . (make install)"
        found.append(Finding("versions", "fail", "; ".join(wrong), action))
    shown = ", ".join(f"{name} {metadata.version(name)}" for name in SHOWN if _has(name))
    detail = (
        f"manifold {__version__}, engine {ENGINE_VERSION}, Python {platform.python_version()}, "
        f"{shown}"
    )
    return found or [Finding("versions", "ok", detail)]


def _has(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _unmet() -> list[str]:
    try:
        wanted = metadata.requires("manifold-streams") or []
    except metadata.PackageNotFoundError:
        return ["manifold-streams is not installed as a package"]
    unmet = []
    for requirement in map(Requirement, wanted):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            unmet.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            unmet.append(f"{requirement.name} is {version}, required {requirement.specifier}")
    return unmet


def engine() -> list[Finding]:
    """Check the compiler, and test the metrics core in a separate process."""
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        action = "install g++ (apt-get install g++): the metrics core is compiled at start"
        return [Finding("engine", "fail", "there is no C++ compiler", action)]
    try:
        done = subprocess.run(
            [sys.executable, "-c", TRIAL],
            capture_output=True,
            text=True,
            check=False,
            timeout=ENGINE_SEC,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        detail = f"the metrics core did not load within {ENGINE_SEC:g} s"
        return [Finding("engine", "fail", detail, "check the machine's load, and try again")]
    said = done.stdout.splitlines()
    if done.returncode != 0 or not said:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        reason = re.sub(r"^[\w.]*(Fatal|Error): ", "", last)[:300]
        action = "install g++, and reinstall cppyy and cppyy-backend for this Python"
        return [Finding("engine", "fail", f"the metrics core does not load: {reason}", action)]
    if said[0] != TRIED:
        detail = f"the metrics core computes {said[0]} for known bits, not {TRIED}"
        action = "do not trade with it: reinstall the package and cppyy"
        return [Finding("engine", "fail", detail, action)]
    compiled = said[1] if len(said) > 1 else "cppyy"
    detail = f"{ENGINE_VERSION} compiled by {compiled}; test computation correct"
    return [Finding("engine", "ok", detail)]


def disk(places: Mapping[str, Path] | None = None) -> list[Finding]:
    """Check the free disk space where this program writes.

    Parameters
    ----------
    places
        Description -> directory; default: data, jar cache, temporary files.
    """
    if places is None:
        places = {"data": Path(), "cache": cache_dir(), "temporary files": Path(_temporary())}
    found: list[Finding] = []
    free: dict[str, int] = {}
    for what, place in places.items():
        there = _existing(place)
        space = os.statvfs(there)
        free[what] = space.f_bavail * space.f_frsize
        if not os.access(there, os.W_OK):
            action = "allow this user to write there, or choose another place"
            found.append(Finding("disk", "fail", f"{there} ({what}) is not writable", action))
    shown = ", ".join(f"{what} {size / GIB:.1f} GiB" for what, size in free.items())
    least = min(free.values(), default=LOW_DISK)
    if least < LOW_DISK:
        state: State = "fail" if least < FULL_DISK else "warn"
        found.append(Finding("disk", state, f"little free space: {shown}", "free some space"))
    return found or [Finding("disk", "ok", f"free: {shown}")]


def _temporary() -> str:
    return os.environ.get("TMPDIR") or "/tmp"


def _existing(place: Path) -> Path:
    place = place.absolute()
    while not place.exists():
        place = place.parent
    return place


class Port(NamedTuple):
    """A port of a program of this deployment; 0 for none.

    Attributes
    ----------
    path
        Path that this program answers with a JSON object.
    """

    setting: str
    host: str
    number: int
    path: str


def ports(wanted: Iterable[Port]) -> list[Finding]:
    """Check the ports: each free, or used by a program of this deployment."""
    taken, held, free = [], [], []
    for port in wanted:
        if port.number == 0:
            continue
        if port_is_free(port.number, port.host):
            free.append(str(port.number))
        elif _is_ours(port):
            held.append(f"{port.setting}={port.number}")
        else:
            taken.append(f"{port.setting}={port.number} on {port.host}")
    if taken:
        action = "stop what uses it, or choose another"
        return [Finding("ports", "warn", f"in use by another program: {', '.join(taken)}", action)]
    words = [f"free: {', '.join(free)}"] if free else []
    words += [f"used by a program of this deployment: {', '.join(held)}"] if held else []
    return [Finding("ports", "ok", "; ".join(words) or "no port is configured")]


def _is_ours(port: Port) -> bool:
    address = "127.0.0.1" if port.host in ("0.0.0.0", "::", "") else port.host
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{address}:{port.number}{port.path}", timeout=2.0) as answer:
            return isinstance(json.loads(answer.read(1 << 20)), dict)
    except urllib.error.HTTPError as error:
        try:
            return isinstance(json.loads(error.read(1 << 20)), dict)
        except ValueError:
            return False
    except (OSError, ValueError):
        return False
