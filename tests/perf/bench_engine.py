"""Speed of the engine against the same headers by g++, and against numba, numpy and pandas.

Every peer gets the same candles in the same run on the same core, compiled and warm beforehand, and
its coherence is compared with ours before it is measured. None of them has to give the same bits.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.core import METRICS_DTYPE, CandleStream, build_info, cpp_dir
from tests.perf.rows import ROUNDS, Row, median_seconds, one_core, row
from tests.support.engine_market import Columns, market

CANDLES, PEER_CANDLES, STEPS = 2_000_000, 200_000, 100_000
GPP = ("g++", "-std=c++17", "-O3", "-march=native", "-ffp-contract=off")
SOURCE = Path(__file__).resolve().parents[2] / "cpp" / "tests" / "bench.cpp"
WITHOUT = "without sigma_eff, lambda, hazard, repetitions, stamps, and not the same bits everywhere"
PEERS = {
    "numba": f"counts roll, tables, 16 windows side by side, no fastmath; {WITHOUT}",
    "numpy": f"counts roll, tables, matrix products by blocks; {WITHOUT}",
    "pandas": f"counts by its rolling sums, the rest as with numpy; {WITHOUT}",
}


def many_candles(number: int) -> Columns:
    """Return a seeded market of 100,000 candles, repeated end to end."""
    part = market(min(number, 100_000), seed=7)
    times = -(-number // len(part.bar_ms))
    length = int(part.bar_ms[-1] - part.bar_ms[0]) + 60_000
    shift = np.repeat(np.arange(times, dtype=np.int64) * length, len(part.bar_ms))
    whole = Columns(*(np.tile(column, times) for column in part))
    return whole._replace(bar_ms=whole.bar_ms + shift).part(0, number)


def seconds_by_gpp(candles: Columns) -> float | None:
    """Return the seconds of the same headers compiled by g++, None without a g++."""
    if shutil.which(GPP[0]) is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        program, data = Path(folder, "bench"), Path(folder, "candles")
        command = [*GPP, f"-I{cpp_dir()}", str(SOURCE), "-o", str(program)]
        subprocess.run(command, check=True)
        with data.open("wb") as file:
            file.write(np.int64(len(candles.bar_ms)).tobytes())
            for column in candles:
                file.write(column.tobytes())
        done = subprocess.run([program, data], check=True, capture_output=True, text=True)
    return float(done.stdout)


def run_seconds(candles: Columns) -> float:
    """Return the seconds of our ``run``, into memory that is there already as the peers' is."""
    out = np.zeros(len(candles.bar_ms), METRICS_DTYPE)
    CandleStream(1500, 60, 2).run(*candles, out=out)
    return median_seconds(lambda: CandleStream(1500, 60, 2).run(*candles, out=out))


def step_seconds(candles: Columns) -> float:
    """Return the seconds of one call of ``step`` a candle."""
    rows_of = list(zip(*(column.tolist() for column in candles), strict=True))

    def work() -> None:
        step = CandleStream(1500, 60, 2).step
        for candle in rows_of:
            step(*candle)

    return median_seconds(work)


def rows() -> list[Row]:
    """Measure everything and return the rows for the table, ours first."""
    with one_core():
        return _measured()


def _measured() -> list[Row]:
    candles = many_candles(CANDLES)
    few = candles.part(0, PEER_CANDLES)
    info = build_info()
    flags = f"{info.compiler} at run time, {info.vector_bits} bit vectors, no fused multiply-add"
    measure = f"candles / seconds, one core, median of {ROUNDS} runs, compiled before"
    whole_s, few_s = run_seconds(candles), run_seconds(few)
    ours = row(
        "engine.run",
        f"metrics core, {CANDLES:,} candles",
        CANDLES / whole_s,
        "candles/s",
        measure,
        note=flags,
    )
    step = row(
        "engine.step",
        "metrics core, one call a candle",
        STEPS / step_seconds(candles.part(0, STEPS)),
        "candles/s",
        measure,
        note=flags,
    )
    found = [ours, step]
    gpp_s = seconds_by_gpp(candles)
    if gpp_s is not None:
        peer = row(
            "engine.gpp",
            "peer: the same headers by g++ -O3",
            CANDLES / gpp_s,
            "candles/s",
            measure,
            note=f"{CANDLES:,} candles; {' '.join(GPP)}",
        )
        found.append(peer)
        ours["ratios"]["g++ -O3"] = gpp_s / whole_s
    expected = CandleStream(1500, 60, 2).run(*few)["coherence"]
    for name, note in PEERS.items():
        seconds = _peer_seconds(name, few, expected)
        if seconds is None:
            print(f"bench_engine: {name} is not installed, so it was not measured")
            continue
        version = importlib.metadata.version(name)
        found.append(
            row(
                f"engine.{name}",
                f"peer: {name} {version}",
                PEER_CANDLES / seconds,
                "candles/s",
                measure,
                note=f"the first {PEER_CANDLES:,} candles; {note}",
            )
        )
        ours["ratios"][name] = seconds / few_s
    return found


def _peer_seconds(name: str, candles: Columns, expected: NDArray[np.float64]) -> float | None:
    """Return the seconds of a peer whose coherence is ours; None where it is not installed."""
    if importlib.util.find_spec(name) is None:
        return None
    module: Any = importlib.import_module(f"tests.perf.peer_{name}")
    work: Callable[[Columns], Any] = getattr(module, f"run_with_{name}")
    found = work(candles)  # compiles, where there is something to compile
    coherence = found[:, 0] if name == "numba" else found[0]
    if not np.allclose(coherence, expected, rtol=0.0, atol=1e-9):
        raise RuntimeError(f"{name}: its coherence is not ours, so it does other work")
    return median_seconds(lambda: work(candles))


if __name__ == "__main__":
    for measured in rows():
        print(measured)
