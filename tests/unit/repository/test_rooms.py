"""The structure of the package: which room may import which, and who holds which library."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

ROOMS = (
    "errors",
    "instants",
    "printable",
    "instruments",
    "intervals",
    "checks",
    "process",
    "config",
    "core",
    "records.avro",
    "records",
    "candles",
    "kafka",
    "pipeline",
    "pipeline.worker",
    "oanda",
    "feeds",
    "replay.report",
    "replay",
    "replay.verify",
    "replay.calibrate",
    "mirror",
    "trading.kill_switch",
    "trading.brokers",
    "trading",
    "migration",
    "monitoring",
    "monitoring.doctor",
    "monitoring.warmup",
    "service",
    "stack",
    "cli",
    "__main__",
)
"""In the order of the data flow: a room imports only rooms that stand above it."""

MOST_LINES = 400

HOLDERS = {
    "cppyy": {"core"},
    "faust": {"pipeline.worker"},
    "redis": {"mirror", "trading.kill_switch"},
    "confluent_kafka": {"kafka", "pipeline.worker"},
    "aiokafka": {"kafka", "pipeline.worker"},
}
"""Library -> the rooms that may import it."""


@cache
def modules() -> Mapping[str, Path]:
    """Return every module of the package by its name without ``streams.``."""
    found = {}
    for path in sorted((ROOT / "streams").rglob("*.py")):
        parts = path.relative_to(ROOT / "streams").with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports(module: str) -> frozenset[str]:
    """Return the names of all modules that a module imports, in functions and for types too."""
    found = set()
    for node in ast.walk(ast.parse(modules()[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import"
            base = node.module or ""
            for alias in node.names:
                name = f"{base}.{alias.name}"
                found.add(name if name.removeprefix("streams.") in modules() else base)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "importlib.import_module":
            found |= {a.value for a in node.args if isinstance(a, ast.Constant)}
    return frozenset(found)


def own_imports(module: str) -> frozenset[str]:
    """Return what a module imports of this package, without ``streams.``."""
    ours = {name for name in imports(module) if name.startswith("streams.")}
    return frozenset(name.removeprefix("streams.") for name in ours) - {module}


def room_of(module: str) -> str:
    """Return the room of a module: the longest entry of the list that it lies in."""
    parts = module.split(".")
    names = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next(name for name in names if name in ROOMS)


def circle(arrows: Mapping[str, frozenset[str]]) -> list[str]:
    """Return one circle of a graph, or nothing."""
    done: set[str] = set()
    path: list[str] = []

    def visit(name: str) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        path.append(name)
        for other in sorted(arrows.get(name, ())):
            if found := visit(other):
                return found
        path.pop()
        done.add(name)
        return []

    for name in sorted(arrows):
        if found := visit(name):
            return found
    return []


def test_every_module_lies_in_a_room() -> None:
    for module in modules():
        assert not module or room_of(module)
    rooms = {room_of(module) for module in modules() if module}
    assert rooms == set(ROOMS), "a room of the list is empty"


def test_a_room_imports_only_rooms_above_it() -> None:
    upwards = [
        f"{module} -> {other}"
        for module in modules()
        if module
        for other in sorted(own_imports(module))
        if ROOMS.index(room_of(other)) > ROOMS.index(room_of(module))
    ]
    assert not upwards, "\n".join(upwards)


def test_there_are_no_circles_of_modules() -> None:
    assert not circle({module: own_imports(module) for module in modules()})


def test_there_are_no_circles_of_packages() -> None:
    def package(module: str) -> str:
        return module if modules()[module].name == "__init__.py" else module.rpartition(".")[0]

    arrows: dict[str, frozenset[str]] = {}
    for module in modules():
        others = frozenset(package(other) for other in own_imports(module)) - {package(module)}
        if package(module):  # what lies at the top is no package
            arrows[package(module)] = arrows.get(package(module), frozenset()) | others - {""}
    assert not circle(arrows)


def _held_elsewhere(library: str) -> Iterator[str]:
    for module in modules():
        if not module or room_of(module) in HOLDERS[library]:
            continue
        if any(name.split(".")[0] == library for name in imports(module)):
            yield module


@pytest.mark.parametrize("library", HOLDERS)
def test_a_library_stays_in_its_rooms(library: str) -> None:
    assert list(_held_elsewhere(library)) == []


def test_no_module_is_too_long() -> None:
    lengths = {
        module: len(path.read_text(encoding="utf-8").splitlines())
        for module, path in modules().items()
    }
    assert {module: length for module, length in lengths.items() if length > MOST_LINES} == {}
