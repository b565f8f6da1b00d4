"""Speed of the engine against the same headers by g++, and against numpy, numba and pandas.

Every peer gets the same candles in the same run on the same core, and does as much of the work as
it can be made to do reasonably; its row says in ``note`` what it leaves out.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from streams.engine import METRICS_DTYPE, CandleStream, build_info, cpp_dir
from tests.engine_market import Columns, market
from tests.perf.bench import machine
from tests.perf.engine_numba import run_with_numba

CANDLES = 2_000_000
PEER_CANDLES = 200_000
STEPS = 100_000
WINDOW_BITS = 128
GPP = ("g++", "-std=c++17", "-O3", "-march=native", "-ffp-contract=off")
SOURCE = Path(__file__).resolve().parents[2] / "cpp" / "tests" / "bench.cpp"


def many_candles(number: int) -> Columns:
    """Return a seeded market of 100,000 candles, repeated end to end."""
    part = market(min(number, 100_000), seed=7)
    times = -(-number // len(part.bar_ms))
    stretch = int(part.bar_ms[-1] - part.bar_ms[0]) + 60_000
    shift = np.repeat(np.arange(times, dtype=np.int64) * stretch, len(part.bar_ms))
    whole = Columns(*(np.tile(column, times) for column in part))
    return whole._replace(bar_ms=whole.bar_ms + shift).part(0, number)


def best_seconds(work: Callable[[], object], rounds: int = 3) -> float:
    """Return the shortest of some runs."""
    took = []
    for _ in range(rounds):
        begin = time.perf_counter()
        work()
        took.append(time.perf_counter() - begin)
    return min(took)


def run_by_gpp(candles: Columns) -> float | None:
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


def bits_of(candles: Columns) -> NDArray[np.bool_]:
    spread = candles.high - candles.low
    wider = (spread[1:] >= spread[:-1]) | (candles.volume[1:] >= candles.volume[:-1])
    return (candles.close[1:] >= candles.close[:-1]) & wider


def entropy_of(shares: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = [np.where(p > 0, p * np.log2(p), 0.0) for p in shares]
    return np.clip(-sum(terms) / 1.585, 0.05, 1.0)


def run_with_numpy(candles: Columns) -> list[NDArray[Any]]:
    """Counts by prefix sums, entropy, plain coherence and signature of every window."""
    bits = bits_of(candles)
    pairs = WINDOW_BITS - 1

    def windows(of: NDArray[np.bool_], width: int) -> NDArray[np.int64]:
        sums = np.concatenate(([0], np.cumsum(of)))
        return sums[width:] - sums[:-width]

    rupture = windows(bits[1:] & bits[:-1], pairs) / pairs
    flip = windows(bits[1:] ^ bits[:-1], pairs) / pairs
    ones = windows(bits, WINDOW_BITS)
    entropy = entropy_of([1 - rupture - flip, flip, rupture])
    plain = np.clip(0.6 * (1 - entropy) + 0.3 * (1 - rupture) + 0.1 * (1 - flip), 0.01, 0.99)
    coherence = plain_with_path(bits, plain)
    buckets = [np.floor(v * 100 + 0.5).astype(np.int32) for v in (coherence, 1 - rupture, entropy)]
    return [coherence, 1 - rupture, entropy, rupture, flip, rupture >= 0.5, ones, *buckets]


def plain_with_path(bits: NDArray[np.bool_], plain: NDArray[np.float64]) -> NDArray[np.float64]:
    """Blend the damped paths of all windows in, 4096 windows at a time."""
    view = sliding_window_view(bits, WINDOW_BITS)
    index = np.arange(WINDOW_BITS)
    fade, sine = np.exp(-0.1 * index), np.sin(2 * np.pi * index / WINDOW_BITS)
    out = np.empty_like(plain)
    for begin in range(0, len(view), 4096):
        window = view[begin : begin + 4096].astype(np.float64)
        start = window[:, :20].astype(bool)
        rupture = (start[:, 1:] & start[:, :-1]).sum(1) / 19
        flip = (start[:, 1:] ^ start[:, :-1]).sum(1) / 19
        rate = np.clip(0.5 * entropy_of([1 - rupture - flip, flip, rupture]), 0.01, 1.0)
        first = window[:, :1]
        steps = (window - first) * np.exp(-rate[:, None] * index)
        path = np.cumsum(steps, axis=1)
        path[:, :1] = first
        last = path[:, -1:]
        shapes = (
            first * fade,
            first + (last - first) * index / (WINDOW_BITS - 1),
            (first + last) / 2 + (last - first) / 2 * sine,
        )
        norm = np.sqrt((path * path).sum(1))
        best = np.zeros(len(window))
        for shape in shapes:
            length = norm * np.sqrt((shape * shape).sum(1))
            dot = (path * shape).sum(1)
            best = np.maximum(best, np.divide(dot, length, np.zeros_like(dot), where=length > 0))
        blended = 0.3 * np.minimum(best, 1.0) + 0.7 * plain[begin : begin + 4096]
        reach = np.abs(last[:, 0])
        out[begin : begin + 4096] = np.where(reach < 2, blended / (1 + 0.1 * reach), blended)
    return np.clip(out, 0.0, 1.0)


def run_with_pandas(candles: Columns) -> Any:
    """Ratios, ones, entropy and plain coherence by rolling sums; sigma_eff by a rolling std."""
    import pandas as pd

    frame = pd.DataFrame(candles._asdict())
    spread = frame.high - frame.low
    wider = (spread >= spread.shift()) | (frame.volume >= frame.volume.shift())
    bit = ((frame.close >= frame.close.shift()) & wider).astype(float)
    before = bit.shift()
    out = pd.DataFrame({"ones": bit.rolling(WINDOW_BITS).sum()})
    out["rupture"] = (bit * before).rolling(WINDOW_BITS - 1).mean()
    out["flip_ratio"] = (bit - before).abs().rolling(WINDOW_BITS - 1).mean()
    shares = [1 - out.rupture - out.flip_ratio, out.flip_ratio, out.rupture]
    out["entropy"] = entropy_of([share.to_numpy() for share in shares])
    plain = 0.6 * (1 - out.entropy) + 0.3 * (1 - out.rupture) + 0.1 * (1 - out.flip_ratio)
    out["coherence"] = plain.clip(0.01, 0.99)
    out["sigma_eff"] = np.log(frame.close).diff().rolling(1499, min_periods=2).std()
    return out


def row(
    name: str, rate: float, note: str, ratios: dict[str, float] | None = None
) -> dict[str, Any]:
    return {
        "name": name,
        "value": rate,
        "unit": "candles/s",
        "ratios": ratios or {},
        "note": note,
    }


def step_rate(candles: Columns) -> float:
    rows_of = list(zip(*(column.tolist() for column in candles.part(0, STEPS)), strict=True))

    def work() -> None:
        step = CandleStream(1500, 60, 2).step
        for candle in rows_of:
            step(*candle)

    return STEPS / best_seconds(work)


def rows() -> list[dict[str, Any]]:
    """Measure everything and return the rows for the table, ours first."""
    candles, few = many_candles(CANDLES), many_candles(PEER_CANDLES)
    info = build_info()
    out = np.zeros(CANDLES, METRICS_DTYPE)  # touched: a fresh page is not the engine's work
    run = CANDLES / best_seconds(lambda: CandleStream(1500, 60, 2).run(*candles, out=out))
    flags = f"{info.compiler}, {info.vector_bits} bit vectors, no fused multiply-add"
    ours = row(f"engine run, 2M candles ({machine()['cpu']})", run, f"JIT: {flags}")
    found = [ours, row("engine step, one call per candle", step_rate(candles), f"JIT: {flags}")]
    seconds = run_by_gpp(candles)
    if seconds is not None:
        found.append(row("peer: same headers by g++ -O3", CANDLES / seconds, " ".join(GPP)))
        ours["ratios"]["g++ -O3"] = run * seconds / CANDLES
    peers: dict[str, tuple[Callable[[Columns], Any], str]] = {
        "numpy": (run_with_numpy, "no sigma_eff, lambda, repetitions, stamps"),
        "numba": (run_with_numba, "no sigma_eff, lambda, repetitions, stamps"),
        "pandas": (run_with_pandas, "no trajectory, signatures, lambda, repetitions, stamps"),
    }
    for name, (work, note) in peers.items():
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            print(f"bench_engine: {name} is not installed, so it was not measured")
            continue
        work(few.part(0, 1000))  # compiles, where there is something to compile
        rate = PEER_CANDLES / best_seconds(lambda work=work: work(few))
        note_in_full = f"{PEER_CANDLES:,} of the candles; leaves out: {note}"
        found.append(row(f"peer: {name} {version} ({note})", rate, note_in_full))
        ours["ratios"][name] = run / rate
    return found


if __name__ == "__main__":
    for measured in rows():
        print(measured)
