"""``manifold release``."""

from __future__ import annotations

import click

from streams.cli.actor import ACTOR
from streams.cli.executor_command import (
    WAIT,
    give,
    held,
    known_instrument,
    open_account,
    wait_until_gone,
    why_it_waits,
)
from streams.cli.output import echo
from streams.cli.reason import REASON
from streams.errors import Fatal, Recoverable


@click.command()
@click.argument("instrument")
@REASON
@ACTOR
@WAIT
def release(instrument: str, reason: str, actor: str, wait_s: float) -> None:
    """Hand the position in INSTRUMENT over to the operator: the executor no longer manages it.

    It stays open with its stop loss and take profit, and only the operator closes it: the end of
    the run, manifold close and manifold flatten do not. While it is open, no other position is
    opened in the instrument. Exit codes: 0 released, 75 no executor has carried it out within
    --wait; what it waits for is printed, and the command stays in effect.

    \b
    Examples:
      manifold release EUR_USD --reason "managed by hand"
    """
    here = open_account(reason)
    books = here.books()
    name = known_instrument(here.control(), books, instrument)
    if here.mode == "paper":
        raise Fatal(
            "a position of the paper account cannot be released: there is no other way to close "
            f"it; close it with manifold close {name}"
        )
    if not held(books, name):
        echo(f"no position of the executor in {name}")
        return
    give(here, "release", name, actor, reason)
    left = wait_until_gone(here, name, wait_s)
    if left:
        raise Recoverable(
            f"{name}: {', '.join(left)} still open according to the log after {wait_s:g} s; "
            f"{why_it_waits(here, name)}"
        )
    echo(f"no position of the executor in {name} any more")
