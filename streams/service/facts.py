"""Facts queried in the background, so that requests need not wait: kill switch, executor, lag."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import aiohttp

from streams.monitoring.alerts import FailureSignal, failure_signals
from streams.monitoring.collect import Gathered, Gatherer
from streams.monitoring.executor_status import NOT_ASKED, ExecutorState, ask
from streams.monitoring.facts import LiveFacts
from streams.monitoring.preflight import Check, preflight
from streams.monitoring.sources import kill_facts
from streams.monitoring.verdict import Limits
from streams.trading.kill_switch.reader import KillSwitchReader, KillSwitchState

KILL_EVERY_S = 1.0
EXECUTOR_EVERY_S = 2.0
GATHER_EVERY_S = 2.0
KILL_MAX_AGE_S = 5.0
"""Seconds after which a state of the kill switch is too old and counts as engaged."""
GATHERED_MAX_AGE_S = 60.0

NOT_READ = KillSwitchState(
    True, ("the kill switch was not read yet",), None, "", "", None, None, None
)

log = logging.getLogger("manifold.api")


class Change(NamedTuple):
    """A change of state without a record in the log.

    Attributes
    ----------
    kind, name
        ``signal`` with the failure signal's name, or ``executor``.
    """

    kind: str
    name: str
    state: str
    detail: str


class Facts:
    """The last answers, and the tasks that query again.

    Parameters
    ----------
    reader
        Reads the kill switch.
    gatherer
        Queries the facts behind the failure signals.
    limits
        Thresholds of the failure signals.
    executor_url, executor_stale_ms
        URL of the executor's status, and the maximum age of its last cycle in ms.
    changed
        Called with every change of state.

    Attributes
    ----------
    executor
        The last answer of the executor.
    """

    def __init__(
        self,
        reader: KillSwitchReader,
        gatherer: Gatherer,
        limits: Limits,
        executor_url: str,
        executor_stale_ms: int,
        changed: Callable[[Change], None] = lambda change: None,
    ) -> None:
        self._reader, self._gatherer, self._limits = reader, gatherer, limits
        self._url, self._stale_ms = executor_url, executor_stale_ms
        self._changed = changed
        self._kill, self._kill_at = NOT_READ, time.monotonic()
        self._killing = asyncio.Lock()
        self._gathered: Gathered | None = None
        self._gathered_at = time.monotonic()
        self._states: dict[str, str] = {}
        self.executor: ExecutorState = NOT_ASKED

    @property
    def kill_switch(self) -> KillSwitchState:
        """The kill switch as last read; engaged when that is too long ago."""
        age_s = time.monotonic() - self._kill_at
        if self._kill is NOT_READ or age_s <= KILL_MAX_AGE_S:
            return self._kill
        why = (*self._kill.why, f"the kill switch was last read {age_s:.0f} s ago")
        return self._kill._replace(engaged=True, why=why)

    @property
    def gathered(self) -> Gathered | None:
        """The last probe of all sources; None when it is too old."""
        if time.monotonic() - self._gathered_at > GATHERED_MAX_AGE_S:
            return None
        return self._gathered

    @property
    def gathered_age_s(self) -> float | None:
        """Age of that probe; None before the first."""
        return None if self._gathered is None else time.monotonic() - self._gathered_at

    @property
    def lag(self) -> dict[str, int]:
        """Stage, or ``mirror`` -> lag in records; empty when not known."""
        found = self.gathered
        return {} if found is None or found.facts.log is None else dict(found.facts.log.lag)

    def signals(self, now_ms: int) -> Sequence[FailureSignal]:
        """Return the failure signals as of now; empty before the first probe."""
        found = self.gathered
        return (
            ()
            if found is None
            else failure_signals(self._facts(found), now_ms, found.config, self._limits)
        )

    def preflight(self, now_ms: int) -> Sequence[Check]:
        """Return the operator's checklist; empty before the first probe."""
        found = self.gathered
        return (
            ()
            if found is None
            else preflight(self._facts(found), now_ms, found.config, self._limits)
        )

    @property
    def limits(self) -> Limits:
        """Thresholds of the failure signals."""
        return self._limits

    def facts(self) -> LiveFacts | None:
        """Return the last facts, with the kill switch as of now."""
        found = self.gathered
        return None if found is None else self._facts(found)

    async def kill_switch_now(self) -> KillSwitchState:
        """Return the kill switch; if off it is read again, because it may just have been
        engaged."""
        found = self.kill_switch
        return found if found.engaged else await self.read_kill_switch()

    async def read_kill_switch(self) -> KillSwitchState:
        """Read the kill switch after the call began; concurrent callers share the next answer."""
        asked_at = time.monotonic()
        async with self._killing:
            if self._kill_at < asked_at:
                begun_at = time.monotonic()
                found = await self._reader.aread()
                self._kill, self._kill_at = found, begun_at
            return self._kill

    async def run(self) -> None:
        """Query periodically, until cancelled."""
        async with aiohttp.ClientSession(trust_env=False) as session, asyncio.TaskGroup() as group:
            group.create_task(_again(KILL_EVERY_S, self.read_kill_switch))
            group.create_task(_again(EXECUTOR_EVERY_S, lambda: self._ask_executor(session)))
            group.create_task(_again(GATHER_EVERY_S, self._gather))

    async def close(self) -> None:
        """Close every connection."""
        await self._gatherer.close()
        await asyncio.to_thread(self._reader.close)

    def _facts(self, found: Gathered) -> LiveFacts:
        return found.facts._replace(kill_switch=kill_facts(self.kill_switch))

    async def _ask_executor(self, session: aiohttp.ClientSession) -> None:
        found = await ask(session, self._url, _now_ms(), self._stale_ms)
        self._note("executor", "executor", found.state, found.detail)
        self.executor = found

    async def _gather(self) -> None:
        self._gathered = await self._gatherer.gather()
        self._gathered_at = time.monotonic()
        for one in self.signals(_now_ms()):
            self._note("signal", one.name, one.state, one.detail)

    def _note(self, kind: str, name: str, state: str, detail: str) -> None:
        place = f"{kind}/{name}"
        before = self._states.get(place)
        self._states[place] = state
        if before is not None and before != state:
            self._changed(Change(kind, name, state, detail))


async def _again(every_s: float, call: Callable[[], Awaitable[object]]) -> None:
    while True:
        try:
            await call()
        except Exception:  # the next query may succeed; old answers expire by themselves
            log.exception("a background query failed")
        await asyncio.sleep(every_s)


def _now_ms() -> int:
    return int(time.time() * 1000)
