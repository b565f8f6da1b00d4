"""Reconciles ledger and brackets with the broker, and reports the differences."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

from streams.errors import Recoverable
from streams.trading.account_states import AccountStates
from streams.trading.bracket_keeping import BracketKeeper
from streams.trading.brokers.broker import Account, OpenTrade
from streams.trading.context import ExecutorContext
from streams.trading.guards import MarginGate
from streams.trading.kill_rules import KillRules, engage_by_itself
from streams.trading.operator_commands import commands_of
from streams.trading.order_log import restored_intent, why_blocked
from streams.trading.reading import ACCOUNT, ORDERS, POSITIONS, TRADES, TRANSACTIONS, Reading
from streams.trading.reconcile import Comparison, compare_positions
from streams.trading.reports import Told, adjustment
from streams.trading.terms import Terms

TRANSFERS, EXPOSURE = "transfers", "total exposure"

log = logging.getLogger("manifold.executor")


class Reconciler:
    """Reconciles the ledger of one account with the broker.

    Parameters
    ----------
    parts, terms, brackets
        The parts of the executor; the terms of the instruments; the maintainer of brackets.

    Attributes
    ----------
    reading
        The broker's answers.
    comparison, remarks
        The last result, and all messages from it and from refusals of the broker.
    """

    def __init__(self, parts: ExecutorContext, terms: Terms, brackets: BracketKeeper) -> None:
        self._parts, self._terms, self._brackets = parts, terms, brackets
        self._overloaded = False
        self.margin = MarginGate(parts.trading)
        self.states = AccountStates(parts.broker, parts.ledger, parts.dispatch, parts.control)
        self.rules = KillRules(parts, self.states)
        self.reading = Reading(parts.broker, parts.dispatch, parts.ledger)
        self.comparison = Comparison((), {}, frozenset(), ())
        self.remarks: tuple[str, ...] = ()

    async def run(self) -> None:
        """Read the account, correct the ledger, set the brackets.

        Answers are used even if other queries fail.

        Raises
        ------
        Recoverable
            A query failed; the message names all that failed.
        Fatal
            The venue refuses access.
        """
        parts, reading = self._parts, self.reading
        seen_before = set(parts.dispatch.others_filled)
        await reading.read()
        unread = reading.unread
        account, trades = reading.account, reading.trades or ()
        if account is not None and ACCOUNT not in unread:
            await self._watch_margin(account)
            await reading.ask(TRANSFERS, self.observed(account))
            if TRANSACTIONS in unread:
                unread.pop(TRANSFERS, None)  # transfers are transactions: already reported
            await self.rules.losses(account)
            if POSITIONS not in unread:
                await reading.ask(EXPOSURE, self.rules.exposure(account, reading.positions or ()))
        if parts.ledger.invalid and TRADES not in unread:
            await self._restore(trades)
        problems: list[str] = []
        if not {TRANSACTIONS, TRADES, ORDERS} & unread.keys():
            self._require_quiet(reading.as_of)
            self.comparison = compare_positions(parts.ledger, trades, reading.orders or ())
            parts.dispatch.others_filled -= seen_before
            await self._correct()
            await self._terms.learn(parts.runs.decided(), again=False)
            problems = await self._brackets.keep(trades)
        self._say((*self.comparison.differences, *problems))
        if unread:
            raise Recoverable("; ".join(why for _, why in sorted(unread.items())))
        checked = commands_of(parts.control.records, parts.broker.account_id).checked
        parts.metrics.reconciled.set(int(not why_blocked(parts.ledger.invalid, checked)))
        parts.metrics.differences.set(len(self.comparison.differences))

    def _require_quiet(self, as_of: int | None) -> None:
        if as_of is None or as_of != self._parts.dispatch.changes:
            raise Recoverable("an order is being answered: compared with the broker after it")

    async def _restore(self, trades: Sequence[OpenTrade]) -> None:
        """Write the intents of open trades whose records are invalid; see ``order_log``."""
        parts, ledger = self._parts, self._parts.ledger
        config = parts.control.state(parts.control.end).config
        for trade in trades:
            if config is None or not trade.client_id or trade.client_id in ledger.intents:
                continue
            found = restored_intent(
                trade, parts.runtime.application, parts.broker.mode, parts.broker.account_id,
                config, parts.control.records,
            )  # fmt: skip
            if found is not None:
                log.warning("%s: trade %s: %s", trade.instrument, trade.trade_id, found.reason)
                await parts.dispatch.note(found)

    async def _correct(self) -> None:
        parts, as_of = self._parts, self._parts.dispatch.changes
        nav = None if self.reading.account is None else self.reading.account.nav
        for number, correction in enumerate(self.comparison.corrections):
            self._require_quiet(as_of + number)
            intent = parts.ledger.intents[correction.order_id]
            told = Told(parts.broker.now_ms(), parts.broker.price_interval_ms, nav)
            await parts.dispatch.record(
                adjustment(
                    intent, correction.signed_units, correction.price, told, correction.reason,
                    correction.trade_ids,
                )
            )  # fmt: skip

    async def observed(self, account: Account) -> None:
        """Record the NAV.

        Raises
        ------
        Recoverable
            Transfers are unknown.
        """
        parts, self.reading.account = self._parts, account
        self.margin.update(account.margin_ratio)
        parts.metrics.nav.set(account.nav)
        parts.metrics.balance.set(account.balance)
        parts.metrics.margin.set(account.margin_ratio)
        await self.states.observe(account)
        change = parts.ledger.nav_history.change()
        parts.metrics.nav_change.set(math.nan if change is None else change)
        parts.dispatch.nav = account.nav

    def _say(self, differences: tuple[str, ...]) -> None:
        strangers = self._parts.dispatch.strangers
        silent = [
            f"{name}: {held.signed_units:f} units are held and no decision of it is in the log"
            for name, held in sorted(self._parts.ledger.holdings.items())
            if self._parts.runs.of(name) is None
        ]
        said = (*differences, *strangers, *silent)
        for sentence in said:
            if sentence not in self.remarks:
                log.warning("difference: %s", sentence)
        self.remarks = said
        strangers.clear()

    @property
    def by_hand(self) -> dict[str, list[str]]:
        """Instrument -> external changes of a position and their consequence, as text."""
        found = {name: list(said) for name, said in self._brackets.by_hand.items()}
        for name, held in self._parts.ledger.holdings.items():
            if held.reduced:
                found.setdefault(name, []).append(
                    f"{held.reduced}: nothing is added to what is left"
                )
        return found

    async def _watch_margin(self, account: Account) -> None:
        parts = self._parts
        overloaded = account.margin_ratio >= parts.trading.margin_overload
        if overloaded and not self._overloaded:
            reason = (
                f"margin in use {account.margin_ratio:.2%} of account {account.account_id}, "
                f"MARGIN_OVERLOAD {parts.trading.margin_overload:g}"
            )
            await engage_by_itself(parts, reason)
        self._overloaded = overloaded
