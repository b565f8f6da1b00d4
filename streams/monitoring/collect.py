"""Fills ``LiveFacts``: queries every source at the same time, each with a time limit.

A source that does not answer, or answers in an unknown form, is listed as unavailable with the
reason.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from streams.config.difference import differences
from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.errors import Fatal, Recoverable
from streams.kafka.decoding import INVALID
from streams.mirror.probe import MirrorFacts
from streams.monitoring.facts import (
    ExecutorFacts,
    FeedFacts,
    KillFacts,
    LiveFacts,
    LogFacts,
    Source,
    WorkerFacts,
)
from streams.monitoring.http_probe import StatusPages
from streams.monitoring.log_probe import LogProbe
from streams.monitoring.process_watch import ProcessWatch, invalid_of_all, reports
from streams.monitoring.server_clocks import measure
from streams.process.clock_skew import SECOND_MS, Skew
from streams.process.steady_clock import wall_less_steady_ms
from streams.records.codec import Codec

T = TypeVar("T")

REQUEST_TIMEOUT_SEC: Final = 5.0
FIRST_ASK_SEC: Final = 20.0
CLOCKS_SEC: Final = 30.0

AskKill = Callable[[], Awaitable[KillFacts]]


class AskMirror(Protocol):
    """Queries Valkey, given the bar length."""

    async def look(self, granularity: str) -> MirrorFacts:
        """Return the mirror's values."""

    async def close(self) -> None:
        """Close the connection."""


class Gathered(NamedTuple):
    """One probe of all sources.

    Attributes
    ----------
    config
        The active configuration; the environment's where the log has none or is unavailable.
    """

    facts: LiveFacts
    now_ms: int
    config: Config


class Gatherer:
    """Probes a deployment repeatedly.

    Parameters
    ----------
    runtime, config, codec
        The deployment; the settings of this environment.
    ask_kill, mirror
        Queries of the kill switch and of Valkey; None: not queried by this program.
    pages
        The ``/status`` and ``/metrics`` of executor, feed and workers.
    now_ms
        Wall clock.
    """

    def __init__(
        self,
        runtime: Runtime,
        config: Config,
        codec: Codec,
        *,
        ask_kill: AskKill | None = None,
        mirror: AskMirror | None = None,
        pages: StatusPages | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._runtime, self._codec, self._now_ms = runtime, codec, now_ms
        self._config = config
        self._ask_kill, self._mirror = ask_kill, mirror
        self._pages = pages or StatusPages("", "")
        # a Kafka client belongs to one thread, and a hanging probe must not delay the others
        self._thread = ThreadPoolExecutor(1, "log-probe")
        self._probe: LogProbe | None = None
        self._pending: dict[str, asyncio.Task[Any]] = {}
        self._watch = ProcessWatch()
        self._skews: tuple[float | None, int, tuple[Skew, ...]] = (None, 0, ())

    async def close(self) -> None:
        """Close every connection."""
        for task in self._pending.values():
            task.cancel()
        await asyncio.gather(*self._pending.values(), return_exceptions=True)
        await self._pages.close()
        if self._mirror is not None:
            await self._mirror.close()
        if self._probe is not None:
            self._thread.submit(self._probe.close)
        self._thread.shutdown(wait=False)

    async def gather(self, ask_sec: float = REQUEST_TIMEOUT_SEC) -> Gathered:
        """Return the current facts; takes at most ``ask_sec`` seconds (longer the first time)."""
        away: dict[str, str] = {}
        patience = FIRST_ASK_SEC if self._probe is None else ask_sec
        wanted: dict[Source, Callable[[], Coroutine[Any, Any, Any]] | None] = {
            "log": self._look_at_log,
            "valkey": self._look_at_mirror if self._mirror else None,
            "kill_switch": self._look_at_kill if self._ask_kill else None,
            "executor": self._pages.executor if self._pages.has_executor else None,
            "feed": self._pages.feed if self._pages.has_feed else None,
            "workers": self._pages.workers if self._pages.has_workers else None,
        }
        names = [name for name, ask in wanted.items() if ask is not None]
        answers = await asyncio.gather(
            *(self._answer(name, wanted[name], patience, away) for name in names)
        )
        found: Mapping[str, Any] = dict(zip(names, answers, strict=True))
        unused = frozenset(
            name
            for name, here in (
                ("executor", self._pages.has_executor),
                ("feed", self._pages.has_feed),
                ("workers", self._pages.has_workers),
            )
            if not here
        )
        log: LogFacts | None = found.get("log")
        mirror: MirrorFacts | None = found.get("valkey")
        kill: KillFacts | None = found.get("kill_switch")
        executor: ExecutorFacts | None = found.get("executor")
        feed: FeedFacts | None = found.get("feed")
        workers: WorkerFacts | None = found.get("workers")
        seen = reports(executor, feed, workers)
        self._watch.note(seen, self._now_ms())
        facts = LiveFacts(
            self._runtime.hotband_pairs,
            log,
            mirror,
            kill,
            executor,
            feed,
            away,
            unused,
            await self._clocks(),
            workers,
            differences(self._config, self.config),
            self._watch.starts(mirror.starts if mirror is not None else None),
            invalid_of_all([INVALID.kinds(), *(one.invalid for one in seen)]),
        )
        return Gathered(facts, self._now_ms(), self.config)

    async def _clocks(self) -> tuple[Skew, ...]:
        """Return the clock differences; measured periodically, and when this clock was set."""
        offset_ms, at = wall_less_steady_ms(), time.monotonic()
        asked_at, asked_offset_ms, skews = self._skews
        moved = abs(offset_ms - asked_offset_ms) > SECOND_MS
        if asked_at is None or moved or at - asked_at > CLOCKS_SEC:
            skews = tuple(await measure(self._runtime))
            self._skews = (at, offset_ms, skews)
        return skews

    @property
    def config(self) -> Config:
        """The active configuration, if known."""
        active = self._probe.config if self._probe is not None else None
        return active or self._config

    async def _answer(
        self,
        name: Source,
        ask: Callable[[], Coroutine[Any, Any, T]] | None,
        patience: float,
        away: dict[str, str],
    ) -> T | None:
        assert ask is not None
        # the answer to a query that timed out is used when it arrives: never queried twice at once
        task = self._pending.get(name) or asyncio.ensure_future(ask())
        done, _ = await asyncio.wait([task], timeout=patience)
        if not done:
            self._pending[name] = task
            away[name] = f"no answer within {patience:g} s"
            return None
        self._pending.pop(name, None)
        try:
            answer: T = task.result()
        except (Fatal, Recoverable) as error:
            away[name] = str(error)
            return None
        return answer

    async def _look_at_log(self) -> LogFacts:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._look)

    def _look(self) -> LogFacts:
        try:
            if self._probe is None:
                self._probe = LogProbe(self._runtime, self._codec, self._runtime.hotband_pairs)
            return self._probe.look(self._now_ms())
        except (Fatal, Recoverable):
            # by the time it answers again, its state may belong to another log
            if self._probe is not None:
                self._probe.close()
                self._probe = None
            raise

    async def _look_at_mirror(self) -> MirrorFacts:
        assert self._mirror is not None
        return await self._mirror.look(self.config.candle_gran)

    async def _look_at_kill(self) -> KillFacts:
        assert self._ask_kill is not None
        return await self._ask_kill()
