"""Sends the orders that open, increase and reduce, with the current state of the venue.

Operator orders that open or increase are included, and come first.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from streams.records.trading_events import OrderIntent
from streams.trading.context import ExecutorContext
from streams.trading.dispatch import KillState
from streams.trading.entry_checks import entry_range, late_entry
from streams.trading.guards import Switches
from streams.trading.operator_plan import due, needs_venue, with_venue
from streams.trading.operator_sending import wall_ms
from streams.trading.plan import RunCandidate, candidates, openings, resizable, resizings
from streams.trading.planning_state import PlanningState, Venue
from streams.trading.reconciling import Reconciler
from streams.trading.terms import Terms

CHECKS_KEPT = 1_000

Check = tuple[str, float | None]
"""Why a decision is not at the run's entry, and the average true range."""


class Opener:
    """Opens and resizes the positions of one account.

    Parameters
    ----------
    parts, terms, reconciler
        The parts of the executor; the terms of the instruments; the state of the broker.
    desk
        Returns the current planning state from the log.
    unreconciled
        Why the executor is not reconciled with the broker; empty when it is.
    ordering
        Lock, held from planning an order until it is in the log.
    """

    def __init__(
        self,
        parts: ExecutorContext,
        terms: Terms,
        reconciler: Reconciler,
        desk: Callable[[], PlanningState],
        unreconciled: Callable[[], str],
        ordering: asyncio.Lock,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._parts, self._terms, self._reconciler = parts, terms, reconciler
        self._desk, self._unreconciled, self._ordering = desk, unreconciled, ordering
        self._clock = clock
        self._checked: dict[tuple[str, int], Check] = {}
        self.kill_state: KillState | None = None

    async def run(self, begun: float) -> None:
        """Send the due orders; ``begun`` is when the decisions were received (monotonic seconds).

        Raises
        ------
        Recoverable
            The venue does not answer.
        Fatal
            The venue refuses access.
        """
        desk, broker = self._desk(), self._parts.broker
        if resizable(desk, broker.now_ms()):
            # a stop hit meanwhile has ended the trade: it is not increased
            await self._parts.dispatch.follow_up()
        entries = candidates(desk)
        names = {c.instrument for c in entries}
        names |= {r.order.instrument for r in due(desk) if needs_venue(desk, r, wall_ms())}
        names |= {h.instrument for h in resizable(desk, broker.now_ms())}
        if not names:
            return
        venue: Venue | None = await self._venue(desk, entries, names)
        tried: set[tuple[str, str]] = set()
        while True:
            if venue is None:  # an order takes time: the next one is evaluated with new prices
                venue = await self._venue(self._desk(), entries, names)
            async with self._ordering:
                intent = self._next(entries, venue, names, tried)
                if intent is None:
                    return
                tried.add((intent.instrument, intent.kind))
                written = await self._parts.dispatch.write(intent)
            answer = await self._parts.dispatch.send(written)
            self._parts.metrics.decision_seconds.observe(self._clock() - begun)
            if answer is not None and self._next(entries, venue, names, tried) is not None:
                venue = None

    def _next(
        self,
        entries: list[RunCandidate],
        venue: Venue,
        names: set[str],
        tried: set[tuple[str, str]],
    ) -> OrderIntent | None:
        """Return the next order from the current state of the log, which may have advanced."""
        desk, now_ms = self._desk(), wall_ms()
        for request in due(desk):
            if request.order.instrument in names and needs_venue(desk, request, now_ms):
                return with_venue(desk, request, venue, now_ms, [])
        left = [c for c in candidates(desk) if c in entries]
        found = (*openings(desk, venue, left), *resizings(desk, venue, names))
        return next((i for i in found if (i.instrument, i.kind) not in tried), None)

    async def _venue(
        self, desk: PlanningState, entries: list[RunCandidate], names: set[str]
    ) -> Venue:
        broker, ledger, terms = self._parts.broker, self._parts.ledger, self._terms
        involved = names | set(ledger.holdings) | {i.instrument for i in ledger.unresolved.values()}
        currencies = sorted({c for name in involved for c in name.split("_")})
        await terms.learn(sorted(names), again=True)
        await terms.learn(sorted(involved), again=False)
        traded = sorted(involved & set(terms.known))
        account, quotes, kill = await asyncio.gather(
            broker.account(), broker.quotes(traded), self._parts.kill.aread()
        )
        rates = await broker.home_rates(currencies)
        terms.forget(name for name in traded if name not in quotes)
        await self._reconciler.observed(account)
        self.kill_state = kill
        late, ranges = await self._entry_checks(desk, entries)
        why = kill.why or ("engaged",)
        switches = Switches(broker.mode, why if kill.engaged else (), self._unreconciled())
        comparison = self._reconciler.comparison
        return Venue(
            broker.now_ms(), account, dict(terms.known), quotes, rates, broker.price_interval_ms,
            switches, self._reconciler.margin.blocked, comparison.foreign,
            comparison.foreign_held | self._parts.dispatch.others_filled, late, ranges,
        )  # fmt: skip

    async def _entry_checks(
        self, desk: PlanningState, entries: list[RunCandidate]
    ) -> tuple[Mapping[str, str], Mapping[str, float | None]]:
        parts = self._parts
        late: dict[str, str] = {}
        ranges: dict[str, float | None] = {}
        for candidate in entries:
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
