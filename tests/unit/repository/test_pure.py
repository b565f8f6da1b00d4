"""The pure packages: no clock, no chance, no I/O, no order that is none, no library arithmetic.

What a step computes must be the same on every machine and at every time, so what could make a
difference is not allowed to be there at all.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = ROOT / "streams"
# what opens the chain of a deployment, reads its history from the log, and runs it in memory
RUNNING = {"chain.py", "history.py", "memory.py"}
PIPELINE = sorted(p for p in (PACKAGE / "pipeline").glob("*.py") if p.name not in RUNNING)
CORE = sorted((PACKAGE / "core").glob("*.py"))
# what the stages compute with, outside their package
ALSO_PURE = [
    PACKAGE / f"{name}.py"
    for name in (
        *("instants", "intervals", "config/holidays", "config/difference", "feeds/plan"),
        *("records/audit", "records/config_change", "records/control", "records/events"),
        *("records/kill_switch", "records/log_record", "records/reasons", "records/trading_events"),
        *("candles/calendar", "candles/freshness", "candles/market_clock", "candles/rules"),
        *("candles/sessions", "candles/zones", "migration/plan", "migration/translate"),
        "trading/kill_switch/lease",
    )
]
# judging what is known of a running deployment: the caller says what time it is
JUDGES = [
    PACKAGE / "monitoring" / f"{name}.py"
    for name in (
        *("alert_rules_config", "alert_rules_stream", "alert_rules_trading", "alerts", "facts"),
        *("orders", "preflight", "verdict", "warmup/warm_state"),
    )
]

MODULES = {
    *("time", "random", "secrets", "uuid", "os", "io", "socket", "subprocess", "threading"),
    *("multiprocessing", "asyncio", "tempfile", "pathlib", "shutil", "select", "ssl", "http"),
    *("urllib", "requests", "aiohttp", "aiokafka", "confluent_kafka", "faust", "redis", "cppyy"),
    *("scipy", "pandas", "statistics", "cmath", "logging", "locale", "platform", "ctypes"),
}
CALLS = {
    *("open", "input", "print", "eval", "exec", "compile", "__import__", "hash", "id", "globals"),
}
METHODS = {
    *("now", "utcnow", "today", "monotonic", "perf_counter", "time_ns", "urandom", "getenv"),
    *("read_text", "read_bytes", "write_text", "write_bytes", "open"),
}
TRANSCENDENTAL = {
    *("exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "pow", "sin", "cos", "tan", "asin"),
    *("acos", "atan", "atan2", "sinh", "cosh", "tanh", "erf", "erfc", "gamma", "lgamma", "hypot"),
    *("cbrt", "dist", "arctan", "arcsin", "arccos", "power", "sumprod"),
}
REDUCTIONS = {
    *("sum", "mean", "std", "var", "dot", "prod", "cumsum", "cumprod", "average", "median"),
    *("nansum", "nanmean", "nanstd", "percentile", "quantile", "corrcoef", "cov", "inner", "vdot"),
    *("matmul", "einsum", "trapezoid", "norm"),
}
FORBIDDEN = TRANSCENDENTAL | REDUCTIONS
# the engine's door converts arrays and reads its own sources; it decides nothing
CORE_MODULES = {"os", "io", "pathlib", "ctypes", "cppyy", "tempfile", "shutil", "threading"}


def imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield node.module or ""


def names_from_math(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in ("math", "numpy"):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield from [node.attr] * (node.value.id in ("math", "np", "numpy"))


def is_set(node: ast.AST) -> bool:
    """A set by its looks: a display, a comprehension, or made by ``set`` or ``frozenset``."""
    if isinstance(node, (ast.Set, ast.SetComp)):
        return True
    if isinstance(node, ast.BinOp):
        return is_set(node.left) or is_set(node.right)
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("set", "frozenset")
    )


def set_iterations(tree: ast.AST) -> Iterator[int]:
    """Lines on which something that is a set by its looks is gone through in its own order."""
    named = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value and is_set(node.value)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }

    def unordered(node: ast.AST) -> bool:
        return is_set(node) or (isinstance(node, ast.Name) and node.id in named)

    for node in ast.walk(tree):
        if isinstance(node, ast.For) and unordered(node.iter):
            yield node.lineno
        if isinstance(node, (ast.ListComp, ast.GeneratorExp, ast.DictComp)):
            yield from (node.lineno for made in node.generators if unordered(made.iter))
        if isinstance(node, ast.Call) and any(unordered(a) for a in node.args):
            function = node.func.id if isinstance(node.func, ast.Name) else ""
            if function in ("list", "tuple", "iter", "enumerate", "zip", "map", "filter", "sum"):
                yield node.lineno
        if isinstance(node, ast.Starred) and unordered(node.value):
            yield node.lineno


def faults(source: str, modules: set[str]) -> list[str]:
    """What a pure module may not have, with its line."""
    tree = ast.parse(source)
    found = []
    for node in ast.walk(tree):
        for name in imported(node):
            if name.split(".")[0] in modules:
                found.append(f"line {getattr(node, 'lineno', 0)}: import of {name}")
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in CALLS:
                found.append(f"line {node.lineno}: {node.func.id}()")
            if isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
                found.append(f"line {node.lineno}: .{node.func.attr}()")
        if isinstance(node, ast.Global):
            found.append(f"line {node.lineno}: global")
    found += [f"{name} of a math library" for name in names_from_math(tree) if name in FORBIDDEN]
    found += [f"line {line}: a set gone through in its own order" for line in set_iterations(tree)]
    return found


@pytest.mark.parametrize("path", PIPELINE, ids=lambda path: path.name)
def test_a_stage_is_pure(path: Path) -> None:
    assert faults(path.read_text(encoding="utf-8"), MODULES) == []


@pytest.mark.parametrize("path", JUDGES, ids=lambda path: path.name)
def test_what_judges_a_deployment_is_pure(path: Path) -> None:
    assert faults(path.read_text(encoding="utf-8"), MODULES) == []


@pytest.mark.parametrize("path", ALSO_PURE, ids=lambda path: path.name)
def test_what_stages_compute_with_is_pure(path: Path) -> None:
    found = faults(path.read_text(encoding="utf-8"), MODULES)
    if path.name == "zones.py":  # time zone rules come from a pinned package, named in config_id
        assert [fault.split(": ")[1] for fault in found] == [".open()"]
    else:
        assert found == []


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.name)
def test_the_engines_door_computes_nothing_and_asks_no_clock(path: Path) -> None:
    tree_faults = faults(path.read_text(encoding="utf-8"), MODULES - CORE_MODULES)
    reading = (".open()", "open()", ".read_text()", ".read_bytes()", "global", "compile()")
    assert [f for f in tree_faults if not f.endswith(reading)] == []


@pytest.mark.parametrize("path", PIPELINE, ids=lambda path: path.name)
def test_no_stage_knows_a_broker_a_table_or_the_shell(path: Path) -> None:
    shells = (
        "streams.pipeline.worker",
        "streams.mirror",
        "streams.cli",
        "streams.replay",
    )
    names = [
        name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in imported(node)
    ]
    assert [name for name in names if name.startswith(shells)] == []


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "from time import monotonic",
        "import numpy.random, random",
        "from os import path",
        "x = datetime.now()",
        "x = date.today()",
        "open('x')",
        "path.open()",
        "from math import log",
        "import math\nx = math.exp(1)",
        "import numpy as np\nx = np.sum(y)",
        "for x in {1, 2}: pass",
        "names = set(y)\nz = [n for n in names]",
        "names: set[str] = set()\nfor n in names: pass",
        "z = tuple({n for n in y})",
        "z = [*set(y)]",
        "z = list(set(y) - set(w))",
        "z = hash(y)",
    ],
)
def test_the_ban_sees(source: str) -> None:
    assert faults(source, MODULES)


@pytest.mark.parametrize(
    "source",
    [
        "from math import isfinite, sqrt",
        "z = sorted({n for n in y})",
        "names = set(y)\nz = n in names",
        "z = len(set(y))",
        "for x in dict.fromkeys(y): pass",
    ],
)
def test_the_ban_lets_pass(source: str) -> None:
    assert faults(source, MODULES) == []
