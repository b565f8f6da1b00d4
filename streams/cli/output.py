"""Output of the commands, with control characters of records escaped."""

from __future__ import annotations

import click
from rich.markup import escape

from streams.printable import one_line, printable
from streams.process.disk import writing


def echo(text: object = "", *, err: bool = False, nl: bool = True) -> None:
    """Print a text of one or more lines, with control and direction characters escaped.

    Raises
    ------
    Recoverable
        The output is a file on a full disk.
    """
    with writing("standard error" if err else "standard output"):
        click.echo(printable(str(text)), err=err, nl=nl)


def echo_line(text: str, *, err: bool = False) -> None:
    """Print one line; a line feed in it is escaped too."""
    with writing("standard error" if err else "standard output"):
        click.echo(one_line(text), err=err)


def cell(text: str) -> str:
    """Return a text for a cell of a rich table; its markup is escaped."""
    return escape(one_line(text))
