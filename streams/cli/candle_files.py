"""Candle files on the command line: their options, a summary of their content, refused rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import click

from streams.candles.load_report import LoadReport
from streams.cli.output import echo

EXIT_REFUSED: Final = 3
SHOWN_REFUSALS: Final = 20

_OPTIONS: Final = (
    click.option(
        "--instrument",
        help="Set the instrument of rows that name none.  [default: from the file name]",
    ),
    click.option(
        "--granularity",
        help="Set the bar length (M1, H1, ...) of rows that name none.  [default: from the file "
        "name]",
    ),
)


def file_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of every command that reads candle files."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def say_found(report: LoadReport, *, err: bool = False) -> None:
    """Print a summary of each file, one line per series."""
    for found in report.series:
        echo(found.text(), err=err)


def say_refused(report: LoadReport, more: str = "") -> None:
    """Print the first refused rows and the number of the others to standard error."""
    for refused in report.refused[:SHOWN_REFUSALS]:
        echo(refused.text(), err=True)
    if len(report.refused) > SHOWN_REFUSALS:
        left = len(report.refused) - SHOWN_REFUSALS
        echo(f"... and {left:,} more refused{more}", err=True)
    if report.refused:
        reasons = ", ".join(f"{name} {n:,}" for name, n in report.refused_by_reason().items())
        echo(f"{len(report.refused):,} of {report.read:,} rows refused: {reasons}", err=True)


def exit_code(report: LoadReport) -> int:
    """Return 3 when rows were refused, else 0."""
    return EXIT_REFUSED if report.refused else 0
