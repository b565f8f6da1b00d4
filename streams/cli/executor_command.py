"""Shared by the commands to an executor: the account, the control record, positions of the log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import click

from streams.cli.output import echo
from streams.cli.reason import require_reason
from streams.config.runtime import Runtime
from streams.config.trading import Trading
from streams.errors import Fatal, Recoverable
from streams.instruments import instrument_name
from streams.kafka.control_topic import append_control, read_control
from streams.kafka.registry import open_codec
from streams.process.clock_skew import now_ms
from streams.records.events import Control

if TYPE_CHECKING:
    from streams.monitoring.executor_status import ExecutorState
    from streams.records.codec import Codec
    from streams.records.control import ControlLog
    from streams.trading.brokers.broker import OpenTrade
    from streams.trading.ledger import Ledger
    from streams.trading.operator_commands import Commands, InstrumentCommand

WAIT = click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0.0),
    default=30.0,
    show_default=True,
    help="Wait this many seconds for the executor to carry it out.",
)
LOOK_S = 0.3


class ExecutorAccount(NamedTuple):
    """The account named by TRADING_VENUE and its settings, in a deployment."""

    runtime: Runtime
    codec: Codec
    account_id: str
    mode: str
    trading: Trading

    def control(self) -> ControlLog:
        """Read ``ops.control`` to its end."""
        return read_control(self.runtime, self.codec)

    def commands(self, control: ControlLog) -> Commands:
        """Return the earlier commands about the account's instruments."""
        from streams.trading.operator_commands import commands_of

        return commands_of(control.records, self.account_id)

    def books(self) -> Ledger:
        """Return the executor's positions in the account, according to the log."""
        from streams.trading.ledger import Ledger
        from streams.trading.start import fold_orders

        ledger = Ledger(self.account_id, self.mode)
        fold_orders(self.runtime, self.codec, ledger)
        return ledger

    def append(self, record: Control) -> int:
        """Write a record; return its offset."""
        return append_control(self.runtime, self.codec, [record])[0]


def account(runtime: Runtime, trading: Trading) -> ExecutorAccount:
    """Return the account that the settings name, without a request to its venue.

    Raises
    ------
    Fatal
        The venue's settings are incomplete.
    Recoverable
        The registry does not answer.
    """
    from streams.cli.trade import open_venue

    async def ask() -> ExecutorAccount:
        codec, venue = await open_codec(runtime), await open_venue(trading)
        if venue is None:
            return ExecutorAccount(runtime, codec, trading.paper_account_id, "paper", trading)
        found = ExecutorAccount(runtime, codec, venue.account_id, str(venue.mode), trading)
        await venue.aclose()
        return found

    return asyncio.run(ask())


def open_account(reason: str) -> ExecutorAccount:
    """Return the account of this environment, for a command that needs a reason.

    Raises
    ------
    Fatal
        The reason is empty, or a setting is wrong.
    """
    require_reason(reason)
    return account(Runtime.from_env(), Trading.from_env())


def give(
    here: ExecutorAccount, kind: InstrumentCommand, instrument: str, actor: str, reason: str
) -> int:
    """Write a command about one instrument, print its offset, and return it."""
    from streams.trading.operator_commands import instrument_command

    record = instrument_command(kind, instrument, here.account_id, actor, reason, now_ms())
    offset = here.append(record)
    echo(f"{kind} {instrument} of account {here.account_id} written (ops.control {offset})")
    return offset


def say_released(here: ExecutorAccount, ledger: Ledger, instrument: str = "") -> None:
    """Print the released positions that are still open at the broker.

    Parameters
    ----------
    instrument
        Limit to this instrument; empty for all.
    """
    from streams.oanda.errors import RequestRefused
    from streams.trading.releasing import released_words

    trades = {
        trade: report.instrument
        for trade, report in ledger.released.items()
        if instrument in ("", report.instrument)
    }
    if not trades:
        return
    try:
        found = released_words(ledger, asyncio.run(_open_trades(here.trading)), instrument)
    except (Recoverable, Fatal, RequestRefused) as error:
        said = ", ".join(f"{trade} of {name}" for trade, name in sorted(trades.items()))
        found = [
            f"released, and possibly still open: trade {said}; the broker could not be "
            f"queried: {error}"
        ]
    for line in found:
        echo(line)


async def _open_trades(trading: Trading) -> Sequence[OpenTrade]:
    from streams.cli.trade import open_venue

    venue = await open_venue(trading)
    if venue is None:
        return ()
    try:
        return await venue.trades()
    finally:
        await venue.aclose()


def known_instrument(control: ControlLog, ledger: Ledger, text: str) -> str:
    """Return the instrument that a text names.

    Raises
    ------
    Fatal
        No feed has declared it and the account has no order in it; the message lists the known
        ones.
    """
    from streams.records.control import UniverseChange

    name = instrument_name(text)
    known = {intent.instrument for intent in ledger.intents.values()}
    for _, record in control.records:
        if record.kind == "universe":
            known.update(UniverseChange.from_json(record.value).instruments)
    if name not in known:
        there = ", ".join(sorted(known)) or "none yet"
        raise Fatal(f"no feed has declared {name}; known instruments: {there}")
    return name


def held(ledger: Ledger, instrument: str) -> list[str]:
    """Return open positions and pending orders in an instrument, according to the log, as text."""
    from streams.trading.reports import doubt_words

    found = ledger.holdings.get(instrument)
    said = [] if found is None else [f"{found.signed_units:f} units"]
    return said + [doubt_words(intent) for intent in ledger.waiting(instrument)]


def wait_until_gone(here: ExecutorAccount, instrument: str, wait_s: float) -> list[str]:
    """Wait until no position is left in an instrument; return what is left, as text."""
    end = time.monotonic() + wait_s
    while (left := held(here.books(), instrument)) and time.monotonic() < end:
        time.sleep(LOOK_S)
    return left


def why_it_waits(here: ExecutorAccount, instrument: str) -> str:
    """Return the executor's own reason for a command that it has not carried out."""
    from streams.config.service import Service
    from streams.monitoring.executor_status import ask_once

    stale_ms = int(1000 * here.trading.cycle_patience_s)
    url = Service.from_env().trade_status_url
    found = asyncio.run(ask_once(url, now_ms(), stale_ms))
    return waits_for(found, here.account_id, instrument)


def waits_for(found: ExecutorState, account_id: str, instrument: str) -> str:
    """Return what a command about an instrument waits for, from the executor's status."""
    status = found.status
    if status is None:
        return f"{found.detail}; an executor of account {account_id} carries it out when it runs"
    if status.account_id != account_id:
        return (
            f"the executor at TRADE_STATUS_URL is of account {status.account_id}; one of account "
            f"{account_id} carries it out when it runs (manifold trade)"
        )
    said = [
        *status.waiting.get(instrument, []),
        *([] if status.reconciled else [status.unreconciled]),
    ]
    return "; ".join(["an executor runs" if found.state == "running" else found.detail, *said])
