"""``manifold load``."""

from __future__ import annotations

import asyncio
import json
import sys
import time

import click
from rich.progress import TaskID

from streams.candles.load_report import LoadReport
from streams.candles.series import read_series
from streams.cli.candle_files import exit_code, file_options, say_found, say_refused
from streams.cli.output import echo
from streams.cli.progress import progress_bar
from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.feeds.load import load_series
from streams.kafka.registry import open_codec
from streams.monitoring.clock_check import require_clock
from streams.process.disk import write_file


@click.command()
@click.argument("files", nargs=-1, required=True)
@file_options
@click.option(
    "--dry-run", is_flag=True, help="Read and check the files only; connect to no broker."
)
@click.option(
    "--refused", "refused_file", help="Write every refused row to this file, as JSON lines."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def load(
    files: tuple[str, ...],
    instrument: str | None,
    granularity: str | None,
    dry_run: bool,
    refused_file: str | None,
    as_json: bool,
) -> None:
    """Load candle FILES (CSV, JSON lines or OANDA's JSON, also .gz) into the log.

    Files are merged by time. Only candles newer than the log are written: loading the same files
    again changes nothing. Refused rows are listed with file, line and reason; all other rows are
    written. A file whose format is ambiguous or unknown is refused as a whole, and nothing is
    written then. A summary of each file is printed: instrument, bar length, rows, first and last
    bar, times, prices.

    Exit code 0: everything is in the log; 2: a file was refused as a whole; 3: some rows were
    refused.

    \b
    Examples:
      manifold load EUR_USD-M1.csv.gz NZD_USD-M1.csv.gz
      manifold load history.jsonl --instrument EUR_USD --granularity M1
      manifold load history.csv --dry-run --refused refused.jsonl
    """
    report = LoadReport()
    now_ms = int(time.time() * 1000)
    config, runtime = Config.from_env(), Runtime.from_env()
    if not dry_run:
        require_clock(runtime)
    with progress_bar(quiet=as_json) as bar:
        tasks: dict[str, TaskID] = {}

        def progress(what: str, done: int, total: int | None) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        series = read_series(files, instrument, granularity, report, now_ms, progress)
        if not dry_run:
            codec = asyncio.run(open_codec(runtime))
            load_series(runtime, codec, config, series, report, now_ms, progress)
    if dry_run:
        report.written = 0
    _say(report, refused_file, as_json=as_json, dry_run=dry_run)
    sys.exit(exit_code(report))


def _say(report: LoadReport, refused_file: str | None, *, as_json: bool, dry_run: bool) -> None:
    if refused_file:
        lines = (json.dumps(r._asdict()) + "\n" for r in report.refused)
        write_file(refused_file, "".join(lines))
    say_refused(report, " (--refused FILE lists all)")
    if as_json:
        echo(json.dumps(report.as_dict()))
        return
    say_found(report)
    done = "checked" if dry_run else f"{report.written:,} written"
    echo(
        f"{report.read:,} rows read, {done}, {report.already_there:,} already there, "
        f"{report.duplicates:,} duplicates, {len(report.refused):,} refused"
    )
