"""``manifold limits``."""

from __future__ import annotations

import click

from streams.cli.actor import ACTOR
from streams.cli.executor_command import open_account
from streams.cli.output import echo
from streams.cli.reason import REASON
from streams.errors import Fatal
from streams.process.clock_skew import now_ms

SHOWN = 20


@click.group()
def limits() -> None:
    """Reset the loss limits of the account."""


@limits.command()
@click.argument("limit", type=click.Choice(["drawdown", "order_log"]))
@REASON
@ACTOR
def reset(limit: str, reason: str, actor: str) -> None:
    """Reset a limit: drawdown is measured from the current NAV on, order_log allows opening again.

    The command is recorded in ops.control; the executor sets the highest NAV to the current one.
    With invalid records in exec.orders or exec.fills (manifold executor names the first) nothing is
    opened. Compare the account with the broker, then give order_log: it applies to the invalid
    records that are there now.

    \b
    Examples:
      manifold limits reset drawdown --reason "reviewed; smaller weights from now on"
      manifold limits reset order_log --reason "the broker's positions are the executor's"
    """
    from streams.trading.operator_commands import limits_reset, order_log_checked

    here = open_account(reason)
    if limit == "order_log":
        invalid = here.books().invalid
        if not invalid:
            raise Fatal("exec.orders and exec.fills have no invalid record: nothing to reset")
        for one in invalid[:SHOWN]:
            echo(f"offset {one.offset} of {one.place}: {one.problem}")
        record = order_log_checked(invalid, here.account_id, actor, reason, now_ms())
    else:
        record = limits_reset("drawdown", here.account_id, actor, reason, now_ms())
    offset = here.append(record)
    echo(f"reset of {limit} of account {here.account_id} written (ops.control {offset})")
