"""The executor: follows the log, keeps to the run, and calls the venue. One per account."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from streams.codec import Codec
from streams.control import ControlLog
from streams.control_log import read_control
from streams.errors import Fatal, Recoverable
from streams.events import Candle, Control, GateDecision, Weights
from streams.execution.brackets import in_precision
from streams.execution.broker import Account, Broker, InstrumentTerms, OpenTrade, Position
from streams.execution.conversion import base_currency
from streams.execution.dispatch import Dispatch, KillState, KillSwitch
from streams.execution.entry_checks import entry_range, late_entry
from streams.execution.flatten import flatten_of
from streams.execution.following import Following, Found
from streams.execution.guards import MarginGate, Switches
from streams.execution.ledger import Ledger
from streams.execution.metrics import ExecutorMetrics
from streams.execution.paper import PaperBroker
from streams.execution.plan import (
    Desk,
    Venue,
    candidates,
    closings,
    openings,
    resizable,
    resizings,
)
from streams.execution.reconcile import Comparison, compare
from streams.execution.reconcile_word import asks_to_reconcile
from streams.execution.reports import Told, adjustment
from streams.execution.runs import Allocation, Runs
from streams.execution.settings import Trading
from streams.kill_switch.commands import engage
from streams.settings import Config, Runtime
from streams.topics import CANDLES

ACTOR = "executor"
IN_DOUBT_S = 1.0
CLOSE_AGAIN_S = 0.5
LOOK_AGAIN_S = 0.2
CHECKS_KEPT = 1_000
ROUNDS = 3

log = logging.getLogger("manifold.executor")


class Parts(NamedTuple):
    """What an executor is made of; ``streams.execution.start`` puts it together."""

    runtime: Runtime
    codec: Codec
    trading: Trading
    control: ControlLog
    broker: Broker
    ledger: Ledger
    runs: Runs
    allocation: Allocation
    following: Following
    dispatch: Dispatch
    kill: KillSwitch
    metrics: ExecutorMetrics


class Progress(NamedTuple):
    """How far the log has been worked on: instrument -> ``as_of`` of its decision; newest epoch."""

    decided_ms: dict[str, int]
    epoch_ms: int


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
        self._margin = MarginGate(parts.trading)
        self._terms: dict[str, InstrumentTerms] = {}
        self._untraded: set[str] = set()
        self._kill_state: KillState | None = None
        self._granularity = self._active().candle_gran
        self._overloaded = False
        self._reconciled_once = False
        self._checked: dict[tuple[str, int], tuple[str, float | None]] = {}
        self._refused: dict[str, tuple[int, float]] = {}
        self.account: Account | None = None
        self.positions: tuple[Position, ...] = ()
        self.comparison = Comparison((), {}, frozenset(), ())
        self.unreconciled = "not reconciled with the broker since the start"
        self.remarks: tuple[str, ...] = ()
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
        return self._kill_state

    @property
    def flat(self) -> bool:
        """Whether nothing of ours is held or on its way."""
        return not self._parts.ledger.holdings and not self._parts.ledger.unresolved

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until told to stop; or, when only flattening, until nothing is held.

        Raises
        ------
        Fatal
            The venue refuses us, or the settings no longer fit the log.
        """
        while not stopping.is_set():
            reconcile = self._clock() >= self._due_at
            try:
                await self._cycle(reconcile=reconcile)
            except Recoverable as error:
                log.warning("%s; nothing is opened until it is reconciled again", error)
                self.unreconciled = str(error)
                self._due_at = self._clock() + min(5.0, self._parts.trading.reconcile_interval_sec)
            done = not self.unreconciled and self.flat
            if self._only_flatten and (done or self._clock() >= self._end_at):
                return
            await self._wait(stopping)

    async def _wait(self, stopping: asyncio.Event) -> None:
        """Take in what has arrived; wait for it, for the next reconcile, or for the end."""
        arrivals = self._parts.following.arrivals
        pause_s = max(0.0, self._due_at - self._clock())
        if self._parts.ledger.unresolved:
            pause_s = min(pause_s, IN_DOUBT_S)
        getting = asyncio.ensure_future(arrivals.get())
        ending = asyncio.ensure_future(stopping.wait())
        done, _ = await asyncio.wait(
            {getting, ending}, timeout=pause_s, return_when=asyncio.FIRST_COMPLETED
        )
        ending.cancel()
        if getting not in done:
            getting.cancel()
            return
        await self._take(getting.result())
        while not arrivals.empty():
            await self._take(arrivals.get_nowait())

    async def _take(self, batch: list[Found]) -> None:
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
        if asks_to_reconcile(word, parts.broker.account_id):
            log.info("reconciles now at the word of %r: %r", word.actor, word.reason)
            self._due_at = self._clock()
        if offset >= parts.control.end:
            await self._read_control()
            self._kill_state = await parts.kill.aread()

    def _take_candle(self, candle: Candle) -> None:
        broker = self._parts.broker
        if isinstance(broker, PaperBroker) and candle.granularity == self._granularity:
            broker.take(candle)

    async def _read_control(self) -> None:
        parts = self._parts
        await asyncio.to_thread(read_control, parts.runtime, parts.codec, parts.control)
        if self._active().candle_gran != self._granularity:
            raise Fatal(
                f"CANDLE_GRAN is {self._active().candle_gran} now and was {self._granularity} when "
                "this executor began; start it again"
            )

    def _active(self) -> Config:
        control = self._parts.control
        config = control.state(control.end).config
        if config is None:
            raise Fatal("ops.control has no configuration; start a worker or a feed first")
        return config

    async def _cycle(self, *, reconcile: bool) -> None:
        parts, begun = self._parts, self._clock()
        fills = parts.dispatch.fills
        progress = Progress(parts.runs.decided(), parts.allocation.newest_ms)
        if self._reconciled_once:  # a venue that answers no questions may still take an order
            await self._close()
        if reconcile:
            await self._reconcile()
        elif parts.ledger.unresolved or isinstance(parts.broker, PaperBroker):
            await parts.dispatch.follow_up()
        await self._close()
        if not self._only_flatten:
            await self._open_and_resize(begun)
        if parts.dispatch.fills > fills:  # levels, positions and money are looked at anew
            self._due_at = min(self._due_at, self._clock() + LOOK_AGAIN_S)
        self.last_cycle_ms, self.last_cycle_at = int(time.time() * 1000), self._clock()
        self.settled = progress
        parts.metrics.last_cycle.set(self.last_cycle_ms / 1000)
        for held in parts.ledger.holdings.values():
            parts.metrics.units.labels(held.instrument).set(held.signed_units)

    async def _close(self) -> None:
        """Send the closing orders that are due; one that was refused is tried again, less often."""
        ledger, dispatch = self._parts.ledger, self._parts.dispatch
        for intent in closings(self._desk()):
            name = intent.instrument
            tries, not_before = self._refused.get(name, (0, 0.0))
            if self._clock() < not_before:
                continue
            await dispatch.send(intent)
            last = ledger.reports.get(intent.order_id, [])[-1:]
            if last and last[0].status in ("rejected", "cancelled"):
                pause_s = min(
                    CLOSE_AGAIN_S * 2.0**tries, self._parts.trading.reconcile_interval_sec
                )
                self._refused[name] = (tries + 1, self._clock() + pause_s)
                # what is left to close may be less than we think
                self._due_at = min(self._due_at, self._clock() + pause_s)
            elif last:
                self._refused.pop(name, None)

    async def _open_and_resize(self, begun: float) -> None:
        desk, broker = self._desk(), self._parts.broker
        if resizable(desk, broker.now_ms()):
            # a stop that was hit meanwhile has ended the trade: nothing is added to it
            await self._parts.dispatch.follow_up()
        names = {c.instrument for c in candidates(desk)}
        names |= {h.instrument for h in resizable(desk, broker.now_ms())}
        if not names:
            return
        venue = await self._venue(desk, names)
        for intent in (*openings(desk, venue), *resizings(desk, venue)):
            await self._parts.dispatch.send(intent)
            self._parts.metrics.decision_seconds.observe(self._clock() - begun)

    async def _venue(self, desk: Desk, names: set[str]) -> Venue:
        broker, ledger = self._parts.broker, self._parts.ledger
        involved = names | set(ledger.holdings) | {i.instrument for i in ledger.unresolved.values()}
        ordered = sorted(involved)
        currencies = sorted({base_currency(name) for name in involved})
        account, quotes, kill, _ = await asyncio.gather(
            broker.account(),
            broker.quotes(ordered),
            self._parts.kill.aread(),
            self._learn_terms(ordered),
        )
        rates = await broker.home_rates(currencies)
        self._observed(account)
        self._kill_state = kill
        late, ranges = await self._entry_checks(desk)
        why = kill.why or ("engaged",)
        switches = Switches(broker.mode, why if kill.engaged else (), self.unreconciled)
        return Venue(
            broker.now_ms(), account, self._terms, quotes, rates, broker.price_interval_ms,
            switches, self._margin.blocked, self.comparison.foreign,
            self.comparison.foreign_held, late, ranges,
        )  # fmt: skip

    async def _learn_terms(self, names: list[str]) -> None:
        missing = [name for name in names if name not in self._terms]
        if missing:
            self._terms |= await self._parts.broker.instruments(missing)
            self._untraded |= set(missing) - set(self._terms)

    async def _entry_checks(
        self, desk: Desk
    ) -> tuple[Mapping[str, str], Mapping[str, float | None]]:
        parts, late, ranges = self._parts, {}, {}
        for candidate in candidates(desk):
            decision = candidate.entry.decision
            place, config = (candidate.instrument, decision.bar_ms), desk.config_of(decision)
            if place not in self._checked:
                if len(self._checked) >= CHECKS_KEPT:
                    self._checked.clear()
                why = await asyncio.to_thread(late_entry, parts.runtime, parts.codec, candidate)
                average = await asyncio.to_thread(
                    entry_range, parts.runtime, parts.codec, config, candidate
                )
                self._checked[place] = (why, average)
            late[candidate.instrument], ranges[candidate.instrument] = self._checked[place]
        return late, ranges

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
            control.end, parts.dispatch.cursor, config_of, placed_ms,
        )  # fmt: skip

    async def _reconcile(self) -> None:
        parts = self._parts
        for _ in range(ROUNDS):
            await parts.dispatch.follow_up()
            # two at a time: that many connections stay open for when an order has to go at once
            trades, orders = await asyncio.gather(parts.broker.trades(), parts.broker.orders())
            account, positions = await asyncio.gather(
                parts.broker.account(), parts.broker.positions()
            )
            before = parts.dispatch.cursor
            await parts.dispatch.follow_up()
            if parts.dispatch.cursor == before:
                break
        self._observed(account)
        self.positions = tuple(positions)
        await self._learn_terms([n for n in parts.runs.decided() if n not in self._untraded])
        self.comparison = compare(parts.ledger, trades, orders)
        for correction in self.comparison.corrections:
            intent = parts.ledger.intents[correction.order_id]
            told = Told(parts.broker.now_ms(), parts.broker.price_interval_ms, account.nav)
            await parts.dispatch.record(
                adjustment(
                    intent, correction.signed_units, correction.price, told, correction.reason
                )
            )
        problems = await self._put_levels_right(trades)
        self._kill_state = await parts.kill.aread()
        self._say((*self.comparison.differences, *problems))
        self.unreconciled, self._reconciled_once = "", True
        await self._watch_margin(account)
        self._due_at = self._clock() + parts.trading.reconcile_interval_sec
        parts.metrics.reconciled.set(1)
        parts.metrics.differences.set(len(self.comparison.differences))
        parts.metrics.kill.set(int(self._kill_state.engaged))

    def _observed(self, account: Account) -> None:
        parts = self._parts
        self.account, parts.dispatch.nav = account, account.nav
        parts.ledger.observe(parts.broker.now_ms(), account.nav)
        self._margin.update(account.margin_ratio)
        parts.metrics.nav.set(account.nav)
        parts.metrics.balance.set(account.balance)
        parts.metrics.margin.set(account.margin_ratio)

    def _say(self, differences: tuple[str, ...]) -> None:
        strangers = self._parts.dispatch.strangers
        silent = [
            f"{name}: {held.signed_units:g} units are held and no decision of it is in the log"
            for name, held in sorted(self._parts.ledger.holdings.items())
            if self._parts.runs.of(name) is None
        ]
        said = (*differences, *strangers, *silent)
        for sentence in said:
            if sentence not in self.remarks:
                log.warning("difference: %s", sentence)
        self.remarks = said
        strangers.clear()

    async def _put_levels_right(self, trades: Sequence[OpenTrade]) -> list[str]:
        """Set the brackets of our trades to the run's levels, where the fill was at another price.

        A venue that sets them by the fill itself needs none of this. What the venue refuses is
        returned, a sentence each: the executor still closes when the run does.
        """
        parts, problems = self._parts, list[str]()
        if isinstance(parts.broker, PaperBroker) or not parts.trading.auto_tp_on_fill_enabled:
            return problems
        if parts.trading.read_only or parts.trading.dry_run_trades:
            return problems
        for trade in trades:
            held = parts.ledger.holdings.get(trade.instrument)
            if held is None or trade.client_id not in parts.ledger.intents:
                continue
            await self._learn_terms([trade.instrument])
            terms = self._terms[trade.instrument]
            wanted = tuple(
                None if price is None else in_precision(price, terms)
                for price in (held.stop_loss, held.take_profit)
            )
            if (trade.stop_loss, trade.take_profit) == wanted:
                continue
            try:
                await parts.broker.set_levels(trade.trade_id, *wanted)
            except Recoverable as error:
                problems.append(f"{trade.instrument}: brackets of trade {trade.trade_id}: {error}")
        return problems

    async def _watch_margin(self, account: Account) -> None:
        parts = self._parts
        overloaded = account.margin_ratio >= parts.trading.margin_overload
        if overloaded and not self._overloaded:
            reason = (
                f"margin in use {account.margin_ratio:.2%} of account {account.account_id}, "
                f"MARGIN_OVERLOAD {parts.trading.margin_overload:g}"
            )
            now_ms = int(time.time() * 1000)
            await asyncio.to_thread(engage, parts.runtime, parts.codec, ACTOR, reason, now_ms)
            log.error("kill switch engaged: %s", reason)
        self._overloaded = overloaded
