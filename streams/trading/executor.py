"""The executor: follows the log and the runs, and sends orders to the venue. One per account.

Two tasks run concurrently, so that neither waits for the other: closing, which needs no queries,
and the rest (reconcile, open, resize), which begins with queries. The paper account answers at once
and is queried synchronously: its candles must not advance meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from typing import Any

from streams.candles.calendar import calendar_of
from streams.config.settings import Config
from streams.errors import Fatal, Recoverable
from streams.kafka.follower import FollowedRecord
from streams.oanda.errors import RequestRefused
from streams.records.events import GateDecision
from streams.trading.bracket_keeping import BracketKeeper
from streams.trading.brokers.broker import Account, Position
from streams.trading.closing import Closer
from streams.trading.closing_plan import VenueState
from streams.trading.context import ExecutorContext, Progress
from streams.trading.dispatch import KillState
from streams.trading.flatten import flatten_of
from streams.trading.intake import Intake
from streams.trading.opening import Opener
from streams.trading.operator_commands import Commands, commands_of
from streams.trading.operator_orders import OperatorOrder, orders_of
from streams.trading.operator_sending import reduce_by_order
from streams.trading.order_log import why_blocked
from streams.trading.paper import PaperBroker
from streams.trading.planning_state import PlanningState
from streams.trading.reading import TRANSACTIONS
from streams.trading.reconcile import Comparison
from streams.trading.reconciling import Reconciler
from streams.trading.releasing import release
from streams.trading.terms import NOT_TRADED, Terms

IN_DOUBT_S = 1.0
LOOK_AGAIN_S = 0.2
AFTER_TROUBLE_S = 5.0
LEAVE_WITHIN_S = 10.0

log = logging.getLogger("manifold.executor")


class Executor:
    """One account's executor.

    Parameters
    ----------
    parts
        The parts of the executor; the former executor is already fenced.
    only_flatten
        Whether it opens no position and ends when none is open.
    within_s
        Seconds after which one that only flattens ends in any case.
    clock
        Monotonic seconds.
    """

    def __init__(
        self,
        parts: ExecutorContext,
        *,
        only_flatten: bool = False,
        within_s: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._parts, self._only_flatten, self._clock = parts, only_flatten, clock
        self._end_at = clock() + within_s
        self._due_at = clock()
        self.intake = Intake(parts, self._active)
        self._paper = isinstance(parts.broker, PaperBroker)
        self._closing: asyncio.Task[None] | None = None
        self._working: asyncio.Task[None] | None = None
        self._checking: asyncio.Task[bool] | None = None
        self._more = self._look = True
        self._ordering = ordering = asyncio.Lock()
        self.terms = Terms(parts.broker, parts.metrics)
        brackets = BracketKeeper(parts, self.terms, self._desk, ordering)
        self.reconciler = Reconciler(parts, self.terms, brackets)
        self.closer = Closer(
            parts.broker, parts.ledger, parts.dispatch, parts.metrics, self._desk, self._sight,
            ordering, lambda: calendar_of(self._active()), clock,
        )  # fmt: skip
        self.opener = Opener(
            parts, self.terms, self.reconciler, self._desk, lambda: self.blocked, ordering, clock,
        )  # fmt: skip
        self.closer.changed = lambda: self._reconcile_within(LOOK_AGAIN_S)
        if not only_flatten:
            self.closer.recall()
        self.unreconciled = "not reconciled with the broker since the start"
        self.settled = Progress({}, -1)
        self.last_cycle_ms = 0
        self.last_cycle_at = clock()

    @property
    def parts(self) -> ExecutorContext:
        """The parts of the executor."""
        return self._parts

    @property
    def kill_state(self) -> KillState | None:
        """The kill switch as last read."""
        return self.opener.kill_state

    @property
    def account(self) -> Account | None:
        """The account as last read."""
        return self.reconciler.reading.account

    @property
    def positions(self) -> tuple[Position, ...]:
        """All positions of the account as last read."""
        return self.reconciler.reading.positions or ()

    @property
    def comparison(self) -> Comparison:
        """The last reconciliation with the broker."""
        return self.reconciler.comparison

    @property
    def remarks(self) -> tuple[str, ...]:
        """The last differences between ledger and broker, a sentence each."""
        return self.reconciler.remarks

    @property
    def blocked(self) -> str:
        """Why nothing is opened at all; empty when opening is allowed."""
        reasons = [one for one in (self.unreconciled, self._parts.checks.trouble) if one]
        return why_blocked(self._parts.ledger.invalid, self.commands.checked, "; ".join(reasons))

    @property
    def untraded(self) -> dict[str, str]:
        """Instruments that the venue does not trade, with the reason."""
        return dict.fromkeys(sorted(self.terms.untraded), NOT_TRADED)

    @property
    def commands(self) -> Commands:
        """Operator commands on single instruments.

        Positions of the paper account are never released: they could not be closed otherwise.
        """
        parts = self._parts
        found = commands_of(parts.control.records, parts.broker.account_id)
        return found._replace(released={}) if self._paper else found

    @property
    def operator_orders(self) -> list[OperatorOrder]:
        """All operator orders for the account, old ones included."""
        parts = self._parts
        return orders_of(parts.control.records, parts.broker.account_id)

    @property
    def flat(self) -> bool:
        """Whether the ledger has no open position and no pending order."""
        return not self._parts.ledger.holdings and not self._parts.ledger.unresolved

    @property
    def confirmed_flat(self) -> bool:
        """Whether it is flat, and the venue has confirmed it since."""
        return self.flat and (not self.unreconciled or self.reconciler.reading.confirmed)

    async def run(self, stopping: asyncio.Event) -> None:
        """Run until stopped; or, when only flattening, until no position is open.

        Raises
        ------
        Fatal
            The venue refuses access.
        MustRestart
            A setting in ops.control that is fixed at creation has changed: create a new executor.
        """
        try:
            while not stopping.is_set():
                await self._start()
                await self._wait(stopping)
                done = self.confirmed_flat or self._clock() >= self._end_at
                if self._only_flatten and done:
                    return
        finally:
            await self._leave()

    async def _start(self) -> None:
        """Start the due tasks that are not running."""
        if self._checking is None and self._parts.checks.next_s() == 0:
            self._checking = asyncio.create_task(self.intake.check())
        # at the start the state of the runs follows from the first answer about their decisions
        beginning = self._parts.checks.beginning and not self._only_flatten
        if self._paper:
            if not beginning:
                await self._close()
                await self._work()
                await self._close()
            return
        if self._look:
            self._look = False
            self.closer.poke()
            if self._closing is None:
                self._closing = asyncio.create_task(self.closer.run())
        due = self._more or self._clock() >= self._due_at
        if self._working is None and due and not beginning:
            self._more = False
            self._working = asyncio.create_task(self._work())

    async def _close(self) -> None:
        await self.closer.run()

    async def _work(self) -> None:
        """Reconcile when due, then open and resize."""
        parts, begun = self._parts, self._clock()
        fills, reconcile = parts.dispatch.fills, self._clock() >= self._due_at
        progress = Progress(parts.runs.decided(), parts.allocation.newest_ms)
        parts.metrics.expect(progress.decided_ms)
        try:
            if self.intake.control_read:
                self.intake.control_read = False
                self.opener.kill_state = await parts.kill.aread()
            await release(parts, self._desk, self._ordering)
            if not self._only_flatten:
                await reduce_by_order(parts, self.terms, self._desk, self._sight, self._ordering)
            if reconcile:
                await self._reconcile()
            elif parts.ledger.unresolved or self._paper:
                await parts.dispatch.follow_up()
            if self._paper:
                await self._close()
            if not self._only_flatten:
                await self.opener.run(begun)
            if self._paper and parts.dispatch.fills > fills:
                await self._reconcile()  # the paper account answers at once
        except (Recoverable, RequestRefused) as error:
            if str(error) != self.unreconciled:
                log.warning("%s; nothing is opened until it is reconciled again", error)
            self.unreconciled = str(error)
            parts.metrics.reconciled.set(0)
            pause_s = min(AFTER_TROUBLE_S, parts.trading.reconcile_interval_sec)
            self._due_at = self._clock() + pause_s
        else:
            self.settled = progress
        if parts.dispatch.fills > fills:  # brackets, positions and account are read again
            self._reconcile_within(LOOK_AGAIN_S)
        self.last_cycle_ms, self.last_cycle_at = int(time.time() * 1000), self._clock()
        parts.metrics.last_cycle.set(self.last_cycle_ms / 1000)
        for held in parts.ledger.holdings.values():
            parts.metrics.units.labels(held.instrument).set(float(held.signed_units))

    def _reconcile_within(self, seconds: float) -> None:
        self._due_at = min(self._due_at, self._clock() + seconds)

    async def _reconcile(self) -> None:
        parts = self._parts
        self._due_at = math.inf  # a request during this reconciliation triggers another one
        try:
            await self._look_at_halts()
            await self.reconciler.run()
            self.opener.kill_state = await parts.kill.aread()
            parts.metrics.kill.set(int(self.opener.kill_state.engaged))
        finally:
            self._reconcile_within(parts.trading.reconcile_interval_sec)
        self.closer.compared()
        if self.unreconciled:
            self.closer.pauses.answering()
        self.unreconciled = ""

    async def _look_at_halts(self) -> None:
        """Query whether halted instruments with a due closing are traded again."""
        halted = self.closer.pauses.halted
        if not halted:
            return
        try:
            quotes = await self._parts.broker.quotes(halted)
        except (Recoverable, RequestRefused) as error:
            log.info("cannot query whether %s is tradeable again: %s", ", ".join(halted), error)
            return
        for name in halted:
            quote = quotes.get(name)
            self.closer.pauses.saw(name, quote is not None and quote.tradeable)

    async def _wait(self, stopping: asyncio.Event) -> None:
        """Process new records; wait for records, a task, the next reconciliation or the end."""
        parts = self._parts
        arrivals, now = parts.following.arrivals, self._clock()
        idle = self._working is None and not parts.checks.beginning
        pause_s = max(0.0, self._due_at - now) if idle else IN_DOUBT_S
        if parts.ledger.unresolved:
            pause_s = min(pause_s, IN_DOUBT_S)
        check_s = parts.checks.next_s() if self._checking is None else None
        for next_s in (self.closer.pauses.next_try_s(now, parts.broker.now_ms()), check_s):
            if next_s is not None:
                pause_s = min(pause_s, max(0.0, next_s))
        getting = asyncio.ensure_future(arrivals.get())
        ending = asyncio.ensure_future(stopping.wait())
        tasks = self._tasks()
        done, _ = await asyncio.wait(
            {getting, ending, *tasks}, timeout=pause_s, return_when=asyncio.FIRST_COMPLETED
        )
        ending.cancel()
        if getting in done:
            await self._take(getting.result())
            while not arrivals.empty():
                await self._take(arrivals.get_nowait())
            self._more = self._look = True
        else:
            getting.cancel()
        if not done:
            self._look = True
            self._more = self._more or bool(parts.ledger.unresolved)
        self._collect()

    def _collect(self) -> None:
        """Process the results of ended tasks."""
        closing, working, checking = self._closing, self._working, self._checking
        if checking is not None and checking.done():
            self._checking = None
            if checking.result():
                self._more = self._look = True
        if closing is not None and closing.done():
            self._closing = None
            closing.result()
        if working is not None and working.done():
            self._working, self._look = None, True
            working.result()

    def _tasks(self) -> list[asyncio.Task[Any]]:
        found = (self._closing, self._working, self._checking)
        return [task for task in found if task is not None]

    async def _leave(self) -> None:
        """Wait a limited time for the answers to orders being sent."""
        tasks = self._tasks()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=LEAVE_WITHIN_S)
            for task in late:
                task.cancel()  # as if killed: the next start resolves open results
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _take(self, batch: list[FollowedRecord]) -> None:
        await self.intake.take(batch)
        if self.intake.reconcile_asked:
            self.intake.reconcile_asked = False
            self._due_at = self._clock()

    def _active(self) -> Config:
        control = self._parts.control
        config = control.state(control.end).config
        if config is None:
            raise Fatal("ops.control has no configuration; start a worker or a feed first")
        return config

    def _sight(self) -> VenueState:
        parts, reading, closer = self._parts, self.reconciler.reading, self.closer
        return VenueState(
            parts.broker.closes_by_trade, reading.trades or (), reading.others_hold,
            frozenset(closer.no_ids), frozenset(closer.gone), frozenset(parts.dispatch.in_flight),
            TRANSACTIONS in reading.unread,
        )  # fmt: skip

    def _desk(self) -> PlanningState:
        parts, broker = self._parts, self._parts.broker
        control = parts.control

        def config_of(decision: GateDecision) -> Config:
            config = control.state(decision.control_offset).config_of(decision.instrument)
            if config is None:
                raise Fatal("opt.gates has decisions of before the first configuration")
            return config

        def placed_ms(instrument: str) -> int:
            if isinstance(broker, PaperBroker):
                return broker.placed_ms(instrument)
            return broker.now_ms()

        return PlanningState(
            parts.runtime.application, broker.account_id, broker.mode, parts.trading, parts.runs,
            parts.allocation, parts.ledger, flatten_of(control.records, broker.account_id),
            control.end, parts.dispatch.cursor, config_of, placed_ms, calendar_of(self._active()),
            self.commands, self.operator_orders, parts.checks.unconfirmed,
        )  # fmt: skip
