"""``manifold load``."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

import click
from rich.progress import TaskID

from streams.cli.progress import progress_bar
from streams.clocks.check import require_clock
from streams.errors import Fatal
from streams.feed.load import LoadReport, load_series, read_series
from streams.registry import open_codec
from streams.settings import Config, Runtime

SHOWN_REFUSALS = 20
EXIT_REFUSED = 3


@click.command()
@click.argument("files", nargs=-1, required=True)
@click.option("--instrument", help="What the files hold, where neither rows nor names say.")
@click.option("--granularity", help="Bar length, likewise (M1, H1, ...).")
@click.option("--dry-run", is_flag=True, help="Read and check only; touch no broker.")
@click.option("--refused", "refused_file", help="Write every refused line there, as JSON lines.")
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

    Files are merged by time. Only candles newer than the log are written: the same files again
    change nothing. Rows that are refused are named with file, line and reason; the good ones around
    them go in.

    Exit code 0: everything is in the log; 3: some rows were refused.

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
    sys.exit(EXIT_REFUSED if report.refused else 0)


def _say(report: LoadReport, refused_file: str | None, *, as_json: bool, dry_run: bool) -> None:
    if refused_file:
        lines = (json.dumps(r._asdict()) + "\n" for r in report.refused)
        try:
            Path(refused_file).write_text("".join(lines), encoding="utf-8")
        except OSError as error:
            raise Fatal(f"cannot write {refused_file}: {error.strerror}") from error
    for refused in report.refused[:SHOWN_REFUSALS]:
        place = f"{refused.file}:{refused.line}"
        click.echo(f"{place}: refused: {refused.reason}: {refused.detail}", err=True)
    if len(report.refused) > SHOWN_REFUSALS:
        left = len(report.refused) - SHOWN_REFUSALS
        click.echo(f"... and {left:,} more refused (--refused FILE lists all)", err=True)
    if as_json:
        click.echo(json.dumps(report.as_dict()))
        return
    done = "checked" if dry_run else f"{report.written:,} written"
    click.echo(
        f"{report.read:,} rows read, {done}, {report.already_there:,} already there, "
        f"{report.duplicates:,} duplicates, {len(report.refused):,} refused"
    )
