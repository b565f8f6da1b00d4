"""``manifold calibrate``."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

import click
from rich.console import Console
from rich.progress import TaskID

from streams.candles.columns import SeriesKey
from streams.candles.load_report import LoadReport
from streams.candles.series import read_series
from streams.cli.candle_files import exit_code, file_options, say_refused
from streams.cli.output import echo
from streams.cli.progress import progress_bar
from streams.cli.report import require_place
from streams.cli.time_range import chosen_range
from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.errors import Fatal
from streams.kafka.registry import open_codec
from streams.process.disk import write_file
from streams.replay.calibrate.outcome import Calibration
from streams.replay.calibrate.sources import (
    Columnar,
    SourceWindows,
    windows_of_log,
    windows_of_series,
)
from streams.replay.calibrate.tables import calibration_tables
from streams.replay.report.page import STDOUT

PLAIN_WIDTH = 120


@click.command()
@click.argument("files", nargs=-1)
@click.option(
    "--from",
    "start",
    metavar="TIME",
    help="Start the range of bar ends at this time: UTC, or relative such as -7d.  [default: "
    "the first candle]",
)
@click.option(
    "--to",
    "end",
    metavar="TIME",
    help="End the range of bar ends (inclusive) at this time, in the same form.  [default: "
    "the newest candle]",
)
@click.option(
    "--instruments",
    metavar="A,B",
    help="Limit to these instruments, comma separated.  [default: all]",
)
@click.option(
    "--pass-rate",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.10,
    show_default=True,
    help="Set the target share of windows (0 to 1) that pass all guards together.",
)
@click.option(
    "--output",
    metavar="FILE",
    help="Write the suggested settings to this file, for --env-file; - prints them.",
)
@file_options
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def calibrate(
    files: tuple[str, ...],
    start: str | None,
    end: str | None,
    instruments: str | None,
    pass_rate: float,
    output: str | None,
    instrument: str | None,
    granularity: str | None,
    as_json: bool,
) -> None:
    """Show the pass rates of the guards, and suggest thresholds for a target pass rate.

    Reads the candles of FILES, or without FILES the windows in the log. The suggestion moves all
    guards of the gate mode to the same quantile until the target share of windows passes them
    together, with as many repetitions as that allows (at most the active setting; with
    SESSION_PATTERN_MIN_OCCURRENCES=1 repetitions are not required). Quantiles are exact to 0.00001,
    pass rates are exact counts.

    \b
    Examples:
      manifold calibrate EUR_USD-M1.csv.gz NZD_USD-M1.csv.gz
      manifold calibrate EUR_USD-M1.csv.gz --pass-rate 0.05 --output calibrated.env
      manifold calibrate --from -7d --instruments EUR_USD --json
    """
    time_range = chosen_range(start, end, instruments)
    require_place(output)
    if as_json and output == STDOUT:
        raise Fatal(
            "--json and --output - both write to standard output; write one of them to a file"
        )
    with progress_bar(quiet=as_json) as bar:
        tasks: dict[str, TaskID] = {}

        def progress(what: str, done: int, total: int | None) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        report = LoadReport()
        if files:
            now_ms = int(time.time() * 1000)
            series: dict[SeriesKey, Columnar] = {}
            series |= read_series(files, instrument, granularity, report, now_ms, progress)
            say_refused(report)
            report.require_candles(series)
            source = ", ".join(Path(path).name for path in files)
            found = windows_of_series(series, Config.from_env(), time_range, source, progress)
            sentence = report.refused_sentence()
            found.notes.extend([f"{sentence}."] if sentence else [])
        else:
            runtime = Runtime.from_env()
            codec = asyncio.run(open_codec(runtime))
            found = windows_of_log(runtime, codec, time_range, progress)
    _say(_calibrated(found, pass_rate), report, output, as_json=as_json)
    sys.exit(exit_code(report))


def _calibrated(found: SourceWindows, pass_rate: float) -> Calibration:
    if not found.windows:
        raise Fatal(
            f"{found.source}: no windows in this range; an instrument has one per bar from its "
            "129th candle on"
        )
    return Calibration(found, pass_rate)


def _say(made: Calibration, report: LoadReport, output: str | None, *, as_json: bool) -> None:
    if output == STDOUT:
        echo(made.env_text(), nl=False)
        return
    if output is not None:
        write_file(output, made.env_text())
    if as_json:
        echo(json.dumps(made.as_dict() | {"refused_rows": report.refused_rows()}))
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    for table in calibration_tables(made):
        console.print(table)
    for sentence in made.sentences():
        console.print(sentence, style="yellow", soft_wrap=True, highlight=False)
    if output is not None:
        console.print(f"{output}: thresholds for {made.pass_rate:.1%}", highlight=False)
