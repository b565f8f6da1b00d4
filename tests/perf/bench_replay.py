"""``manifold replay`` over files and over Kafka, and ``manifold verify``: whole processes."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from streams.stack.kafka import KafkaBroker
from streams.stack.valkey import ValkeyServer
from streams.topics import CANDLES
from tests.deployment import Deployment
from tests.environment import kept_environment
from tests.perf.backtest_columns import LOOSE, csv_text, market_columns

Row = dict[str, Any]
CURRENCIES = ("AUD", "CAD", "CHF", "EUR", "GBP", "JPY", "NZD", "USD")
PAIRS = tuple(f"{a}_{b}" for a, b in itertools.combinations(CURRENCIES, 2))
BARS, FEW_BARS = 36_000, 150
"""Bars of an instrument: a million rows in all, and what shows the start-up alone."""
LOG_BARS = 4_800
FILES_TARGET, KAFKA_TARGET = "target: at least 500,000", "target: at least 100,000"
VERIFY_TARGET = "target: at least 50,000"
# a process that starts another keeps no memory of its own in the figure
LAUNCHER = (
    "import resource, subprocess, sys; code = subprocess.run(sys.argv[1:]).returncode; "
    "used = resource.getrusage(resource.RUSAGE_CHILDREN); "
    "print(f'peak-kb {used.ru_maxrss}', file=sys.stderr); sys.exit(code)"
)


class Run(NamedTuple):
    """A command that has ended: wall time, peak memory, and what it said."""

    seconds: float
    peak_mb: float
    candles: int
    trades: int


def rows() -> list[Row]:
    """Measure and return the rows of the table."""
    with tempfile.TemporaryDirectory(prefix="manifold-bench-") as place:
        directory = Path(place)
        return [*_files(directory), *_log(directory)]


@contextmanager
def one_core() -> Iterator[None]:
    """Keep what is started inside on one core."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def write_files(directory: Path, bars: int) -> list[str]:
    """Write the candles of all pairs, a file each; return the paths."""
    directory.mkdir()
    paths = [directory / f"{pair}-M1.csv" for pair in PAIRS]
    for seed, path in enumerate(paths):
        path.write_text(csv_text(market_columns(bars, seed)), encoding="utf-8")
    return [str(path) for path in paths]


def _files(directory: Path) -> list[Row]:
    runs = {}
    for bars in (FEW_BARS, BARS // 4, BARS):
        paths = write_files(directory / f"csv-{bars}", bars)
        runs[bars] = _replay(directory, *paths)
    small, quarter, whole = runs.values()
    assert whole.trades > 0, "no trade in any file: there was nothing to backtest"
    name = f"manifold replay, {len(PAIRS)} CSV files to a report page"
    started = whole.seconds - small.seconds
    note = f"{FILES_TARGET}; {whole.candles:,} candles, {whole.trades:,} trades, one core"
    return [
        _row(f"{name}, as a whole process", whole.candles / whole.seconds, "candles/s", note),
        _row(
            f"{name}, without start-up",
            (whole.candles - small.candles) / started,
            "candles/s",
            f"{FILES_TARGET}; start-up: the same with {small.candles:,} candles, "
            f"{small.seconds:.1f} s",
        ),
        _row(f"{name}, peak memory, {quarter.candles:,} rows", quarter.peak_mb, "MB", ""),
        _row(
            f"{name}, peak memory, {whole.candles:,} rows",
            whole.peak_mb,
            "MB",
            f"start-up alone {small.peak_mb:.0f} MB",
        ),
    ]


def _log(directory: Path) -> list[Row]:
    broker, valkey = KafkaBroker(directory / "kafka"), ValkeyServer(directory / "valkey")
    broker.start()
    valkey.start()
    try:
        few, many = (_loaded(directory, broker, valkey, bars) for bars in (FEW_BARS, LOG_BARS))
        small = _replay(directory, environment=few.environment)
        whole = _replay(directory, environment=many.environment)
        return [*_log_rows(small, whole), *_verified(few, many, whole.candles)]
    finally:
        valkey.stop()
        broker.stop()


def _loaded(directory: Path, broker: KafkaBroker, valkey: ValkeyServer, bars: int) -> Deployment:
    deployment = Deployment(
        directory,
        KAFKA_BOOTSTRAP_SERVERS=broker.bootstrap,
        VALKEY_URL=valkey.url,
        TOPIC_PREFIX=f"replay-{bars}.",
        TOPIC_PARTITIONS="4",
        **LOOSE,
    )
    paths = write_files(directory / f"log-{bars}", bars)
    done = deployment.run("load", *paths)
    if done.returncode != 0:
        raise RuntimeError(f"manifold load: {done.stdout}{done.stderr}")
    return deployment


def _log_rows(small: Run, whole: Run) -> list[Row]:
    name = f"manifold replay of {CANDLES} on Kafka to a report page"
    note = f"{whole.candles:,} candles, {whole.trades:,} trades, one core"
    started = f"start-up: the same with {small.candles:,} candles, {small.seconds:.1f} s"
    net = (whole.candles - small.candles) / (whole.seconds - small.seconds)
    return [
        _row(f"{name}, as a whole process", whole.candles / whole.seconds, "candles/s", note),
        _row(f"{name}, without start-up", net, "candles/s", f"{KAFKA_TARGET}; {started}"),
    ]


def _verified(few: Deployment, many: Deployment, candles: int) -> list[Row]:
    for deployment in (few, many):
        deployment.start_worker()
        deployment.settle(300)
        deployment.stop()
    small, of_few, _ = _verify(few)
    seconds, compared, topics = _verify(many)
    name, net_s = "manifold verify of that log, all cores", seconds - small
    note = f"{compared:,} records of {topics}; {candles:,} candles"
    start = f"start-up: the same with {of_few:,} records, {small:.1f} s"
    return [
        _row(f"{name}, as a whole process", compared / seconds, "records/s", note),
        _row(
            f"{name}, without start-up",
            (compared - of_few) / net_s,
            "records/s",
            f"{VERIFY_TARGET}; {start}",
        ),
        _row(f"{name}, without start-up", candles / net_s, "candles/s", start),
    ]


def _verify(deployment: Deployment) -> tuple[float, int, str]:
    cores = str(os.cpu_count() or 1)
    begun = time.perf_counter()
    done = deployment.run("verify", "--json", "--processes", cores)
    seconds = time.perf_counter() - begun
    if done.returncode != 0:
        raise RuntimeError(f"manifold verify: {done.stdout}{done.stderr}")
    topics = json.loads(done.stdout)["topics"]
    return seconds, sum(topic["compared"] for topic in topics.values()), ", ".join(topics)


def _replay(directory: Path, *paths: str, environment: dict[str, str] | None = None) -> Run:
    page, data = directory / "report.html", directory / "report.json"
    command = [sys.executable, "-c", LAUNCHER, sys.executable, "-m", "streams", "replay", *paths]
    command += ["--report", str(page), "--report-json", str(data)]
    kept = kept_environment()
    with one_core():
        begun = time.perf_counter()
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            env=(environment or kept | LOOSE) | {"COLUMNS": "200"},
        )
        seconds = time.perf_counter() - begun
    said = re.search(r"([\d,]+) candles, ", done.stdout)
    peak = re.search(r"peak-kb (\d+)", done.stderr)
    if done.returncode != 0 or said is None or peak is None:
        raise RuntimeError(f"manifold replay: {done.stdout[-500:]}{done.stderr[-500:]}")
    report = json.loads(data.read_text(encoding="utf-8"))
    trades = sum(one["figures"]["trades"] for one in report["table"])
    return Run(seconds, int(peak[1]) / 1024, int(said[1].replace(",", "")), trades)


def _row(name: str, value: float, unit: str, note: str) -> Row:
    return {"name": name, "value": value, "unit": unit, "ratios": {}, "note": note}


if __name__ == "__main__":
    for measured in rows():
        print(measured)
