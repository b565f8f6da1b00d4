"""``manifold close``."""

from __future__ import annotations

import sys
from decimal import Decimal

import click

from streams.cli.actor import ACTOR
from streams.cli.executor_command import (
    REASON,
    WAIT,
    give,
    held,
    known_instrument,
    open_account,
    say_released,
    wait_until_gone,
    why_it_waits,
)
from streams.cli.order import UNITS, give_order
from streams.errors import Fatal, Recoverable


@click.command()
@click.argument("instrument")
@click.option("--units", type=UNITS, help="Only so many units.  [default: all of it]")
@REASON
@ACTOR
@WAIT
def close(instrument: str, units: Decimal | None, reason: str, actor: str, wait_s: float) -> None:
    """Close the position in INSTRUMENT now, or --units of it.

    The executor that runs closes what was opened before the record in ops.control. The run is not
    joined again in the middle; its next entry is, unless manifold pause says otherwise. Positions
    of others are not touched, nor is what was released: that is named when it is still open. Exit
    codes: 0 nothing of ours is held there, 75 something still is after --wait. Without an executor
    manifold flatten closes, everything. With --units it is an order (manifold order --reduce), with
    its exit codes, and nothing is added to what is left.

    \b
    Examples:
      manifold close EUR_USD --reason "enough for today"
      manifold close EUR_USD --units 1000 --reason "half of it"
    """
    here = open_account(reason)
    if here.trading.read_only or here.trading.dry_run_trades:
        raise Fatal("READ_ONLY or DRY_RUN_TRADES is set: nothing can be closed; unset it")
    books = here.books()
    name = known_instrument(here.control(), books, instrument)
    if not held(books, name):
        click.echo(f"nothing of ours is held in {name}")
        say_released(here, books, name)
        return
    if units is not None:
        sys.exit(give_order(here, name, "reduce", units, actor, reason, wait_s))
    give(here, "close", name, actor, reason)
    left = wait_until_gone(here, name, wait_s)
    if left:
        raise Recoverable(
            f"{name}: {', '.join(left)} still held by the log after {wait_s:g} s; "
            f"{why_it_waits(here, name)}; exec.fills has the broker's answers (manifold flatten "
            "closes without an executor)"
        )
    click.echo(f"nothing of ours is held in {name} any more")
    say_released(here, here.books(), name)
