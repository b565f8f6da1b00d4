"""``manifold warmup``: fill the log, wait for stages and mirror, and compare them.

It keeps no state: progress is read from the log and from Valkey, so an interrupted warm-up
continues where it stopped.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from streams.candles.load_report import LoadReport
from streams.candles.series import read_series
from streams.config.feeds import FeedSettings
from streams.config.oanda import Oanda
from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.core import ENGINE_VERSION
from streams.errors import Fatal
from streams.feeds.backfill import fill_from_oanda, is_current
from streams.feeds.load import load_series
from streams.kafka.control_topic import active_config, read_control
from streams.mirror.probe import MirrorSight
from streams.monitoring.http_probe import feed_runs
from streams.monitoring.sources import feed_url
from streams.monitoring.warmup.background import in_background
from streams.monitoring.warmup.catch_up import CatchUp, until
from streams.monitoring.warmup.pair_states import pair_states
from streams.monitoring.warmup.warm_state import PairState, hydrated, pair_state_dict, primed
from streams.records.codec import Codec

STEPS: Final = ("backfill", "prime", "hydrate")

Progress = Callable[[str, int, int | None], None]


class Done(NamedTuple):
    """The result of a step.

    Attributes
    ----------
    problems
        Problems, by instrument.
    refused
        Rows of files that were refused; the problems are the first of them.
    """

    step: str
    detail: str
    problems: Mapping[str, str]
    seconds: float
    refused: int = 0


class Warmup:
    """One warm-up of a deployment.

    Parameters
    ----------
    env
        The settings.
    codec
        The deployment's schemas.
    files
        Candle files to load; none: from OANDA, when it is configured.
    days
        Days to fetch where the log is empty.
    patience_sec
        Seconds without progress before it gives up.
    progress
        Called with (name, done, total).
    """

    def __init__(
        self,
        env: Mapping[str, str],
        codec: Codec,
        *,
        files: Sequence[str],
        days: int | None,
        patience_sec: float,
        progress: Progress,
    ) -> None:
        self._env, self._codec = env, codec
        self._runtime, self._config = Runtime.from_env(env), Config.from_env(env)
        self._files, self._days = files, days
        self._patience_sec, self._progress = patience_sec, progress
        self._states: list[PairState] | None = None
        self._active: Config | None = None
        self._refused = 0
        self._catch_up = CatchUp(self._runtime, patience_sec, progress)

    async def run(self, steps: Sequence[str]) -> list[Done]:
        """Run the steps in order; return the result of each.

        Raises
        ------
        Fatal, Recoverable
            A step cannot be run; the message names reason and fix.
        """
        take = {"backfill": self._backfill, "prime": self._prime, "hydrate": self._hydrate}
        found = []
        try:
            for name in STEPS:
                if name in steps:
                    begun = time.monotonic()
                    detail, problems = await take[name]()
                    seconds = time.monotonic() - begun
                    found.append(Done(name, detail, problems, seconds, self._refused))
                    self._refused = 0
        finally:
            await self._catch_up.close()
        return found

    async def states(self) -> list[PairState]:
        """Return the state of every instrument as last read from the log."""
        return await self._read_states() if self._states is None else self._states

    async def _read_states(self) -> list[PairState]:
        gran = (await self.config()).candle_gran
        pairs = self._runtime.hotband_pairs
        self._states = await asyncio.to_thread(pair_states, self._runtime, self._codec, pairs, gran)
        return self._states

    async def config(self) -> Config:
        """Return the active configuration; the environment's before there is one."""
        if self._active is None:
            log = await asyncio.to_thread(read_control, self._runtime, self._codec)
            self._active = active_config(log)
        return self._active or self._config

    async def _backfill(self) -> tuple[str, dict[str, str]]:
        now_ms = time.time_ns() // 1_000_000
        if self._files:
            return await in_background(partial(self._load, now_ms))
        access, config = Oanda.from_env(self._env), await self.config()
        states = await self._read_states()
        candles = [state.candle_ms for state in states]
        if not access.oanda_api_key:
            return _nothing_to_fill_from(states)
        if is_current(candles, now_ms, config):
            return "the log is up to date: nothing to fetch", {}
        url = feed_url(self._env, self._runtime)
        if url and await feed_runs(url):
            return await self._wait_for_feed(config)
        days = config.eval_span_days if self._days is None else self._days
        written = await fill_from_oanda(
            self._runtime,
            self._codec,
            config,
            FeedSettings.from_env(self._env),
            access,
            days,
            self._progress,
        )
        return f"{written:,} candles from OANDA", {}

    def _load(self, now_ms: int) -> tuple[str, dict[str, str]]:
        report = LoadReport()
        series = read_series(self._files, None, None, report, now_ms, self._progress)
        load_series(
            self._runtime, self._codec, self._config, series, report, now_ms, self._progress
        )
        self._refused = len(report.refused)
        said = f"{report.written:,} candles from {len(self._files)} files"
        detail = f"{said}, {report.already_there:,} were there, {len(report.refused):,} refused"
        refused = {f"{r.file}:{r.line}": f"{r.reason}: {r.detail}" for r in report.refused[:20]}
        return detail, refused

    async def _wait_for_feed(self, config: Config) -> tuple[str, dict[str, str]]:
        async def ask() -> tuple[int | None, ...]:
            return tuple(state.candle_ms for state in await self._read_states())

        def done(candles: tuple[int | None, ...]) -> bool:
            return is_current(candles, time.time_ns() // 1_000_000, config)

        last = await until(ask, done, self._patience_sec)
        pairs = zip(self._runtime.hotband_pairs, last, strict=True)
        now_ms = time.time_ns() // 1_000_000
        late = {
            pair: "the running feed has not delivered its last bars"
            for pair, at in pairs
            if not is_current([at], now_ms, config)
        }
        return "a running feed fills the log", late

    async def _prime(self) -> tuple[str, dict[str, str]]:
        await self._catch_up.stages()
        states = await self._read_states()
        problems = {
            state.instrument: problem
            for state in states
            if (problem := primed(state, ENGINE_VERSION)) is not None
        }
        return f"every stage is at the end of the log, engine {ENGINE_VERSION}", problems

    async def _hydrate(self) -> tuple[str, dict[str, str]]:
        await self._catch_up.mirror()
        config = await self.config()
        sight = MirrorSight(self._runtime)

        async def ask() -> dict[str, str]:
            states = await self._read_states()
            mirror = await sight.look(config.candle_gran)
            found = {state.instrument: hydrated(state, mirror) for state in states}
            return {name: "; ".join(differs) for name, differs in found.items() if differs}

        try:
            problems = await until(ask, lambda found: not found, self._patience_sec)
        finally:
            await sight.close()
        return "Valkey equals the log for every pair", problems


def _nothing_to_fill_from(states: Sequence[PairState]) -> tuple[str, dict[str, str]]:
    if any(state.candle_ms is not None for state in states):
        detail = (
            "OANDA is not configured (OANDA_API_KEY) and no file is given (--from-files): the log "
            "is not changed"
        )
        return detail, {}
    raise Fatal(
        "the log holds no candle and there is no source to fill it from: set OANDA_API_KEY and "
        "OANDA_ACCOUNT_ID, or give candle files with --from-files, or run a feed"
    )


def warmup_json(
    steps: Sequence[Done], states: Sequence[PairState], config: Config
) -> dict[str, Any]:
    """Return a warm-up for ``--json``."""
    return {
        "ok": not any(step.problems for step in steps),
        "steps": [
            {**step._asdict(), "problems": dict(step.problems), "seconds": round(step.seconds, 3)}
            for step in steps
        ],
        "instruments": {state.instrument: pair_state_dict(state, config) for state in states},
    }
