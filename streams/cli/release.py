"""``manifold release``."""

from __future__ import annotations

import click

from streams.cli.actor import ACTOR
from streams.cli.executor_command import (
    REASON,
    WAIT,
    give,
    held,
    known_instrument,
    open_account,
    wait_until_gone,
    why_it_waits,
)
from streams.errors import Fatal, Recoverable


@click.command()
@click.argument("instrument")
@REASON
@ACTOR
@WAIT
def release(instrument: str, reason: str, actor: str, wait_s: float) -> None:
    """Leave the position in INSTRUMENT to the operator: the executor does not manage it any more.

    It stays open with the brackets it has, and nobody but you closes it: not the run's end, not
    manifold close, not manifold flatten. As long as it is open nothing else is opened in the
    instrument. Exit codes: 0 released, 75 no executor has done it within --wait; what it waits
    for is printed, and the command stays in force.

    \b
    Examples:
      manifold release EUR_USD --reason "I look after it myself"
    """
    here = open_account(reason)
    books = here.books()
    name = known_instrument(here.control(), books, instrument)
    if here.mode == "paper":
        raise Fatal(
            "the paper account releases nothing: nobody else could look after the position; close "
            f"it with manifold close {name}"
        )
    if not held(books, name):
        click.echo(f"nothing of ours is held in {name}")
        return
    give(here, "release", name, actor, reason)
    left = wait_until_gone(here, name, wait_s)
    if left:
        raise Recoverable(
            f"{name}: {', '.join(left)} still held by the log after {wait_s:g} s; "
            f"{why_it_waits(here, name)}"
        )
    click.echo(f"nothing of ours is held in {name} any more")
