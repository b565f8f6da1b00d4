"""Sends the closing orders that are due, whatever else fails.

Closing does not wait for queries: the positions to close are known from the log, from the trades
last read, or from the client ids of unresolved orders. Two are sent at the same time, so that one
without an answer does not delay the others.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable

from streams.candles.calendar import Calendar
from streams.records.trading_events import BrokerReport
from streams.trading.brokers.broker import Broker
from streams.trading.closing_pauses import ClosingPauses
from streams.trading.closing_plan import CLOSING, Closing, VenueState, closings, wanted
from streams.trading.dispatch import Dispatch, Written
from streams.trading.ledger import Ledger
from streams.trading.metrics import ExecutorMetrics
from streams.trading.planning_state import PlanningState

AT_ONCE = 2
TRIES_READ = 12
FIFO = ("FIFO_VIOLATION", "FIFO_VIOLATION_SAFEGUARD_VIOLATION")
NOT_OPEN = ("TRADE_DOESNT_EXIST",)
NO_WORD = "{}"
BY_ID_ONLY = "others hold something here, and the id of our trade is not known"

log = logging.getLogger("manifold.executor")


class Closer:
    """Closes the positions of one account.

    Parameters
    ----------
    broker, ledger, dispatch, metrics
        The venue, the ledger, the order dispatch, the gauges.
    desk, sight
        Return the current planning state of the log, and of the venue.
    ordering
        Lock, held from planning an order until it is in the log.
    calendar
        Returns the current market calendar.
    clock
        Monotonic seconds.

    Attributes
    ----------
    gone
        Trades that are not open at the venue; cleared after a reconciliation.
    no_ids
        Instruments in which the venue forbids closing by id.
    changed
        Called when a reconciliation is needed.
    """

    def __init__(
        self,
        broker: Broker,
        ledger: Ledger,
        dispatch: Dispatch,
        metrics: ExecutorMetrics,
        desk: Callable[[], PlanningState],
        sight: Callable[[], VenueState],
        ordering: asyncio.Lock,
        calendar: Callable[[], Calendar],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._broker, self._ledger, self._dispatch = broker, ledger, dispatch
        self._metrics, self._desk, self._sight = metrics, desk, sight
        self._ordering, self._clock = ordering, clock
        self._more = asyncio.Event()
        self._close_asked = -1
        self._said: dict[str, str] = {}
        self.pauses = ClosingPauses(calendar)
        self.gone: set[str] = set()
        self.no_ids: set[str] = set()
        self.changed: Callable[[], None] = lambda: None

    def poke(self) -> None:
        """Make a waiting run check again what is due."""
        self._more.set()

    async def run(self) -> None:
        """Send all due closings; return when none is left: all answered, or postponed.

        Raises
        ------
        Fatal
            The venue refuses access.
        """
        tasks: set[asyncio.Task[None]] = set()
        try:
            while True:
                self._more.clear()
                while len(tasks) < AT_ONCE and (due := await self._next()) is not None:
                    tasks.add(asyncio.create_task(self._send(*due)))
                if not tasks:
                    return
                await self._until_one(tasks)
                for task in [t for t in tasks if t.done()]:
                    tasks.discard(task)
                    task.result()
        finally:
            self.say()
            for task in tasks:
                task.cancel()

    async def _until_one(self, tasks: Iterable[asyncio.Task[None]]) -> None:
        poked = asyncio.create_task(self._more.wait())
        try:
            await asyncio.wait({*tasks, poked}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            poked.cancel()

    async def _next(self) -> tuple[Closing, Written] | None:
        async with self._ordering:
            desk, sight = self._desk(), self._sight()
            if desk.close_asked > self._close_asked:
                self.pauses.clear()  # a new command of an operator
                self._close_asked = desk.close_asked
            now, now_ms = self._clock(), self._broker.now_ms()
            subjects = {one.subject for one in wanted(desk, sight)}
            held_back = {s for s in subjects if self.pauses.held_back(s, now, now_ms)}
            due = closings(desk, sight, held_back=held_back)
            if not due:
                return None
            closing, intent = due[0]
            return closing, await self._dispatch.write(intent)

    async def _send(self, closing: Closing, written: Written) -> None:
        if written.intent.submitted:
            log.info("%s: closing %s units: %s", closing.instrument, closing.units, closing.reason)
        last = await self._dispatch.send(written)
        if last is None:
            return
        now, now_ms, reason = self._clock(), self._broker.now_ms(), last.reason or last.status
        if last.status == "filled" or (last.status == "unknown" and not self._sight().by_trade):
            self.pauses.worked(closing.subject, now)
            return
        if reason in FIFO and closing.by == "trade":
            log.warning("%s: %s: closed by position from now on", closing.instrument, reason)
            self.no_ids.add(closing.instrument)
        elif reason in NOT_OPEN and not closing.trade_id.startswith("@"):
            self.gone.add(closing.trade_id)
        reached = last.raw != NO_WORD
        self.pauses.refused(closing.subject, reason, now, now_ms, reached=reached)
        self.changed()  # the rest to close may be less than the ledger has
        self.say()

    def recall(self) -> None:
        """Continue the pauses after refusals in the log: a restart does not shorten them."""
        desk = self._desk()
        self._close_asked = desk.close_asked
        now, now_ms = self._clock(), self._broker.now_ms()
        for name, held in self._ledger.holdings.items():
            for trade_id, report in _refused_in_a_row(self._ledger, name):
                self.pauses.refused(
                    (name, trade_id or held.opening_id), report.reason or report.status,
                    now - max(0, now_ms - report.time_ms) / 1000, report.time_ms, reached=True,
                )  # fmt: skip

    def compared(self) -> None:
        """Note that the ledger was corrected to the broker's positions."""
        self.gone.clear()

    @property
    def cannot_close(self) -> dict[str, str]:
        """Instruments with a closing that is due and fails -> reason as text."""
        found: dict[str, str] = {}
        desk, sight = self._desk(), self._sight()
        due = wanted(desk, sight)
        self.pauses.keep({one.subject for one in due})
        for one in due:
            reason = self.pauses.reason_of(one.subject)
            if one.by == "units" and sight.by_trade and one.instrument in sight.foreign:
                reason = BY_ID_ONLY
            if reason:
                found[one.instrument] = reason
        return found

    def say(self) -> None:
        """Log and count closings that fail, when they have changed."""
        found = self.cannot_close
        reasons = {name: words.partition(" (")[0] for name, words in found.items()}
        for name in sorted({*reasons, *self._said}):
            if reasons.get(name) != self._said.get(name):
                if name in found:
                    log.error("cannot close %s: %s", name, found[name])
                else:
                    log.info("%s: closing is possible again", name)
            self._metrics.cannot_close.labels(name).set(int(name in found))
        self._said = reasons


def _refused_in_a_row(ledger: Ledger, name: str) -> list[tuple[str, BrokerReport]]:
    """Return the venue's refusals of closings since the last success, oldest first."""
    found: list[tuple[str, BrokerReport]] = []
    orders = [i for i in ledger.intents.values() if i.instrument == name and i.submitted]
    for intent in reversed(orders[-TRIES_READ:]):
        last = ledger.reports.get(intent.order_id, [])[-1:]
        if intent.kind not in CLOSING or not last or last[0].status == "filled":
            break
        if last[0].status in ("rejected", "cancelled") and last[0].raw != NO_WORD:
            found.append((intent.trade_id, last[0]))
    return found[::-1]
