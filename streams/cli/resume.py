"""``manifold resume``."""

from __future__ import annotations

import click

from streams.cli.actor import ACTOR
from streams.cli.executor_command import give, known_instrument, open_account
from streams.cli.output import echo
from streams.cli.reason import REASON


@click.command()
@click.argument("instrument")
@REASON
@ACTOR
def resume(instrument: str, reason: str, actor: str) -> None:
    """Allow opening and increasing a position in INSTRUMENT again after manifold pause.

    An entry during the pause is not joined late; the next one is.

    \b
    Examples:
      manifold resume EUR_USD --reason "decision published"
    """
    here = open_account(reason)
    control = here.control()
    name = known_instrument(control, here.books(), instrument)
    if name not in here.commands(control).paused:
        echo(f"{name} is not paused in account {here.account_id}")
        return
    give(here, "resume", name, actor, reason)
