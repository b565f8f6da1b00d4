"""Backtest runs with other parameters: queued, and run one at a time during live operation.

A run is ``manifold replay`` over the log in a separate process with low priority. The last results
are kept in memory and are lost at a restart.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from pydantic import TypeAdapter

from streams.errors import Recoverable
from streams.process.child import die_with_parent
from streams.records.events import SimulatedTrade, Summary
from streams.records.topics import SUMMARIES, TRADES
from streams.service.backtests import RunId

MOST_WAITING = 4
MOST_KEPT = 20
MOST_TRADES = 5_000
WITHIN_S = 1_800.0
LOW_PRIORITY = 10
LONGEST_LINE = 1 << 20

_SUMMARY = TypeAdapter(Summary)
_TRADE = TypeAdapter(SimulatedTrade)

log = logging.getLogger("manifold.api")


class TooManyRuns(Recoverable):
    """The queue is full."""


class Parameters(NamedTuple):
    """The parameters of a run; names as in the profile (docs/spec/trading-loop.md 5.2).

    None keeps the active value of the parameter.
    """

    instrument: str
    days: int
    c_min: float | None = None
    look: int | None = None
    thr_bps: float | None = None
    entry_cd: int | None = None
    exit_cd: int | None = None

    @property
    def key(self) -> str:
        """Id of the run in the queue."""
        said = (f"{name}{value:g}" for name, value in self._changes() if value is not None)
        return ":".join(["study", self.instrument, f"d{self.days}", *said])

    @property
    def arguments(self) -> list[str]:
        """The command line of the run."""
        names = {
            "c_min": "AUTO_MIN_COHERENCE",
            "look": "AUTO_DIRECTION_LOOKBACK",
            "thr_bps": "AUTO_DIR_THRESHOLD_BPS",
            "entry_cd": "ENTRY_COOLDOWN_SEC",
            "exit_cd": "EXIT_COOLDOWN_SEC",
        }
        found = ["replay", "--from", f"-{self.days}d", "--instruments", self.instrument]
        for name, value in self._changes():
            if value is not None:
                found += ["--set", f"{names[name]}={value!r}"]
        return [*found, "--topic", SUMMARIES, "--topic", TRADES]

    def _changes(self) -> list[tuple[str, float | None]]:
        return [(name, getattr(self, name)) for name in self._fields[2:]]


@dataclass
class LongRun:
    """One run.

    Attributes
    ----------
    state, detail
        Its state; the reason of a failure.
    summary
        Its last evaluation; None before it is done, or without one.
    trades
        Its last closed trades, newest first.
    """

    parameters: Parameters
    state: Literal["queued", "running", "done", "failed"] = "queued"
    detail: str = ""
    summary: Summary | None = None
    trades: deque[SimulatedTrade] = field(default_factory=lambda: deque(maxlen=MOST_TRADES))

    @property
    def run_id(self) -> str | None:
        """The ``run_id`` of its result."""
        found = self.summary
        return None if found is None else RunId(found.instrument, found.params_id).text


class LongRuns:
    """The queue.

    Parameters
    ----------
    env
        The settings of the deployment.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = dict(env)
        self._kept_places = 0
        self._queue: asyncio.Queue[LongRun] = asyncio.Queue()
        self._runs: OrderedDict[str, LongRun] = OrderedDict()

    @property
    def runs(self) -> list[LongRun]:
        """All runs, the last requested first."""
        return list(reversed(self._runs.values()))

    def done(self, instrument: str) -> list[LongRun]:
        """Return the runs of an instrument with a result."""
        return [one for one in self.runs if one.parameters.instrument == instrument and one.summary]

    def of_id(self, run_id: str) -> LongRun | None:
        """Return a run by its ``run_id``."""
        return next((one for one in self.runs if one.run_id == run_id), None)

    @contextmanager
    def place(self, parameters: Parameters) -> Iterator[None]:
        """Reserve a place in the queue, so that ``enqueue`` in this context succeeds.

        Raises
        ------
        TooManyRuns
            The queue is full.
        """
        taken = self._queue.qsize() + self._kept_places
        if self._under_way(parameters) is None and taken >= MOST_WAITING:
            raise TooManyRuns(f"{MOST_WAITING} runs are queued already; retry when one is done")
        self._kept_places += 1
        try:
            yield
        finally:
            self._kept_places -= 1

    def _under_way(self, parameters: Parameters) -> LongRun | None:
        known = self._runs.get(parameters.key)
        return known if known is not None and known.state in ("queued", "running") else None

    def enqueue(self, parameters: Parameters) -> LongRun:
        """Put a run into the queue, in ``place``; an equal run that waits or runs is reused."""
        known = self._under_way(parameters)
        if known is not None:
            return known
        made = LongRun(parameters)
        self._runs[parameters.key] = made
        self._runs.move_to_end(parameters.key)
        while len(self._runs) > MOST_KEPT:
            self._runs.popitem(last=False)
        self._queue.put_nowait(made)
        return made

    async def run(self) -> None:
        """Run the queue, one run after the other, until cancelled."""
        while True:
            run = await self._queue.get()
            run.state = "running"
            try:
                async with asyncio.timeout(WITHIN_S):
                    await self._execute(run)
            except TimeoutError:
                run.state, run.detail = "failed", f"not done within {WITHIN_S:.0f} s"
            except (OSError, ValueError) as error:
                run.state, run.detail = "failed", f"{type(error).__name__}: {error}"
            log.info("long run %s: %s %s", run.parameters.key, run.state, run.detail)

    async def _execute(self, run: LongRun) -> None:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "streams", *run.parameters.arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._env,
            limit=LONGEST_LINE,
            preexec_fn=_beside_everything,
        )
        assert process.stdout is not None and process.stderr is not None
        complaints = asyncio.create_task(process.stderr.read())
        try:
            async for line in process.stdout:
                _take(run, line)
            code = await process.wait()
            said = (await complaints).decode("utf-8", "replace").strip().splitlines()
        finally:
            complaints.cancel()
            if process.returncode is None:
                process.kill()
                await process.wait()
        if code:
            run.state, run.detail = "failed", said[-1] if said else f"exit code {code}"
        elif run.summary is None:
            run.state, run.detail = "failed", "the log holds too few candles for an evaluation"
        else:
            run.state = "done"


def _take(run: LongRun, line: bytes) -> None:
    """Parse a record that the replay prints.

    Raises
    ------
    ValueError
        The text is not a record.
    """
    found = json.loads(line)
    content = _plain(json.loads(found["value"]))
    if found["topic"] == SUMMARIES:
        run.summary = _SUMMARY.validate_python(content)
    elif found["topic"] == TRADES:
        run.trades.appendleft(_TRADE.validate_python(content))


def _plain(value: Any) -> Any:
    """Return Avro's JSON without the names of the types of optional values."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((name, inner),) = value.items()
        if name in ("double", "long", "string") or name.startswith(("manifold.", "long.")):
            return _plain(inner)
    return {name: _plain(inner) for name, inner in value.items()}


def _beside_everything() -> None:
    die_with_parent()
    os.nice(LOW_PRIORITY)
