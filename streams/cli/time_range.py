"""The options --from, --to and --instruments: a part of the log, or of files."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import click

from streams.errors import Fatal
from streams.instruments import instrument_names
from streams.replay.report.collect import TimeRange
from streams.replay.tail import when_ms

_OPTIONS = (
    click.option(
        "--from",
        "start",
        metavar="TIME",
        help="Start the range at this time: UTC, or relative such as -7d.  [default: the first "
        "record]",
    ),
    click.option(
        "--to",
        "end",
        metavar="TIME",
        help="End the range at this time, in the same form.  [default: the newest record]",
    ),
    click.option(
        "--instruments",
        metavar="A,B",
        help="Limit to these instruments, comma separated.  [default: all]",
    ),
)


def range_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; they arrive as ``start``, ``end`` and ``instruments``."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def chosen_range(start: str | None, end: str | None, instruments: str | None) -> TimeRange:
    """Parse the options.

    Raises
    ------
    Fatal
        A time has another form, --from is after --to, or --instruments names none.
    """
    now = datetime.now(UTC)
    from_ms = None if start is None else when_ms("--from", start, now)
    to_ms = None if end is None else when_ms("--to", end, now)
    names = () if instruments is None else instrument_names(instruments.split(","))
    if instruments is not None and not names:
        raise Fatal("--instruments is empty; name some, such as EUR_USD,NZD_USD")
    if from_ms is not None and to_ms is not None and from_ms > to_ms:
        raise Fatal(f"--from {start} is after --to {end}")
    return TimeRange(from_ms, to_ms, names)
