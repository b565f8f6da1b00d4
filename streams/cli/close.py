"""``manifold close``."""

from __future__ import annotations

import sys
from decimal import Decimal

import click

from streams.cli.actor import ACTOR
from streams.cli.executor_command import (
    WAIT,
    give,
    held,
    known_instrument,
    open_account,
    say_released,
    wait_until_gone,
    why_it_waits,
)
from streams.cli.order import UNITS, submit_order
from streams.cli.output import echo
from streams.cli.reason import REASON
from streams.errors import Fatal, Recoverable


@click.command()
@click.argument("instrument")
@click.option("--units", type=UNITS, help="Close this many units.  [default: the whole position]")
@REASON
@ACTOR
@WAIT
def close(instrument: str, units: Decimal | None, reason: str, actor: str, wait_s: float) -> None:
    """Close the position in INSTRUMENT now, or --units of it.

    A running executor closes every position opened before the record in ops.control. It does not
    join the current trade again, but does join the next entry unless the instrument is paused
    (manifold pause). Positions that the executor did not open are not touched, nor are released
    ones; a released position that is still open is named. Exit codes: 0 no position is left, 75 one
    is left after --wait. Without a running executor use manifold flatten, which closes all
    instruments. With --units the command is an order (manifold order --reduce) with its exit codes,
    and the rest of the position is not increased.

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
        echo(f"no position of the executor in {name}")
        say_released(here, books, name)
        return
    if units is not None:
        sys.exit(submit_order(here, name, "reduce", units, actor, reason, wait_s))
    give(here, "close", name, actor, reason)
    left = wait_until_gone(here, name, wait_s)
    if left:
        raise Recoverable(
            f"{name}: {', '.join(left)} still open according to the log after {wait_s:g} s; "
            f"{why_it_waits(here, name)}; exec.fills has the broker's answers (manifold flatten "
            "closes without an executor)"
        )
    echo(f"no position of the executor in {name} any more")
    say_released(here, here.books(), name)
