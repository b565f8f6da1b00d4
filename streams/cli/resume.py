"""``manifold resume``."""

from __future__ import annotations

import click

from streams.cli.actor import ACTOR
from streams.cli.executor_command import REASON, give, open_account
from streams.instruments import instrument_name


@click.command()
@click.argument("instrument")
@REASON
@ACTOR
def resume(instrument: str, reason: str, actor: str) -> None:
    """Let INSTRUMENT be opened and increased again after manifold pause.

    An entry that came in the meantime is not joined late: the next one is.

    \b
    Examples:
      manifold resume EUR_USD --reason "the decision is out"
    """
    here, name = open_account(reason), instrument_name(instrument)
    if name not in here.commands(here.control()).paused:
        click.echo(f"{name} is not paused in account {here.account_id}")
        return
    give(here, "resume", name, actor, reason)
