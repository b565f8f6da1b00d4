"""Waits until the stages and the mirror have processed the log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeVar

from streams.config.runtime import Runtime
from streams.errors import Recoverable
from streams.kafka.lag import MIRROR, LagProbe
from streams.kafka.reader import LogReader
from streams.records.topics import MIRRORED, STAGE_SOURCES

T = TypeVar("T")

LOOK_SEC: Final = 0.5
SURE_LOOKS: Final = 2
"""A stage may commit between the query of its source and that of its position."""

Progress = Callable[[str, int, int | None], None]


class CatchUp:
    """Waits until all lags are 0; reports a stage that makes no progress.

    Parameters
    ----------
    runtime
        The deployment.
    patience_sec
        Seconds without progress before it gives up.
    progress
        Called with (name, records done, total records).
    clock
        Monotonic seconds.
    """

    def __init__(
        self,
        runtime: Runtime,
        patience_sec: float,
        progress: Progress,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runtime, self._patience_sec = runtime, patience_sec
        self._progress, self._clock = progress, clock
        self._reader: LogReader | None = None
        self._sight = LagProbe(runtime, clock)

    async def close(self) -> None:
        """Close the Kafka client."""
        if self._reader is not None:
            await asyncio.to_thread(self._reader.close)
            self._reader = None

    async def stages(self) -> None:
        """Wait for every stage.

        Raises
        ------
        Recoverable
            One makes no progress; the message names it, and whether a worker runs.
        Fatal
            A topic is missing.
        """
        await self._wait(tuple(STAGE_SOURCES), self._runtime.application, "worker")

    async def mirror(self) -> None:
        """Wait for the mirror.

        Raises
        ------
        Recoverable, Fatal
            As ``stages``.
        """
        await self._wait((MIRROR,), self._runtime.mirror_group, "mirror")

    async def _wait(self, names: Sequence[str], group: str, command: str) -> None:
        most = dict.fromkeys(names, 0)
        before, moved_at, sure = dict.fromkeys(names, -1), self._clock(), 0
        while True:
            lag = await asyncio.to_thread(self._lag)
            now = {name: lag.get(name, 0) for name in names}
            self._show(now, most)
            sure = 0 if any(now.values()) else sure + 1
            if sure == SURE_LOOKS:
                return
            if now != before:
                before, moved_at = now, self._clock()
            elif any(now.values()) and self._clock() - moved_at > self._patience_sec:
                members = await asyncio.to_thread(self._sight.members, group)
                raise Recoverable(standing(now, members, command, self._patience_sec))
            await asyncio.sleep(LOOK_SEC)

    def _lag(self) -> dict[str, int]:
        if self._reader is None:
            self._reader = LogReader(self._runtime)
        reader, topics = self._reader, dict.fromkeys((*MIRRORED, *STAGE_SOURCES.values()))
        bounds = {topic: reader.all_bounds(topic, reader.partitions(topic)) for topic in topics}
        return self._sight.look(reader, bounds)[0]

    def _show(self, now: Mapping[str, int], most: dict[str, int]) -> None:
        for name, lag in now.items():
            most[name] = max(most[name], lag)
            if most[name]:
                self._progress(name, most[name] - lag, most[name])


def standing(lag: Mapping[str, int], members: int | None, command: str, patience_sec: float) -> str:
    """Return the message for a stage or mirror without progress.

    Parameters
    ----------
    members
        Number of processes that share the work; None when not known.
    """
    stuck = ", ".join(f"{name} ({left:,} records left)" for name, left in lag.items() if left)
    said = f"no progress for {patience_sec:g} s: {stuck}"
    if members == 0:
        return f"{said}: no {command} runs; start one: manifold {command}"
    running = f"{members} running" if members is not None else "number of running processes unknown"
    return f"{said}; {running}: check its output (manifold doctor checks its environment)"


async def until(
    ask: Callable[[], Awaitable[T]],
    done: Callable[[T], bool],
    patience_sec: float,
    clock: Callable[[], float] = time.monotonic,
) -> T:
    """Query until the answer is final, or unchanged for ``patience_sec``; return the last one."""
    answer, since = await ask(), clock()
    while not done(answer) and clock() - since <= patience_sec:
        await asyncio.sleep(LOOK_SEC)
        before, answer = answer, await ask()
        if answer != before:
            since = clock()
    return answer
