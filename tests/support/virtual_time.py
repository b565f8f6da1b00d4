"""An asyncio event loop on a virtual clock: waiting costs nothing, and chance comes from a seed.

When nothing is ready the clock jumps to the next timer. Nothing outside of the loop can make
anything ready: connections are in memory (`tests.support.virtual_network`), and what is given to a
thread is done by the loop itself, a little later. So nothing is ever in flight that the loop does
not know of, and the same seed gives the same order of everything.

While `run` runs, ``time.time``, ``time.monotonic`` and their kin follow the loop. A function that
has taken ``time.monotonic`` as the default of a parameter has the machine's clock: give it
``time.monotonic`` by name.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import random
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import aiohttp.connector

T = TypeVar("T")

START_NS = 1_704_880_800_000_000_000
"""2024-01-10 10:00 UTC, a Wednesday: London is open."""
MONOTONIC_NS = 1_000_000_000_000
"""What the monotonic clock shows at the start."""
STEP_S = 1e-6
"""What every turn of the loop takes: work is not done in no time."""
DELAYS_S = (0.0, 0.0, 0.0005, 0.001, 0.002, 0.005, 0.02)
"""What a job of a thread, or a message on its way, may take."""


class Stuck(RuntimeError):
    """Everything waits and there is no timer: nothing would ever happen again."""


class _Jump:
    """Stands where the loop asks the operating system what is ready, and lets time pass."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> tuple[()]:
        """Jump over the time until the next timer."""
        if timeout is None:
            raise Stuck("nothing is ready and nothing is timed: what is awaited never comes")
        self._loop.pass_time(max(timeout, STEP_S))
        return ()

    def close(self) -> None:
        """Nothing to give back."""


class VirtualLoop(asyncio.BaseEventLoop):
    """The loop.

    Parameters
    ----------
    seed
        Of how long jobs and messages take.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self._selector = _Jump(self)
        self._clock_resolution = STEP_S
        self._passed_ns = 0
        self.chance = random.Random(seed)

    def time(self) -> float:
        """Return the monotonic clock in seconds."""
        return (MONOTONIC_NS + self._passed_ns) / 1e9

    @property
    def monotonic_ns(self) -> int:
        """The monotonic clock."""
        return MONOTONIC_NS + self._passed_ns

    @property
    def wall_ns(self) -> int:
        """The wall clock, UTC."""
        return START_NS + self._passed_ns

    def pass_time(self, seconds: float) -> None:
        """Let time pass at once."""
        self._passed_ns += math.ceil(seconds * 1e9)

    def delay_s(self) -> float:
        """Return how long the next job or message takes."""
        return self.chance.choice(DELAYS_S)

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Do it in this loop: after a while, and the result is known a while later."""
        future: asyncio.Future[T] = self.create_future()

        def known(set_it: Callable[[Any], None], value: Any) -> None:
            if not future.done():
                set_it(value)

        def work() -> None:
            try:
                result = func(*args)
            except Exception as error:
                self.call_later(self.delay_s(), known, future.set_exception, error)
            else:
                self.call_later(self.delay_s(), known, future.set_result, result)

        # a thread goes on with what it has begun although nobody waits for it any more
        self.call_later(self.delay_s(), work, context=contextvars.copy_context())
        return future

    def _process_events(self, event_list: Any) -> None:
        """Nothing comes from outside."""

    def _write_to_self(self) -> None:
        """Nobody sleeps in ``select``."""


@contextmanager
def _clocks(loop: VirtualLoop) -> Iterator[None]:
    def clock_gettime_ns(kind: int) -> int:
        return loop.wall_ns if kind == time.CLOCK_REALTIME else loop.monotonic_ns

    replaced: list[tuple[Any, str, Any]] = [
        (time, "time", lambda: loop.wall_ns / 1e9),
        (time, "time_ns", lambda: loop.wall_ns),
        (time, "monotonic", loop.time),
        (time, "monotonic_ns", lambda: loop.monotonic_ns),
        (time, "clock_gettime_ns", clock_gettime_ns),
        (aiohttp.connector, "monotonic", loop.time),
    ]
    before = [(where, name, getattr(where, name)) for where, name, _ in replaced]
    for where, name, made in replaced:
        setattr(where, name, made)
    try:
        yield
    finally:
        for where, name, found in before:
            setattr(where, name, found)


def run(main: Callable[[VirtualLoop], Coroutine[Any, Any, T]], seed: int = 0) -> T:
    """Run ``main`` on a loop of its own and return its result.

    Parameters
    ----------
    main
        Called with the loop.
    seed
        Of everything that is left to chance: delays, and the module ``random``.

    Raises
    ------
    Stuck
        ``main`` waits for what never comes.
    """
    loop, before = VirtualLoop(seed), random.getstate()
    random.seed(seed)
    try:
        with _clocks(loop), asyncio.Runner(loop_factory=lambda: loop) as runner:
            return runner.run(main(loop))
    finally:
        random.setstate(before)
