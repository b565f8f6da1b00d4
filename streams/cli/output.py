"""What commands print: no control character of a record reaches the terminal."""

from __future__ import annotations

import click
from rich.markup import escape

from streams.printable import one_line, printable


def echo(text: object = "", *, err: bool = False, nl: bool = True) -> None:
    """Print a text of one or more lines, with control and direction characters escaped."""
    click.echo(printable(str(text)), err=err, nl=nl)


def echo_line(text: str, *, err: bool = False) -> None:
    """Print one line; a line feed in it is escaped, so that a record cannot add lines."""
    click.echo(one_line(text), err=err)


def cell(text: str) -> str:
    """Return a text of a record for a table of rich, whose markup it must not be."""
    return escape(one_line(text))
