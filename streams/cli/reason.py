"""The --reason option, recorded in the log."""

from __future__ import annotations

import click

from streams.errors import Fatal
from streams.printable import says_something

REASON = click.option(
    "--reason", required=True, help="State the reason; it is recorded in the log."
)


def require_reason(reason: str) -> None:
    """Refuse a reason without a visible character.

    Raises
    ------
    Fatal
        The reason has none.
    """
    if not says_something(reason):
        raise Fatal("--reason is empty or has no visible character; it is recorded in the log")
