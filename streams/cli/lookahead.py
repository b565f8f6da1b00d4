"""``manifold lookahead``."""

from __future__ import annotations

import asyncio
import json
import sys
import time

import click
from rich.console import Console
from rich.progress import TaskID
from rich.table import Table

from streams.candles.load_report import LoadReport
from streams.candles.series import read_series
from streams.cli.candle_files import exit_code, file_options, say_refused
from streams.cli.output import echo
from streams.cli.progress import progress_bar
from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.instants import clock, instant_ms
from streams.kafka.registry import open_codec
from streams.replay.verify.lookahead import (
    COMPARED,
    CutDifference,
    Lookahead,
    LookaheadReport,
    Subject,
)
from streams.replay.verify.lookahead_cuts import pick_cuts
from streams.replay.verify.lookahead_inputs import subject_of_log, subject_of_series

PLAIN_WIDTH = 140


@click.command()
@click.argument("files", nargs=-1)
@click.option(
    "--cuts",
    type=click.IntRange(0, 100_000),
    default=20,
    show_default=True,
    help="Set the number of random cut points, in addition to the fixed ones.",
)
@click.option(
    "--at",
    "wanted",
    multiple=True,
    metavar="TIME",
    help="Add a cut point at this time (UTC); repeatable.",
)
@click.option(
    "--seed", type=int, default=1, show_default=True, help="Set the seed of the random cut points."
)
@click.option(
    "--apart", is_flag=True, help="Derive from the first candle for every cut: slower, same result."
)
@file_options
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def lookahead(
    files: tuple[str, ...],
    cuts: int,
    wanted: tuple[str, ...],
    seed: int,
    apart: bool,
    instrument: str | None,
    granularity: str | None,
    as_json: bool,
) -> None:
    """Test for look-ahead bias: cut the input at many instants, derive again, and compare.

    All records are derived from the whole of FILES (without FILES: from the log's candles), and
    again with the input cut at T. Both runs must have the same records up to T, byte for byte. The
    cut points T are ends of bars, instants inside bars, session boundaries, a gap, and random
    instants.

    Exit code 0: no record depends on later input; 1: one does, and it is printed; 3: none does, but
    rows of the files were refused.

    \b
    Examples:
      manifold lookahead EUR_USD-M1.csv.gz NZD_USD-M1.csv.gz
      manifold lookahead EUR_USD-M1.csv.gz --cuts 500 --seed 7
      manifold lookahead EUR_USD-M1.csv.gz --at 2014-05-06T12:34:30 --cuts 0
      manifold lookahead --json | jq .difference
    """
    wanted_ms = [instant_ms("--at", text) for text in wanted]
    with progress_bar(quiet=as_json) as bar:
        tasks: dict[str, TaskID] = {}

        def progress(what: str, done: int, total: int | None) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        report = LoadReport()
        if files:
            now_ms = int(time.time() * 1000)
            series = read_series(files, instrument, granularity, report, now_ms, progress)
            say_refused(report)
            report.require_candles(series)
            partitions = Runtime.from_env().topic_partitions
            subject = subject_of_series(series, Config.from_env(), partitions)
        else:
            runtime = Runtime.from_env()
            codec = asyncio.run(open_codec(runtime))
            subject = subject_of_log(runtime, codec, progress)
        chosen = pick_cuts(
            subject.ends_ms,
            subject.bar_ms,
            subject.instruments,
            subject.calendar,
            cuts,
            seed,
            wanted_ms,
        )
        found = asyncio.run(Lookahead(subject, progress, apart=apart).run(chosen))
    if as_json:
        shown = _as_dict(found, len(chosen), seed) | {"refused_rows": report.refused_rows()}
        echo(json.dumps(shown))
    else:
        _print(found, subject, len(chosen))
    sys.exit(exit_code(report) if found.passed else 1)


def _as_dict(found: LookaheadReport, chosen: int, seed: int) -> dict[str, object]:
    difference = found.difference
    return found._asdict() | {
        "cuts": [cut._asdict() for cut in found.cuts],
        "chosen": chosen,
        "seed": seed,
        "difference": None if difference is None else difference._asdict(),
        "passed": found.passed,
    }


def _print(found: LookaheadReport, subject: Subject, chosen: int) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    names = ", ".join(subject.instruments)
    title = (
        "records up to the cut, equal in the whole run and in the run on the cut input\n"
        f"{names}: {len(subject.ends_ms):,} bars, {clock(subject.ends_ms[0])} to "
        f"{clock(subject.ends_ms[-1])} UTC"
    )
    table = Table(title=title, title_justify="left")
    table.add_column("cut (UTC)", no_wrap=True)
    table.add_column("why", no_wrap=True)
    for topic in COMPARED:
        table.add_column(topic, justify="right", no_wrap=True)
    for at_ms, why, records in found.cuts:
        cells = (f"{records[topic]:,}" for topic in COMPARED)
        table.add_row(f"{clock(at_ms)}.{at_ms % 1000:03d}", why, *cells)
    table.add_section()
    table.add_row("whole run", "", *(f"{found.records[topic]:,}" for topic in COMPARED))
    later = (f"{found.later[topic]:,}" for topic in COMPARED)
    table.add_row("", "  known after its timestamp", *later)
    console.print(table)
    if found.difference is not None:
        console.print(_sentence(found.difference), soft_wrap=True, highlight=False, markup=False)
        return
    console.print(
        f"{chosen} cuts: no record depends on later input", soft_wrap=True, highlight=False
    )


def _sentence(difference: CutDifference) -> str:
    at_ms = difference.cut_ms
    return (
        f"LOOK-AHEAD at the cut {clock(at_ms)}.{at_ms % 1000:03d}: {difference.topic} of "
        f"{difference.instrument}, as of {clock(difference.as_of_ms)} ({difference.as_of_ms}), "
        f"{difference.field}: {difference.detail}"
    )
