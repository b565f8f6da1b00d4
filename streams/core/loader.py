"""Find the C++ core, compile it on first use, and report how it was compiled."""

from __future__ import annotations

import functools
import importlib
from pathlib import Path
from typing import Any, NamedTuple

from streams.core.layout import check_layout
from streams.errors import Fatal
from streams.process.interrupts import hold_interrupts

ENGINE_VERSION = "qfh-2.0.0"
"""Version of the results: raised whenever any bit of any result changes, and only then.

It is in the header of every derived record and in every stored row. Rows of another engine version
are never read, and a range of a log written by another engine version cannot be verified. The C++
core contains the same string (``cpp/metrics/status.hpp``); loading fails when the two differ.
"""

_HEADER = "bindings/bindings.hpp"
_PACKAGE = Path(__file__).resolve().parents[1]


class BuildInfo(NamedTuple):
    """How the core was compiled in this process.

    Attributes
    ----------
    compiler
        Version text of the compiler.
    cplusplus
        The value of ``__cplusplus``.
    fma
        Whether the target supports fused multiply-add. The core's arithmetic is never fused.
    vector_bits
        Width of the vectors the compiler may use.
    headers
        The directory the headers came from.
    """

    compiler: str
    cplusplus: int
    fma: bool
    vector_bits: int
    headers: str


def cpp_dir() -> Path:
    """Return the directory of the core's headers, in an installed package or a source tree.

    Raises
    ------
    Fatal
        Neither exists.
    """
    for place in (_PACKAGE / "_cpp", _PACKAGE.parent / "cpp"):
        if (place / _HEADER).is_file():
            return place
    raise Fatal(f"the C++ core ({_HEADER}) is missing: reinstall the package")


@functools.cache
def core() -> Any:
    """Compile the core on the first call, and return its ``manifold::bindings`` namespace.

    The first call takes about a second: import of cppyy and compilation.

    Raises
    ------
    Fatal
        The core cannot be loaded, has another version or other structure layouts than the package
        expects, or was compiled so that results would depend on the machine.
    """
    headers = cpp_dir()
    try:
        with hold_interrupts():
            cppyy: Any = importlib.import_module("cppyy")
            cppyy.add_include_path(str(headers))
            cppyy.include(_HEADER)
            bindings = cppyy.gbl.manifold.bindings
    except Exception as problem:
        first_line = (str(problem).strip() or type(problem).__name__).splitlines()[0]
        raise Fatal(
            f"the C++ core in {headers} cannot be compiled by cppyy ({first_line}): "
            "install g++ and reinstall cppyy and cppyy-backend for this Python"
        ) from problem
    if str(bindings.engine_version()) != ENGINE_VERSION:
        raise Fatal(
            f"the C++ core in {headers} is version {bindings.engine_version()}, the package "
            f"expects {ENGINE_VERSION}: install both from the same release"
        )
    if bindings.contracts():
        raise Fatal(
            "the C++ core was compiled with fused multiply-add, so its results would differ "
            "between machines: remove -ffp-contract from EXTRA_CLING_ARGS"
        )
    check_layout(bindings)
    bindings.Handle.run.__release_gil__ = True
    bindings.batch.__release_gil__ = True
    bindings.GateHandle.run.__release_gil__ = True
    bindings.GateHandle.run_events.__release_gil__ = True
    bindings.AllocatorHandle.run.__release_gil__ = True
    return bindings


def warm_up() -> None:
    """Call each function of the live path once, so that no candle waits for its compilation.

    Raises as ``core``. A replay does not need this: functions are compiled on their first call.
    """
    bindings = core()
    handle = bindings.make_handle()
    handle.open(129, 1, 0)
    for bar in range(130):
        handle.step(bar, 1.0, 1.0, 1.0, 0)
    handle.write_head()
    handle.write_chunk(handle.newest_chunk())
    bindings.check(0, 1.0, 1.0, 1.0, 0)
    bindings.drop_handle(handle)
    _warm_up_gate(bindings)


def _warm_up_gate(bindings: Any) -> None:
    gate = bindings.make_gate()
    rules = gate.rules
    rules.trade.lookback = rules.trade.atr_bars = rules.slice_count = rules.history = 1
    rules.interval_ms = rules.slices[0] = 1
    gate.adopt()
    for hour in range(3):
        gate.bar.bar_ms = gate.bar.as_of_ms = (hour + 1) * 3_600_000
        gate.step(False)
    gate.decide_without_candle(0, 0)
    gate.decided_ms(), gate.last_bar_ms(), gate.run_number(), gate.set_run_number(0)
    gate.take_changed_days(), gate.samples(), gate.kept_samples()
    gate.write_head(), gate.write_day(gate.newest_day()), gate.write_samples(0)
    for address in (
        *(bindings.bar_address, bindings.trade_address, bindings.evaluation_address),
        *(bindings.decision_address, bindings.rules_address, bindings.gate_row_address),
    ):
        address(gate)
    bindings.drop_gate(gate)


def build_info() -> BuildInfo:
    """Return how the core was compiled in this process; compiles it if necessary."""
    bindings = core()
    return BuildInfo(
        str(bindings.compiler()),
        int(bindings.language()),
        bool(bindings.has_fma()),
        int(bindings.vector_bits()),
        str(cpp_dir()),
    )
