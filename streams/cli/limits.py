"""``manifold limits``."""

from __future__ import annotations

import click

from streams.cli.actor import ACTOR
from streams.cli.executor_command import REASON, now_ms, open_account


@click.group()
def limits() -> None:
    """Reset the loss limits of the account."""


@limits.command()
@click.argument("limit", type=click.Choice(["drawdown"]))
@REASON
@ACTOR
def reset(limit: str, reason: str, actor: str) -> None:
    """Reset a limit: the drawdown is measured from the current NAV on.

    The command is recorded in ops.control; the executor sets the highest NAV to the current one.

    \b
    Examples:
      manifold limits reset drawdown --reason "reviewed; smaller weights from now on"
    """
    from streams.trading.operator_commands import limits_reset

    here = open_account(reason)
    record = limits_reset("drawdown", here.account_id, actor, reason, now_ms())
    offset = here.append(record)
    click.echo(f"reset of {limit} of account {here.account_id} written (ops.control {offset})")
