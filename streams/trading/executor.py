"""The executor: follows the log, keeps to the run, and calls the venue. One per account.

Two things go on beside each other, so that neither waits for the other: closing, which needs no
answer to any question, and the rest (reconcile, open, resize), which begins with questions. The
paper account answers at once and is asked in between: its candles must not go on meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable

from streams.candles.calendar import calendar_of
from streams.config.settings import Config
from streams.errors import Fatal, MustRestart, Recoverable
from streams.kafka.control_topic import read_control
from streams.kafka.follower import DecodedRecord
from streams.oanda.errors import RequestRefused
from streams.records.events import Candle, Control, GateDecision, Weights
from streams.records.topics import CANDLES
from streams.trading.bracket_keeping import BracketKeeper
from streams.trading.brokers.broker import Account, Position
from streams.trading.closing import Closer
from streams.trading.closing_plan import Sight
from streams.trading.context import MadeWith, Parts, Progress
from streams.trading.desk import Desk
from streams.trading.dispatch import KillState
from streams.trading.flatten import flatten_of
from streams.trading.opening import Opener
from streams.trading.operator_commands import Commands, commands_of, resets_a_limit
from streams.trading.operator_orders import OperatorOrder, orders_of
from streams.trading.operator_sending import reduce_by_order
from streams.trading.paper import PaperBroker
from streams.trading.reading import TRANSACTIONS
from streams.trading.reconcile import Comparison
from streams.trading.reconcile_command import asks_to_reconcile
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
        What it is made of; the former executor is fenced already.
    only_flatten
        Whether it opens nothing and ends when nothing is held any more.
    within_s
        Seconds after which one that only flattens ends in any case.
    clock
        Monotonic seconds.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        only_flatten: bool = False,
        within_s: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._parts, self._only_flatten, self._clock = parts, only_flatten, clock
        self._end_at = clock() + within_s
        self._due_at = clock()
        self._made_with = MadeWith.of(self._active())
        self._paper = isinstance(parts.broker, PaperBroker)
        self._closing: asyncio.Task[None] | None = None
        self._working: asyncio.Task[None] | None = None
        self._more = self._look = True
        self._kill_said = False
        self._ordering = ordering = asyncio.Lock()
        self.terms = Terms(parts.broker, parts.metrics)
        brackets = BracketKeeper(parts, self.terms, self._desk, ordering)
        self.reconciler = Reconciler(parts, self.terms, brackets)
        self.closer = Closer(
            parts.broker, parts.ledger, parts.dispatch, parts.metrics, self._desk, self._sight,
            ordering, lambda: calendar_of(self._active()), clock,
        )  # fmt: skip
        self.opener = Opener(
            parts, self.terms, self.reconciler, self._desk, lambda: self.unreconciled, ordering,
            clock,
        )  # fmt: skip
        self.closer.changed = lambda: self._reconcile_within(LOOK_AGAIN_S)
        if not only_flatten:
            self.closer.recall()
        self.unreconciled = "not reconciled with the broker since the start"
        self.settled = Progress({}, -1)
        self.last_cycle_ms = 0
        self.last_cycle_at = clock()

    @property
    def parts(self) -> Parts:
        """What it is made of."""
        return self._parts

    @property
    def kill_state(self) -> KillState | None:
        """The kill switch as it was last read."""
        return self.opener.kill_state

    @property
    def account(self) -> Account | None:
        """The account as it was last read."""
        return self.reconciler.reading.account

    @property
    def positions(self) -> tuple[Position, ...]:
        """Everything that is held in the account, as it was last read."""
        return self.reconciler.reading.positions or ()

    @property
    def comparison(self) -> Comparison:
        """The last comparison with the broker."""
        return self.reconciler.comparison

    @property
    def remarks(self) -> tuple[str, ...]:
        """Where books and broker differed last, a sentence each."""
        return self.reconciler.remarks

    @property
    def untraded(self) -> dict[str, str]:
        """Instruments that the venue does not trade, and why nothing is opened there."""
        return dict.fromkeys(sorted(self.terms.untraded), NOT_TRADED)

    @property
    def commands(self) -> Commands:
        """What operators have said of single instruments.

        In the paper account nobody else could look after a position: none is released.
        """
        parts = self._parts
        found = commands_of(parts.control.records, parts.broker.account_id)
        return found._replace(released={}) if self._paper else found

    @property
    def operator_orders(self) -> list[OperatorOrder]:
        """The orders that operators have given for the account, old ones too."""
        parts = self._parts
        return orders_of(parts.control.records, parts.broker.account_id)

    @property
    def flat(self) -> bool:
        """Whether nothing of ours is held or on its way, by the books."""
        return not self._parts.ledger.holdings and not self._parts.ledger.unresolved

    @property
    def confirmed_flat(self) -> bool:
        """Whether it is flat, and the venue has shown it since."""
        return self.flat and (not self.unreconciled or self.reconciler.reading.confirmed)

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until told to stop; or, when only flattening, until nothing is held.

        Raises
        ------
        Fatal
            The venue refuses us.
        MustRestart
            A setting of the log has changed that the executor was made with: make it anew.
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
        """Begin what is to be done and is not under way."""
        if self._paper:
            await self._close()
            await self._work()
            await self._close()
            return
        if self._look:
            self._look = False
            self.closer.poke()
            if self._closing is None:
                self._closing = asyncio.create_task(self.closer.run())
        if self._working is None and (self._more or self._clock() >= self._due_at):
            self._more = False
            self._working = asyncio.create_task(self._work())

    async def _close(self) -> None:
        await self.closer.run()

    async def _work(self) -> None:
        """Reconcile when that is due, then open and resize."""
        parts, begun = self._parts, self._clock()
        fills, reconcile = parts.dispatch.fills, self._clock() >= self._due_at
        progress = Progress(parts.runs.decided(), parts.allocation.newest_ms)
        parts.metrics.expect(progress.decided_ms)
        try:
            if self._kill_said:
                self._kill_said = False
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
                await self._reconcile()  # it answers at once
        except (Recoverable, RequestRefused) as error:
            if str(error) != self.unreconciled:
                log.warning("%s; nothing is opened until it is reconciled again", error)
            self.unreconciled = str(error)
            parts.metrics.reconciled.set(0)
            pause_s = min(AFTER_TROUBLE_S, parts.trading.reconcile_interval_sec)
            self._due_at = self._clock() + pause_s
        else:
            self.settled = progress
        if parts.dispatch.fills > fills:  # levels, positions and money are looked at anew
            self._reconcile_within(LOOK_AGAIN_S)
        self.last_cycle_ms, self.last_cycle_at = int(time.time() * 1000), self._clock()
        parts.metrics.last_cycle.set(self.last_cycle_ms / 1000)
        for held in parts.ledger.holdings.values():
            parts.metrics.units.labels(held.instrument).set(float(held.signed_units))

    def _reconcile_within(self, seconds: float) -> None:
        self._due_at = min(self._due_at, self._clock() + seconds)

    async def _reconcile(self) -> None:
        parts = self._parts
        self._due_at = math.inf  # whoever wants another one while this lasts gets it
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
        """Ask whether what could not be closed for a halt is traded again."""
        halted = self.closer.pauses.halted
        if not halted:
            return
        try:
            quotes = await self._parts.broker.quotes(halted)
        except (Recoverable, RequestRefused) as error:
            log.info("whether %s can be traded again is not told: %s", ", ".join(halted), error)
            return
        for name in halted:
            quote = quotes.get(name)
            self.closer.pauses.saw(name, quote is not None and quote.tradeable)

    async def _wait(self, stopping: asyncio.Event) -> None:
        """Take in what has arrived; wait for it, for a task, for the next reconcile or the end."""
        parts = self._parts
        arrivals, now = parts.following.arrivals, self._clock()
        pause_s = max(0.0, self._due_at - now) if self._working is None else IN_DOUBT_S
        if parts.ledger.unresolved:
            pause_s = min(pause_s, IN_DOUBT_S)
        next_s = self.closer.pauses.next_try_s(now, parts.broker.now_ms())
        if next_s is not None:
            pause_s = min(pause_s, max(0.0, next_s))
        getting = asyncio.ensure_future(arrivals.get())
        ending = asyncio.ensure_future(stopping.wait())
        tasks = [t for t in (self._closing, self._working) if t is not None]
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
        """Take in how the tasks ended."""
        closing, working = self._closing, self._working
        if closing is not None and closing.done():
            self._closing = None
            closing.result()
        if working is not None and working.done():
            self._working, self._look = None, True
            working.result()

    async def _leave(self) -> None:
        """Let what is being handed over come to its answer, for a while."""
        tasks = [t for t in (self._closing, self._working) if t is not None]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=LEAVE_WITHIN_S)
            for task in late:
                task.cancel()  # as if killed: the next start settles what is in doubt
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _take(self, batch: list[DecodedRecord]) -> None:
        parts = self._parts
        for found in batch:
            event = found.event
            if isinstance(event, GateDecision):
                if event.control_offset > parts.control.end:
                    await self._read_control()
                parts.runs.take(event, found.source)
            elif isinstance(event, Weights):
                parts.allocation.take(event)
            elif found.topic == CANDLES and isinstance(event, Candle):
                self._take_candle(event)
            elif isinstance(event, Control):
                await self._take_control(found.offset, event)

    async def _take_control(self, offset: int, word: Control) -> None:
        parts = self._parts
        # a decision that came first may have let us read this far: the word is due all the same
        account_id = parts.broker.account_id
        if asks_to_reconcile(word, account_id) or resets_a_limit(word, account_id):
            log.info("reconciles now, by command of %r: %r", word.actor, word.reason)
            self._due_at = self._clock()
        if offset >= parts.control.end:
            await self._read_control()
            self._kill_said = True

    def _take_candle(self, candle: Candle) -> None:
        broker = self._parts.broker
        if isinstance(broker, PaperBroker) and candle.granularity == self._made_with.candle_gran:
            broker.take(candle)

    async def _read_control(self) -> None:
        parts = self._parts
        await asyncio.to_thread(read_control, parts.runtime, parts.codec, parts.control)
        parts.followed.look(parts.control, refuse=False)
        changed = self._made_with.changed(self._active())
        if changed:
            raise MustRestart(f"the configuration has changed: {changed}")

    def _active(self) -> Config:
        control = self._parts.control
        config = control.state(control.end).config
        if config is None:
            raise Fatal("ops.control has no configuration; start a worker or a feed first")
        return config

    def _sight(self) -> Sight:
        parts, reading, closer = self._parts, self.reconciler.reading, self.closer
        return Sight(
            parts.broker.closes_by_trade, reading.trades or (), reading.others_hold,
            frozenset(closer.no_ids), frozenset(closer.gone), frozenset(parts.dispatch.in_flight),
            TRANSACTIONS in reading.unread,
        )  # fmt: skip

    def _desk(self) -> Desk:
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

        return Desk(
            parts.runtime.application, broker.account_id, broker.mode, parts.trading, parts.runs,
            parts.allocation, parts.ledger, flatten_of(control.records, broker.account_id),
            control.end, parts.dispatch.cursor, config_of, placed_ms, calendar_of(self._active()),
            self.commands, self.operator_orders,
        )  # fmt: skip
