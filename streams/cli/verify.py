"""``manifold verify``."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import asdict

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from streams.cli.output import echo
from streams.config.runtime import Runtime
from streams.kafka.reader import LogReader
from streams.monitoring.clock_check import warn_of_clock
from streams.pipeline.chain import open_chain
from streams.process.gc_tuning import tune_gc
from streams.records.topics import CANDLES
from streams.replay.verify.processes import verify_in_processes
from streams.replay.verify.report import Report
from streams.replay.verify.verify import Verifier

SHORT_LOG = 20_000
"""Below this number of candle offsets, one process is faster than starting others."""


@click.command()
@click.option("--allow-engine", is_flag=True, help="Accept records of another engine version.")
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    help="Set the number of worker processes.  [default: one per core, one for a short log]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def verify(allow_engine: bool, processes: int | None, as_json: bool) -> None:
    """Re-derive every derived topic from the log and compare the bytes.

    Prints the first difference, gap or duplicate of each topic. Exit code 0: all records are equal;
    1: some differ, or a range was written by another engine version and cannot be verified.

    \b
    Examples:
      manifold verify
      manifold verify --json --bootstrap-servers broker-1:9092
    """
    runtime = Runtime.from_env()
    warn_of_clock(runtime)
    report = _run(runtime, processes, quiet=as_json)
    passed = report.passed(allow_engine=allow_engine)
    if as_json:
        echo(json.dumps(asdict(report) | {"passed": passed}, indent=2))
    else:
        _print(report, passed, allow_engine)
    sys.exit(0 if passed else 1)


def _run(runtime: Runtime, processes: int | None, *, quiet: bool) -> Report:
    chain = asyncio.run(open_chain(runtime))
    tune_gc()
    columns = (
        TextColumn("{task.description:14}"),
        BarColumn(),
        TextColumn("{task.completed:,} records"),
    )
    console = Console(stderr=True, quiet=quiet)
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bar:
        tasks = {t: bar.add_task(t, total=None) for s in chain.stages for t in s.outputs}

        def progress(topic: str, count: int) -> None:
            bar.advance(tasks[topic], count)

        count = processes or _processes_for(runtime)
        if count > 1:
            return verify_in_processes(runtime, chain, count, progress)
        return Verifier(runtime, chain, progress).run()


def _processes_for(runtime: Runtime) -> int:
    with LogReader(runtime) as reader:
        bounds = reader.all_bounds(CANDLES, reader.partitions(CANDLES))
    long = sum(high - low for low, high in bounds.values()) > SHORT_LOG
    return (os.cpu_count() or 1) if long else 1


def _print(report: Report, passed: bool, allow_engine: bool) -> None:
    for topic in report.topics.values():
        state = "same" if topic.same else "DIFFERENT"
        echo(f"{topic.topic:<16} {topic.compared:>12,} records compared   {state}")
        if topic.difference:
            echo(f"  {topic.difference}")
        if topic.other_engine:
            word = "accepted" if allow_engine else "not verifiable (--allow-engine accepts them)"
            echo(f"  {topic.other_engine:,} records of another engine version: {word}")
    for stage, left in report.unprocessed.items():
        if left:
            echo(f"{stage}: {left:,} offsets of its input are not processed yet")
    echo("replay equals live" if passed else "replay does NOT equal live")
