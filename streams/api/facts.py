"""What a request must not wait for, asked in the background: kill switch, executor, lag."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

import aiohttp

from streams.api.executor import NOT_ASKED, Executor, ask
from streams.api.history import History
from streams.codec import Codec
from streams.errors import Fatal, Recoverable
from streams.kill_switch.reader import KillSwitchReader, KillSwitchState
from streams.liveness.signals import FailureSignal
from streams.settings import Runtime
from streams.status import lags

KILL_EVERY_S = 1.0
EXECUTOR_EVERY_S = 2.0
LAG_EVERY_S = 5.0
KILL_MAX_AGE_S = 5.0
"""An answer about the kill switch that is older says nothing any more: engaged."""

NOT_READ = KillSwitchState(
    True, ("the kill switch was not read yet",), None, "", "", None, None, None
)

log = logging.getLogger("manifold.api")


class Facts:
    """The last answers, and the tasks that ask again.

    Parameters
    ----------
    runtime
        The deployment.
    reader
        Reads the kill switch.
    history
        Reads the log.
    executor_url
        Where the executor shows its status.

    Attributes
    ----------
    executor, lag
        The last answers; None: not known, and ``lag_trouble`` says why.
    version
        Grows with every answer that differs.
    """

    def __init__(
        self, runtime: Runtime, reader: KillSwitchReader, history: History, executor_url: str
    ) -> None:
        self._runtime, self._reader, self._history = runtime, reader, history
        self._url = executor_url
        self._kill, self._kill_at = NOT_READ, time.monotonic()
        self.executor: Executor = NOT_ASKED
        self.lag: dict[str, int] | None = None
        self.signals: tuple[FailureSignal, ...] = ()
        self.lag_trouble = "the lag was not asked for yet"
        self.version = 0

    @property
    def kill_switch(self) -> KillSwitchState:
        """The kill switch; engaged when the last answer is too old."""
        age_s = time.monotonic() - self._kill_at
        if self._kill is NOT_READ or age_s <= KILL_MAX_AGE_S:
            return self._kill
        why = (*self._kill.why, f"the kill switch was last read {age_s:.0f} s ago")
        return self._kill._replace(engaged=True, why=why)

    async def read_kill_switch(self) -> KillSwitchState:
        """Read the kill switch now."""
        found = await self._reader.aread()
        self._note(found != self._kill)
        self._kill, self._kill_at = found, time.monotonic()
        return found

    async def run(self) -> None:
        """Ask again and again, until cancelled."""
        async with aiohttp.ClientSession(trust_env=False) as session, asyncio.TaskGroup() as group:
            group.create_task(_again(KILL_EVERY_S, self.read_kill_switch))
            group.create_task(_again(EXECUTOR_EVERY_S, lambda: self._ask_executor(session)))
            group.create_task(_again(LAG_EVERY_S, self._ask_lag))

    async def _ask_executor(self, session: aiohttp.ClientSession) -> None:
        found = await ask(session, self._url, int(time.time() * 1000))
        self._note(found != self.executor)
        self.executor = found

    async def _ask_lag(self) -> None:
        def question(runtime: Runtime, _: Codec) -> dict[str, int]:
            return lags(runtime)

        try:
            self.lag, self.lag_trouble = await self._history.ask(question), ""
        except (Fatal, Recoverable) as error:
            self.lag, self.lag_trouble = None, str(error)
        self._note(True)

    def _note(self, changed: bool) -> None:
        self.version += changed


async def _again(every_s: float, call: Callable[[], Awaitable[object]]) -> None:
    while True:
        try:
            await call()
        except Exception:  # the next answer may be there again; what is old says so by itself
            log.exception("asking in the background failed")
        await asyncio.sleep(every_s)
