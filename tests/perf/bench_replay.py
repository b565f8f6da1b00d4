"""``manifold replay`` over files and over Kafka, and ``manifold verify``: whole processes."""

from __future__ import annotations

import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from streams.records.topics import CANDLES
from streams.stack.kafka import KafkaBroker
from streams.stack.valkey import ValkeyServer
from tests.perf.backtest_columns import LOOSE, csv_text, market_columns
from tests.perf.rows import ROUNDS, Row, one_core, row
from tests.support.deployment import Deployment
from tests.support.environment import kept_environment

CURRENCIES = ("AUD", "CAD", "CHF", "EUR", "GBP", "JPY", "NZD", "USD")
PAIRS = tuple(f"{a}_{b}" for a, b in itertools.combinations(CURRENCIES, 2))
BARS, FEW_BARS = 36_000, 150
"""Bars of an instrument: a million rows in all, and what shows the start-up alone."""
LOG_BARS = 4_800
FILES_TARGET, KAFKA_TARGET = "target: at least 500,000", "target: at least 100,000"
VERIFY_TARGET = "target: at least 50,000"
WHOLE = f"candles / seconds of the whole process, one core, median of {ROUNDS} runs"
WITHOUT_START = (
    f"candles beyond a small run's / seconds beyond its, one core, medians of {ROUNDS} runs each"
)
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
        runs[bars] = _median(directory, *paths)
    small, quarter, whole = runs.values()
    assert whole.trades > 0, "no trade in any file: there was nothing to backtest"
    name = f"manifold replay, {len(PAIRS)} CSV files to a report page"
    started = whole.seconds - small.seconds
    note = f"{FILES_TARGET}; {whole.candles:,} candles, {whole.trades:,} trades, one core"
    return [
        row(
            "replay.files",
            f"{name}, as a whole process",
            whole.candles / whole.seconds,
            "candles/s",
            WHOLE,
            note=note,
        ),
        row(
            "replay.files_without_start",
            f"{name}, without start-up",
            (whole.candles - small.candles) / started,
            "candles/s",
            WITHOUT_START,
            note=f"{FILES_TARGET}; {_small(small)}",
        ),
        *(
            row(
                f"replay.memory_{size}",
                f"{name}, peak memory, {run.candles:,} rows",
                run.peak_mb,
                "MB",
                "ru_maxrss of the process, one run",
                note=f"start-up alone {small.peak_mb:.0f} MB",
            )
            for size, run in (("quarter", quarter), ("whole", whole))
        ),
    ]


def _small(run: Run) -> str:
    return f"start-up is the same with {run.candles:,} candles, {run.seconds:.1f} s"


def _log(directory: Path) -> list[Row]:
    broker, valkey = KafkaBroker(directory / "kafka"), ValkeyServer(directory / "valkey")
    broker.start()
    valkey.start()
    try:
        few, many = (_loaded(directory, broker, valkey, bars) for bars in (FEW_BARS, LOG_BARS))
        small = _median(directory, environment=few.environment)
        whole = _median(directory, environment=many.environment)
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
    net = (whole.candles - small.candles) / (whole.seconds - small.seconds)
    return [
        row(
            "replay.log",
            f"{name}, as a whole process",
            whole.candles / whole.seconds,
            "candles/s",
            WHOLE,
            note=note,
        ),
        row(
            "replay.log_without_start",
            f"{name}, without start-up",
            net,
            "candles/s",
            WITHOUT_START,
            note=f"{KAFKA_TARGET}; {_small(small)}",
        ),
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
    start = f"start-up is the same with {of_few:,} records, {small:.1f} s"
    return [
        row(
            "replay.verify",
            f"{name}, as a whole process",
            compared / seconds,
            "records/s",
            "derived records compared / seconds of the whole command, one run",
            note=note,
        ),
        row(
            "replay.verify_candles",
            f"{name}, as a whole process",
            candles / seconds,
            "candles/s",
            "candles that they derive from / seconds of the whole command, one run",
            note=note,
        ),
        row(
            "replay.verify_without_start",
            f"{name}, without start-up",
            (compared - of_few) / net_s,
            "records/s",
            "records beyond a small run's / seconds beyond its, one run each",
            note=f"{VERIFY_TARGET}; {start}",
        ),
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


def _median(directory: Path, *paths: str, environment: dict[str, str] | None = None) -> Run:
    runs = [_replay(directory, *paths, environment=environment) for _ in range(ROUNDS)]
    return runs[0]._replace(seconds=statistics.median(run.seconds for run in runs))


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


if __name__ == "__main__":
    for measured in rows():
        print(measured)
