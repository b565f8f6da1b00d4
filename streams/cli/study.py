"""``manifold study``."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import click
from rich.console import Console

from streams.candles.load_report import LoadReport
from streams.candles.series import read_series
from streams.cli.candle_files import exit_code, file_options, say_refused
from streams.cli.output import echo
from streams.cli.progress import progress_bar
from streams.config.settings import Config
from streams.errors import Fatal
from streams.replay.calibrate.hazard import study as study_of
from streams.replay.calibrate.hazard_runs import by_bar_length
from streams.replay.calibrate.hazard_tables import effect_tables

PLAIN_WIDTH = 150
STRENGTHS, AHEAD = "0.25,0.5,1,2", "12,60,240"


@click.group()
def study() -> None:
    """Measure the effect of a setting over candle files; the deployment is not changed."""


@study.command()
@click.argument("files", nargs=-1, required=True)
@click.option(
    "--strengths",
    default=STRENGTHS,
    show_default=True,
    metavar="A,B",
    help="Lower the score by these numbers of its standard deviations for each standard "
    "deviation of the term.",
)
@click.option(
    "--ahead",
    default=AHEAD,
    show_default=True,
    metavar="A,B",
    help="Measure volatility over these numbers of following bars.",
)
@file_options
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def hazard(
    files: tuple[str, ...],
    strengths: str,
    ahead: str,
    instrument: str | None,
    granularity: str | None,
    as_json: bool,
) -> None:
    """Study lambda as a term of the allocator's score (ALLOC_SCORE_WEIGHT_HAZARD).

    For each bar length of FILES: the distribution of lambda, its correlation with rupture and with
    the volatility that follows, and how subtracting it changes selection, turnover and P&L of the
    weights, compared with the same for lambda_hazard. The first half of the time is in sample and
    scales the weights; the rest is out of sample. All figures are given with the gate as configured
    and with every guard disabled. docs/hazard.md describes the method and the results.

    Needs candles of two instruments or more for each length.

    \b
    Examples:
      manifold study hazard EUR_USD-M1.csv.gz NZD_USD-M1.csv.gz
      manifold study hazard EUR_USD-H1.csv.gz NZD_USD-H1.csv.gz --env-file deploy/profiles/h1.env
      manifold study hazard *-M1.csv.gz --strengths 0.5,1 --ahead 15,60 --json
    """
    wanted = _numbers("--strengths", strengths, float)
    horizons = _numbers("--ahead", ahead, int)
    config, report = Config.from_env(), LoadReport()
    found: list[Any] = []
    with progress_bar(quiet=as_json) as bar:
        task = bar.add_task("reading", total=None)

        def progress(what: str, done: int, total: int | None) -> None:
            bar.update(task, description=what, completed=done, total=total)

        now_ms = int(time.time() * 1000)
        series = read_series(files, instrument, granularity, report, now_ms, progress)
        say_refused(report)
        report.require_candles(series)
        lengths = by_bar_length(series, config)
        for place, (name, candles) in enumerate(lengths.items()):
            progress(f"studying {name}", place, len(lengths))
            found.append(study_of(candles, wanted, horizons))
    if as_json:
        studies = [one.as_dict() for one in found]
        echo(json.dumps({"studies": studies, "refused_rows": report.refused_rows()}))
        sys.exit(exit_code(report))
    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    for one in found:
        for table in effect_tables(one):
            console.print(table)
        for note in one.notes:
            console.print(note, style="yellow", soft_wrap=True, highlight=False)
    sys.exit(exit_code(report))


def _numbers(option: str, text: str, kind: Any) -> tuple[Any, ...]:
    try:
        made = tuple(kind(part) for part in text.split(",") if part.strip())
    except ValueError:
        made = ()
    if not made or not all(0 < one < 1e6 for one in made):
        raise Fatal(f"{option}={text!r} is not a list of positive numbers such as 12,60")
    return made
