"""``manifold pause``."""

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
def pause(instrument: str, reason: str, actor: str) -> None:
    """Block opening and increasing a position in INSTRUMENT until manifold resume.

    An open position is still reduced and closed as its backtest run requires. The command is
    recorded in ops.control and applies to every executor of the account, after a restart too.

    \b
    Examples:
      manifold pause EUR_USD --reason "central bank at 14:15"
    """
    here = open_account(reason)
    control = here.control()
    name = known_instrument(control, here.books(), instrument)
    before = here.commands(control).paused.get(name)
    if before is not None:
        echo(f"{name} is paused already {before.words}")
        return
    give(here, "pause", name, actor, reason)
