"""Questions to the log itself: bounded, one at a time, and never on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from streams.api.channels import Frame, Place
from streams.api.hub import Hub
from streams.api.tail import frames_since
from streams.api.view import LiveView
from streams.codec import Codec
from streams.errors import Recoverable
from streams.settings import Config, Runtime

MOST_WAITING = 8
T = TypeVar("T")


class Busy(Recoverable):
    """Too many questions to the log wait already."""


class History:
    """One thread that reads the log.

    Parameters
    ----------
    runtime, config, codec
        The deployment; the codec is used by this thread alone.
    """

    def __init__(self, runtime: Runtime, config: Config, codec: Codec) -> None:
        self._runtime, self._config, self._codec = runtime, config, codec
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="history")
        self._waiting = 0

    def close(self) -> None:
        """Take no more questions."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def ask(self, question: Callable[[Runtime, Codec], T]) -> T:
        """Return the answer to a question.

        Raises
        ------
        Busy
            Too many wait.
        Fatal, Recoverable
            As the question.
        """
        if self._waiting >= MOST_WAITING:
            raise Busy("too many questions to the log wait already; ask again")
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, question, self._runtime, self._codec)
        finally:
            self._waiting -= 1

    async def since(
        self,
        hub: Hub,
        view: LiveView,
        places: Sequence[Place],
        channels: Sequence[str],
        limit: int,
    ) -> list[Frame]:
        """Return the frames after some events, up to where the hub is at the call.

        Raises
        ------
        CannotResume, Busy, Fatal, Recoverable
            As ``frames_since`` and ``ask``.
        """
        upto, control = dict(hub.positions), view.state
        interval_sec = self._config.alloc_interval_sec

        def question(runtime: Runtime, codec: Codec) -> list[Frame]:
            return frames_since(
                runtime, codec, places, channels, upto, limit, control, interval_sec
            )

        return await self.ask(question)
