"""``manifold report``."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import click
from rich.progress import TaskID

from streams.cli.output import echo
from streams.cli.progress import progress_bar
from streams.cli.time_range import chosen_range, range_options
from streams.config.runtime import Runtime
from streams.errors import Fatal
from streams.kafka.registry import open_codec
from streams.mirror.keys import BACKTEST_REPORT
from streams.mirror.published import publish_report
from streams.replay.report.collect import collect_report
from streams.replay.report.data import ReportData
from streams.replay.report.page import STDOUT, write_report
from streams.replay.report.words import clock_range

PAGE = "report.html"


PUBLISH = click.option(
    "--publish", is_flag=True, help=f"Write the JSON into Valkey too ({BACKTEST_REPORT})."
)


@click.command()
@click.option("-o", "html", metavar="FILE", help=f"Write the page to this file.  [default: {PAGE}]")
@click.option(
    "--json", "json_file", metavar="FILE", help="Write the JSON to this file; - prints it."
)
@range_options
@PUBLISH
def report(
    html: str | None,
    json_file: str | None,
    start: str | None,
    end: str | None,
    instruments: str | None,
    publish: bool,
) -> None:
    """Write a report of decisions and results as one page.

    Trades, equity and drawdown, costs, gates with their reasons, pass rates of the guards, weights,
    summaries and floors, settings. The page needs no network and no server. With --json alone no
    page is written. The same log gives the same bytes.

    \b
    Examples:
      manifold report
      manifold report -o may.html --from 2014-05-01 --to 2014-06-01
      manifold report --json - --instruments EUR_USD,NZD_USD --from -7d
    """
    if html is None and json_file is None:
        html = PAGE
    for path in (html, json_file):
        require_place(path)
    chosen = chosen_range(start, end, instruments)
    runtime = Runtime.from_env()
    codec = asyncio.run(open_codec(runtime))
    with progress_bar(quiet=False) as bar:
        tasks: dict[str, TaskID] = {}

        def progress(topic: str, done: int, total: int) -> None:
            if topic not in tasks:
                tasks[topic] = bar.add_task(topic, total=total)
            bar.update(tasks[topic], completed=done, total=total)

        data = collect_report(runtime, codec, chosen, progress)
    write_report(data, html, json_file)
    if publish:
        say_published(data, html)
    for path in (html, json_file):
        if path not in (None, STDOUT):
            echo(f"{path}: {_summary(data)}", err=STDOUT in (html, json_file))


def say_published(data: ReportData, html: str | None) -> None:
    """Write a report into Valkey as the latest one, and print its key."""
    name = "" if html in (None, STDOUT) else str(html)
    now_ms = int(time.time() * 1000)
    key = asyncio.run(publish_report(Runtime.from_env(), name, data, now_ms))
    echo(f"published as {key}", err=True)


def require_place(path: str | None) -> None:
    """Refuse a path that cannot be written, before the log is read.

    Raises
    ------
    Fatal
        It is a directory, or its directory does not exist.
    """
    if path in (None, STDOUT):
        return
    place = Path(str(path))
    if place.is_dir():
        raise Fatal(f"cannot write {path}: it is a directory")
    if not place.parent.is_dir():
        raise Fatal(f"cannot write {path}: there is no directory {place.parent}")


def _summary(data: ReportData) -> str:
    header, top = data["header"], data["headline"]
    return (
        f"{top['figures']['trades']:,} trades, {top['decisions']:,} decisions, "
        f"{top['epochs']:,} epochs of {len(data['instruments'])} instruments, "
        f"{clock_range(header['from_ms'], header['to_ms'])}"
    )
