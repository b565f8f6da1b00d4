"""``manifold replay``."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence

import click
from rich.console import Console
from rich.table import Table

from streams.cli.candle_files import EXIT_REFUSED, file_options, say_found, say_refused
from streams.cli.output import echo
from streams.cli.progress import progress_bar
from streams.cli.report import PUBLISH, require_place, say_published
from streams.cli.time_range import chosen_range, range_options
from streams.errors import Fatal
from streams.records.topics import (
    DEAD_LETTERS,
    GATES,
    MANIFOLDS,
    SIGNALS,
    SUMMARIES,
    TRADES,
    WEIGHTS,
)
from streams.replay.jobs import FileJob, Job, LogJob
from streams.replay.report.data import ReportData
from streams.replay.report.page import write_report
from streams.replay.report.words import clock_range

DERIVED = (SIGNALS, MANIFOLDS, TRADES, SUMMARIES, GATES, WEIGHTS, DEAD_LETTERS)


@click.command()
@click.argument("files", nargs=-1)
@range_options
@click.option(
    "--set", "changes", multiple=True, metavar="NAME=VALUE", help="Override a setting; repeatable."
)
@click.option(
    "--topic",
    "topics",
    multiple=True,
    help=f"Print the records of these topics: {', '.join(DERIVED)}.",
)
@click.option(
    "--to-topics", "prefix", metavar="PREFIX", help="Write the records to topics with this prefix."
)
@click.option("--report", "page", metavar="FILE", help="Write the report page (HTML) to this file.")
@click.option("--report-json", metavar="FILE", help="Write the report as JSON to this file.")
@PUBLISH
@file_options
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    help="Read the log with this many processes.  [default: one per core, one for a short range]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def replay(
    files: tuple[str, ...],
    start: str | None,
    end: str | None,
    instruments: str | None,
    changes: tuple[str, ...],
    topics: tuple[str, ...],
    prefix: str | None,
    page: str | None,
    report_json: str | None,
    publish: bool,
    instrument: str | None,
    granularity: str | None,
    processes: int | None,
    as_json: bool,
) -> None:
    """Run the pipeline again over candle FILES, or over the log when no file is named.

    Prints a summary of the backtest; with --topic the records as JSON lines instead, with the keys,
    values and time stamps that the worker writes for the same candles. The deployment is not
    changed. Ctrl-C ends it and keeps the results so far.

    Exit code 3: rows of FILES were refused, or candles of them not accepted; see the report.

    \b
    Examples:
      manifold replay EUR_USD-M1.csv.gz NZD_USD-M1.csv.gz --report may.html
      manifold replay --from 2014-05-01 --to 2014-06-01 --set AUTO_MIN_COHERENCE=0.5
      manifold replay EUR_USD-M1.csv.gz --topic bt.trades
      manifold replay --from -30d --set GATE_MODE=static --to-topics what-if.
    """
    unknown = [topic for topic in topics if topic not in DERIVED]
    if unknown:
        raise Fatal(
            f"{', '.join(unknown)} is not a derived topic; choose from {', '.join(DERIVED)}"
        )
    for place in (page, report_json):
        require_place(place)
    job: Job
    wanted = {
        **chosen_range(start, end, instruments)._asdict(),
        "settings": _settings(changes),
    }
    if files:
        job = FileJob(files=files, instrument=instrument, granularity=granularity, **wanted)  # type: ignore[arg-type]
    else:
        job = LogJob(processes=processes or 0, **wanted)  # type: ignore[arg-type]
    if prefix is not None:
        _to_topics(job, prefix, topics or DERIVED)
    elif topics:
        job.total()  # the input is opened before the event loop, which would delay Ctrl-C
        asyncio.run(_lines(job, topics))
    else:
        _summary(job, page, report_json, as_json, publish)
    if job.load is not None and (job.load.refused or job.refused):
        sys.exit(EXIT_REFUSED)


def _settings(changes: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals or not name.strip():
            raise Fatal(f"--set {change!r} is not NAME=VALUE")
        found[name.strip().upper()] = value.strip()
    return found


def _say_files(job: Job, *, err: bool = False, as_json: bool = False) -> None:
    if job.load is None:
        return
    say_refused(job.load)
    if not as_json:
        say_found(job.load, err=err)


async def _lines(job: Job, topics: Sequence[str]) -> None:
    async for _, derived in job.records():
        for one in derived:
            if one.record.topic in topics:
                echo(job.line(one))
    _say_files(job, err=True)


def _to_topics(job: Job, prefix: str, topics: Sequence[str]) -> None:
    with progress_bar(quiet=False) as bar:
        task = bar.add_task("replaying", total=job.total())

        async def run() -> int:
            writer = job.writer(prefix, topics)
            try:
                async for count, derived in job.records():
                    writer.write(one for one in derived if one.record.topic in topics)
                    bar.advance(task, count)
            except asyncio.CancelledError:  # Ctrl-C: what is written stays
                echo("interrupted: what was derived so far is written", err=True)
            finally:
                writer.flush()
            return writer.written

        written = asyncio.run(run())
    _say_files(job)
    echo(f"{written:,} records written to topics {prefix}*: rpk topic consume {prefix}{topics[0]}")


def _summary(
    job: Job, page: str | None, report_json: str | None, as_json: bool, publish: bool
) -> None:
    begun = time.perf_counter()
    interrupted = False
    with progress_bar(quiet=as_json) as bar:
        task = bar.add_task("replaying", total=job.total())
        try:
            for count in job.columns():
                bar.advance(task, count)
        except KeyboardInterrupt:
            interrupted = True
    seconds = time.perf_counter() - begun
    _say_files(job, as_json=as_json)
    data = job.report(interrupted=interrupted)
    if page or report_json:
        write_report(data, page, report_json)
    if publish:
        say_published(data, page)
    if as_json:
        content: dict[str, object] = {
            "candles": job.candles,
            "signals": job.signals,
            "interrupted": interrupted,
        }
        content["refused"] = dict(job.refused)
        if job.load is not None:
            content["refused_rows"] = job.load.refused_rows()
            content["series"] = [one._asdict() for one in job.load.series]
        rows = {row["instrument"]: row for row in data["table"]}
        echo(json.dumps(content | {"headline": data["headline"], "instruments": rows}))
        return
    console = Console()
    console.print(backtest_table(data))
    rate = job.candles / seconds if seconds else 0.0
    console.print(
        f"{job.candles:,} candles, {job.signals:,} signals in {seconds:.1f} s ({rate:,.0f} a "
        f"second){'; interrupted: up to there' if interrupted else ''}",
        highlight=False,
    )
    for what, count in sorted(job.refused.items()):
        console.print(f"[yellow]{count:,} records were not accepted: {what}[/]", highlight=False)
    warning = data["guards"]["sentence"]
    if warning:
        console.print(f"[yellow]{warning}[/]", soft_wrap=True, highlight=False)
    for place in (page, report_json):
        if place:
            console.print(f"report: {place}", highlight=False, soft_wrap=True)


def backtest_table(data: ReportData) -> Table:
    """Return the results of the rolling backtest as a table, one row per instrument."""
    header = data["header"]
    table = Table(
        title=f"backtest, {clock_range(header['from_ms'], header['to_ms'])}", title_justify="left"
    )
    for name in ("instrument", "trades", "won", "P&L", "fall", "cost", "eligible"):
        table.add_column(name, justify="left" if name == "instrument" else "right", no_wrap=True)
    table.add_column("most frequent refusals")
    table.caption = "P&L, maximum drawdown, and cost per trade: bps of one unit of notional"
    for one in data["table"]:
        figures, cost = one["figures"], one["figures"]["cost_per_trade_bps"]
        table.add_row(
            one["instrument"],
            f"{figures['trades']:,}",
            _share(figures["win_rate"]),
            f"{figures['pnl_bps']:.1f}",
            f"{figures['max_drawdown_bps']:.1f}",
            "-" if cost is None else f"{cost:.2f}",
            _share(one["eligible_share"]),
            ", ".join(f"{r['reason']} {r['share']:.0%}" for r in one["top_reasons"][:2]),
        )
    return table


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
