"""Sends orders to the venue, each at most once, and resolves their results.

The intent is committed to the log, the kill switch is read again, and only then is the venue
called. An id is sent at most once, by one process: an order whose answer was lost is looked up by
its id until the venue's answer is final, or until ``settle_sec`` has passed and the venue does not
know it. Then it is cancelled in the log, and if still wanted it becomes a new order with a new id.
(OANDA fills a market order twice if it is sent twice with one id, so ids do not make orders
idempotent.)

The closing of a trade has no client id at OANDA: the transactions name the trade of an order. A
trade can be closed completely only once, so such an order may be sent again under another id while
the result of the previous one is unknown.

Orders are sent concurrently with each other and with the reading of the venue's transactions.
Transactions of an order that is being sent are left for the next reading: its own answer is
processed first.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

from streams.errors import Fatal, Recoverable
from streams.records.trading_events import AccountState, BrokerReport, OrderIntent
from streams.trading.brokers.broker import Broker, OrderRequest, OrderResult, OutcomeUnknown
from streams.trading.brokers.nameless_orders import SETTLE_MS, matching_order
from streams.trading.brokers.transaction import Transaction
from streams.trading.brokers.units import ZERO, units_of
from streams.trading.holdings import rule_of, transaction_order
from streams.trading.journal import Journal, Record
from streams.trading.ledger import Ledger
from streams.trading.metrics import ExecutorMetrics
from streams.trading.reports import (
    ACCEPTED,
    Told,
    accepted,
    own_report,
    report_of_result,
    report_of_transaction,
    report_words,
)

STALE_S = 1.0
"""Seconds after an intent's commit in which the venue may be called: a process that was suspended
longer may have been fenced, and does not call."""

log = logging.getLogger("manifold.executor")


class KillState(Protocol):
    """The state of a kill switch."""

    @property
    def engaged(self) -> bool:
        """Whether opening and increasing are blocked."""
        ...

    @property
    def why(self) -> tuple[str, ...]:
        """Every reason for which it is engaged."""
        ...


class KillSwitchSource(Protocol):
    """The kill switch, read right before every order that opens or increases."""

    async def aread(self) -> KillState:
        """Return the state at the moment of the call; engaged if it cannot be read."""
        ...


class Written(NamedTuple):
    """An intent in the log, and when it was committed (monotonic seconds)."""

    intent: OrderIntent
    committed_at: float


class Dispatch:
    """The only code that sends orders to the venue.

    Parameters
    ----------
    journal, broker, ledger, kill, metrics
        The order log, the venue, the ledger, the kill switch, the counters.
    cursor
        The venue's transaction up to which all were processed.
    clock
        Monotonic seconds.

    Attributes
    ----------
    in_flight
        Ids of the orders that are being sent now.
    others_filled
        Instruments with a fill of an untracked order since the last reconciliation.
    fills, changes
        Number of fills, and of records of any kind, written.
    """

    def __init__(
        self,
        journal: Journal,
        broker: Broker,
        ledger: Ledger,
        kill: KillSwitchSource,
        metrics: ExecutorMetrics,
        cursor: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._journal, self._broker, self._ledger = journal, broker, ledger
        self._kill, self._metrics, self._clock = kill, metrics, clock
        self._missing_since: dict[str, float] = {}
        self._writing = asyncio.Lock()
        self.in_flight: set[str] = set()
        self.cursor = cursor
        self.nav: float | None = None
        self.strangers: list[str] = []
        self.others_filled: set[str] = set()
        self.fills = self.changes = 0

    async def write(self, intent: OrderIntent) -> Written:
        """Write an intent, which is sent right after."""
        if intent.submitted:
            self.in_flight.add(intent.order_id)
        async with self._writing:
            await self._commit(intent)
            self._ledger.take_intent(intent)
            self.changes += 1
        self._metrics.intended(intent)
        return Written(intent, self._clock())

    async def note(self, record: OrderIntent) -> None:
        """Write a record to ``exec.orders`` that is not an order: nothing is sent."""
        async with self._writing:
            await self._commit(record)
            self._ledger.take_intent(record)
        self._metrics.intended(record)

    async def send(self, written: Written) -> BrokerReport | None:
        """Send an order, write the answer to the log, and return it.

        Raises
        ------
        Fatal
            The venue refuses access; the order is cancelled in the log first.
        """
        intent = written.intent
        if not intent.submitted:
            failing = [f"{v.guard} ({v.detail})" for v in intent.guards if not v.passed]
            log.info("%s %s is not sent: %s", intent.instrument, intent.kind, "; ".join(failing))
            return None
        try:
            await self._send(intent, written.committed_at)
        finally:
            self.in_flight.discard(intent.order_id)
        return self._ledger.reports.get(intent.order_id, [None])[-1]

    async def _send(self, intent: OrderIntent, committed_at: float) -> None:
        if intent.kind in ("open", "increase"):
            state = await self._kill.aread()
            if state.engaged:
                why = "; ".join(state.why)
                await self._report(
                    own_report(intent, "cancelled", self._told(), f"kill switch: {why}")
                )
                return
        if self._clock() - committed_at > STALE_S:
            reason = f"not sent: more than {STALE_S:g} s went by after the intent was written"
            await self._report(own_report(intent, "cancelled", self._told(), reason))
            return
        await self._hand_over(intent, committed_at)

    async def _hand_over(self, intent: OrderIntent, committed_at: float) -> None:
        try:
            result = await self._broker.submit(request_of(intent))
        except OutcomeUnknown as error:
            log.warning("%s: the answer was lost, looking it up: %s", intent.order_id, error)
            await self._report(own_report(intent, "unknown", self._told(), str(error)))
            return
        except Recoverable as error:
            await self._report(own_report(intent, "cancelled", self._told(), f"not sent: {error}"))
            return
        except Fatal as error:
            await self._report(own_report(intent, "cancelled", self._told(), f"not sent: {error}"))
            raise
        self._metrics.answer_seconds.observe(self._clock() - committed_at)
        await self._answered(intent, result)

    async def _answered(self, intent: OrderIntent, result: OrderResult) -> None:
        made = report_of_result(intent, result, self._told())
        if result.outcome == "pending":
            before = self._ledger.doubtful.get(intent.order_id)
            if before is not None and accepted(before):
                return
            made = made._replace(reason=ACCEPTED)
        await self._report(made)

    async def follow_up(self) -> None:
        """Process the venue's new transactions, and look up unresolved orders.

        The result of an order is in the venue's transactions; queried for a single order, OANDA
        knows only pending ones.

        Raises
        ------
        Recoverable
            The venue does not answer.
        """
        await self._read_book()
        waiting = list(self._ledger.unresolved.values())
        given_up = [i for i in waiting if await self._gave_up(i)]
        if not given_up:
            return
        await self._read_book()  # again: it may have been filled during the lookup
        for intent in given_up:
            if self._is_open(intent):
                reason = "the venue does not know it: it never arrived, and is not sent again"
                await self._report(own_report(intent, "cancelled", self._told(), reason))

    async def _read_book(self) -> None:
        for booked in await self._broker.transactions(self.cursor):
            if self._being_answered(booked):
                return
            await self._booked(booked)
            if transaction_order(booked.transaction_id) > transaction_order(self.cursor):
                self.cursor = booked.transaction_id

    def _being_answered(self, booked: Transaction) -> bool:
        if not self.in_flight:
            return False
        if booked.client_id in self.in_flight:
            return True
        found = (self._ledger.intents.get(order) for order in self.in_flight)
        intents = [i for i in found if i is not None]
        nameless = (
            None if self._broker.takes_client_ids else matching_order(booked.ordered, intents)
        )
        return nameless is not None or any(self._closes(i, booked) for i in intents)

    def _closes(self, intent: OrderIntent, booked: Transaction) -> bool:
        """Return whether a transaction is about closing the trade of an order."""
        if intent.close_by != "trade" or not booked.closes_trade:
            return False
        names = {booked.closes_trade, f"@{self._ledger.openers.get(booked.closes_trade)}"}
        return intent.trade_id in names

    def _is_open(self, intent: OrderIntent) -> bool:
        """Return whether the result of an order is unknown and not being resolved."""
        order = intent.order_id
        return order in self._ledger.unresolved and order not in self.in_flight

    async def _gave_up(self, intent: OrderIntent) -> bool:
        """Look an order up; return whether the venue does not know it after ``settle_sec``."""
        if not self._is_open(intent):
            return False
        # closings of trades are found only in the transactions
        by_id = intent.close_by != "trade"
        if by_id and not self._broker.takes_client_ids:
            # matched only by instrument, units and time: unresolved as long as it may arrive
            return self._broker.now_ms() - intent.placed_ms > SETTLE_MS
        result = await self._broker.lookup(intent.order_id) if by_id else None
        if not self._is_open(intent):
            return False
        if result is not None:
            self._missing_since.pop(intent.order_id, None)
            await self._answered(intent, result)
            return False
        since = self._missing_since.setdefault(intent.order_id, self._clock())
        return self._clock() - since >= self._broker.settle_sec

    async def _booked(self, booked: Transaction) -> None:
        if booked.kind == "other" or self._ledger.booked(booked):
            return
        touched = {trade for trade, _ in booked.reduced}
        if touched and touched <= self._ledger.released.keys():
            return  # released to the operator before
        intent = self._ledger.intents.get(booked.client_id) or self._closing_of(booked)
        if intent is None and not self._broker.takes_client_ids:
            intent = matching_order(booked.ordered, self._ledger.unresolved.values())
        if intent is not None and (booked.closes_trade or booked.ordered):
            booked = booked._replace(cause="order")
        if intent is None:
            intent = self._opener_of(booked)
            if booked.cause == "order":  # an untracked order that reduced a trade of the executor
                booked = booked._replace(cause="other")
        if intent is None:
            if booked.kind == "fill":
                self.others_filled.add(booked.instrument)
                self.strangers.append(
                    f"{booked.instrument}: transaction {booked.transaction_id} filled "
                    f"{booked.units:f} units that are not ours"
                )
            return
        if booked.kind == "fill" or intent.order_id in self._ledger.unresolved:
            ours = self._part_of_ours(booked)
            await self._report(report_of_transaction(intent, ours, self._told()))

    def _closing_of(self, booked: Transaction) -> OrderIntent | None:
        """Return the unresolved order that was to close the trade a transaction closes."""
        found = (i for i in self._ledger.unresolved.values() if self._closes(i, booked))
        return next(found, None)

    def _part_of_ours(self, booked: Transaction) -> Transaction:
        """Return an untracked fill with only the units of the executor's trades."""
        held = self._ledger.holdings.get(booked.instrument)
        if booked.cause == "order" or not booked.reduced or held is None:
            return booked
        units = sum((units for trade, units in booked.reduced if trade in held.trades), ZERO)
        return booked._replace(units=units)

    def _opener_of(self, booked: Transaction) -> OrderIntent | None:
        held = self._ledger.holdings.get(booked.instrument)
        if held is not None and set(held.trade_ids) & set(booked.trade_ids):
            return self._ledger.intents.get(held.opening_id)
        return None

    async def record(self, made: BrokerReport) -> None:
        """Write a report made by the executor itself."""
        await self._report(made)

    async def record_state(self, made: AccountState) -> None:
        """Write the reference values of the account's limits."""
        async with self._writing:
            await self._commit(made)
            self._ledger.take_state(made)

    async def _report(self, made: BrokerReport) -> None:
        intent = self._ledger.intents[made.order_id]
        async with self._writing:
            await self._commit(made)
            self._ledger.take_report(made)
            self.changes += 1
        self._metrics.reported(intent, made)
        self.fills += made.status == "filled"
        log.info("%s", report_words(intent, made))

    async def _commit(self, record: Record) -> None:
        await asyncio.to_thread(self._journal.write, [record])

    def _told(self) -> Told:
        return Told(self._broker.now_ms(), self._broker.price_interval_ms, self.nav)


def request_of(intent: OrderIntent) -> OrderRequest:
    """Return the order of an intent."""
    sign = 1 if intent.side == "buy" else -1
    return OrderRequest(
        intent.order_id,
        intent.instrument,
        sign * units_of(intent.units),
        intent.kind in ("reduce", "close"),
        intent.stop_loss,
        intent.take_profit,
        rule_of(intent),
        intent.placed_ms,
        intent.close_by,
        intent.trade_id,
        intent.price_bound,
    )
