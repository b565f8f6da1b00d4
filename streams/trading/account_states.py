"""Keeps the reference values of an account's limits; writes every change to ``exec.fills``.

The highest net asset value (NAV) and the NAV at the start of the day are records, so a restart
continues with the same values. A deposit or withdrawal scales both by NAV after / NAV before.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from streams.instants import EARLIEST_MS
from streams.records.control import ControlLog
from streams.records.trading_events import AccountState, StateCause
from streams.trading.brokers.broker import Account, Broker
from streams.trading.brokers.transaction import Transaction
from streams.trading.dispatch import Dispatch
from streams.trading.holdings import transaction_order
from streams.trading.ledger import Ledger
from streams.trading.market_day import Marks, Worth
from streams.trading.operator_commands import Given, commands_of

log = logging.getLogger("manifold.executor")


class AccountStates:
    """The reference values of one account's limits.

    Parameters
    ----------
    broker, ledger, dispatch
        The venue, the ledger, the order dispatch.
    control
        Gives the configuration under which a record is written.
    """

    def __init__(
        self, broker: Broker, ledger: Ledger, dispatch: Dispatch, control: ControlLog
    ) -> None:
        self._broker, self._ledger, self._dispatch = broker, ledger, dispatch
        self._control = control
        self._cursor = ledger.state.transaction_id if ledger.state else dispatch.cursor
        self._commanded = ledger.state.control_offset if ledger.state else 0

    async def observe(self, account: Account) -> None:
        """Record the NAV, after all transfers included in it.

        Nothing is recorded before the first candle of a paper account: it has no time until then.

        Raises
        ------
        Recoverable
            The venue's transactions cannot be read: transfers are unknown.
        """
        if self._broker.now_ms() < EARLIEST_MS:
            return
        worth, last_id = self._ledger.worth, account.last_transaction_id
        if transaction_order(last_id) > transaction_order(self._cursor):
            booked = await self._broker.transactions(self._cursor)
            for moved, before, after in transfers(booked, last_id, account.unrealized_pl):
                worth.transferred(before, after)
                self._ledger.nav_history.transferred(before, after)
                self._cursor = moved.transaction_id
                await self._write("transfer", account, moved.amount)
                log.info(
                    "transfer of %+.2f %s (transaction %s): NAV %.2f before, %.2f after; the "
                    "reference values of the limits are scaled",
                    moved.amount, account.currency, moved.transaction_id, before, after,
                )  # fmt: skip
            self._cursor = last_id
        before_it = worth.marks
        worth.observe(self._broker.now_ms(), account.nav)
        self._ledger.nav_history.observe(self._broker.now_ms(), account.nav)
        reset = self._reset_asked()
        cause = "reset" if reset else change(before_it, worth)
        if cause:
            await self._write(cause, account)
        if reset:
            log.info(
                "drawdown reset %s: measured from NAV %.2f %s on",
                reset.words, account.nav, account.currency,
            )  # fmt: skip

    def _reset_asked(self) -> Given | None:
        """Carry out an operator's drawdown reset that is not in the last record yet."""
        commands = commands_of(self._control.records, self._broker.account_id)
        last = commands.resets[-1] if commands.resets else None
        asked = last if last is not None and last.offset >= self._commanded else None
        self._commanded = self._control.end
        if asked:
            self._ledger.worth.reset_peak()
        return asked

    async def losses_judged(self, account: Account, transaction_id: str) -> None:
        """Record that the losing trades up to a transaction have engaged the kill switch."""
        await self._write("losses", account, judged_to=transaction_id)

    async def _write(
        self,
        cause: StateCause,
        account: Account,
        amount: float | None = None,
        judged_to: str | None = None,
    ) -> None:
        worth = self._ledger.worth
        if worth.marks is None or worth.now is None:
            return
        if judged_to is None:
            judged_to = self._ledger.losses_judged_to
        made = AccountState(
            account.account_id, self._broker.mode, self._broker.now_ms(),
            self._control.state(self._control.end).config_id, cause, worth.now,
            *worth.marks, self._cursor, amount, judged_to, self._commanded,
        )  # fmt: skip
        await self._dispatch.record_state(made)


def transfers(
    booked: Sequence[Transaction], last_id: str, unrealized_pl: float
) -> list[tuple[Transaction, float, float]]:
    """Return the transfers up to ``last_id``, each with the net asset values before and after it.

    Parameters
    ----------
    booked
        Transactions in the venue's order.
    unrealized_pl
        Of the open positions, as read with the account: a transfer only has the balance after it.
    """
    found = []
    for one in booked:
        if one.amount is None or one.balance is None:
            continue
        if transaction_order(one.transaction_id) <= transaction_order(last_id):
            after = one.balance + unrealized_pl
            found.append((one, after - one.amount, after))
    return found


def change(before: Marks | None, worth: Worth) -> StateCause | None:
    """Return why the state must be written after an observation; None when nothing changed."""
    after = worth.marks
    if after is None or after == before:
        return None
    if before is None:
        return "start"
    return "day" if after.day_ms != before.day_ms else "peak"
