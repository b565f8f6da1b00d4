"""``manifold flatten``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from streams.cli.actor import ACTOR
from streams.cli.executor_command import (
    ExecutorAccount,
    account,
    say_released,
)
from streams.cli.output import echo
from streams.cli.reason import REASON, require_reason
from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.config.trading import Trading
from streams.errors import Fatal, Recoverable
from streams.process.clock_skew import now_ms

if TYPE_CHECKING:
    from streams.cli.trade import AccountAtEnd
    from streams.trading.ledger import Ledger

LOOK_S = 0.3
BEGIN_S = 1.0
"""Seconds within which a running executor has begun to close; after that none is running."""
WORK_S = 10.0


@click.command()
@REASON
@ACTOR
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0.0),
    help="Wait this many seconds for a running executor before taking over from it.  "
    f"[default: {BEGIN_S:g}, and up to {WORK_S:g} once it has begun to close]",
)
@click.option(
    "--within",
    "within_s",
    type=click.FloatRange(1.0),
    default=60.0,
    show_default=True,
    help="Try to close positions for this many seconds after taking over.",
)
@click.option(
    "--no-takeover",
    is_flag=True,
    help="Append the command only; do not take over from a running executor.",
)
def flatten(
    reason: str, actor: str, wait_s: float | None, within_s: float, no_takeover: bool
) -> None:
    """Engage the kill switch and close every position of this account.

    The kill switch is engaged first. Then the command is written to ops.control, and a running
    executor closes every position whose opening order precedes it. If none does so within --wait,
    this command takes over the account (a running executor is fenced and ends), closes the
    positions, and exits. Closing does not depend on one source: the positions to close are known
    from the log, from the venue's trades or from its positions, whichever can be read; what could
    not be read is printed. The paper account fills at the next candle: without a feed it cannot
    close. Positions that the executor did not open, and released ones, are not touched; they are
    named while they are open. The kill switch stays engaged: manifold kill off --reason TEXT clears
    it.

    Exit codes: 0 no position of the executor is left; 75 one is left, or the venue did not confirm
    that none is.

    \b
    Examples:
      manifold flatten --reason "central bank in ten minutes"
      manifold flatten --reason test --wait 0
    """
    require_reason(reason)
    runtime, config, trading = Runtime.from_env(), Config.from_env(), Trading.from_env()
    if trading.read_only or trading.dry_run_trades:
        raise Fatal("READ_ONLY or DRY_RUN_TRADES is set: nothing can be closed; unset it")
    here = account(runtime, trading)
    offset = _say(here, actor, reason)
    if no_takeover:
        echo("the command is in the log; a running executor carries it out")
        return
    begun = time.monotonic()
    held = _wait(here, wait_s, offset)
    invalid = here.books().invalid
    if invalid:
        echo(f"{len(invalid)} invalid record(s) in the order log: asking the broker what is open")
    if held or invalid:
        waited_s = time.monotonic() - begun
        echo(
            f"still open according to the log after {waited_s:.1f} s: "
            f"{', '.join(held) or 'nothing'}; taking over"
        )
        from streams.cli.trade import run_executor

        outcome = run_executor(runtime, config, trading, flatten_within_s=within_s)
        held = _held(here.books())
        _require_flat(held, outcome, within_s)
    echo(f"no position of the executor in account {here.account_id}")
    say_released(here, here.books())


def _require_flat(held: list[str], outcome: AccountAtEnd, within_s: float) -> None:
    for what, why in sorted(outcome.unread.items()):
        echo(f"could not be read: {what}: {why}", err=True)
    for name, why in sorted(outcome.cannot_close.items()):
        echo(f"cannot close {name}: {why}", err=True)
    if held:
        raise Recoverable(
            f"still open according to the log: {', '.join(held)}; see exec.fills for the broker's "
            "answers"
        )
    if not outcome.confirmed:
        raise Recoverable(
            "every position in the log is closed, but the venue has not confirmed within "
            f"{within_s:g} s that none is open: check the account at the broker, or run this "
            "command again"
        )


def _say(here: ExecutorAccount, actor: str, reason: str) -> int:
    """Engage the kill switch and write the command; return its offset."""
    from streams.trading.flatten import flatten_record
    from streams.trading.kill_switch.commands import engage

    at_ms = now_ms()
    engaged = engage(here.runtime, here.codec, actor, f"flatten: {reason}", at_ms)
    echo(f"kill switch engaged (ops.control {engaged.offset})")
    if engaged.key_problem:
        echo(f"the key in Valkey could not be set: {engaged.key_problem}", err=True)
    offset = here.append(flatten_record(here.account_id, actor, reason, at_ms))
    echo(f"flatten of account {here.account_id} written (ops.control {offset})")
    return offset


def _wait(here: ExecutorAccount, wait_s: float | None, offset: int) -> list[str]:
    """Wait for a running executor; return the positions left when it is done or does not begin."""
    begun = time.monotonic()
    while True:
        ledger = here.books()
        held = _held(ledger)
        at_work = any(
            i.kind == "close" and i.control_offset > offset for i in ledger.intents.values()
        )
        limit_s = wait_s if wait_s is not None else WORK_S if at_work else BEGIN_S
        if not held or time.monotonic() - begun >= limit_s:
            return held
        time.sleep(LOOK_S)


def _held(ledger: Ledger) -> list[str]:
    """Return open positions and pending orders, according to the log, as text."""
    from streams.trading.reports import doubt_words

    found = [f"{name} {held.signed_units:f}" for name, held in sorted(ledger.holdings.items())]
    return found + [doubt_words(intent) for _, intent in sorted(ledger.unresolved.items())]
