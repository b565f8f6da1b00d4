"""Pauses that end at a stop request: of fixed length, or growing with each attempt."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

BACK_OFF_S = (0.2, 0.5, 1.0, 2.0, 5.0)


class BackOff:
    """Pauses that grow with each attempt; the last one repeats.

    Parameters
    ----------
    pauses_s
        Lengths of the pauses, seconds.
    """

    def __init__(self, pauses_s: Sequence[float] = BACK_OFF_S) -> None:
        self._pauses_s, self._tries = pauses_s, 0

    def next_s(self) -> float:
        """Return the length of the next pause, seconds."""
        pause_s = self._pauses_s[min(self._tries, len(self._pauses_s) - 1)]
        self._tries += 1
        return pause_s

    def reset(self) -> None:
        """Restart with the first pause."""
        self._tries = 0


async def pause(stopping: asyncio.Event, seconds: float) -> None:
    """Wait ``seconds``, or until ``stopping`` is set."""
    try:
        async with asyncio.timeout(seconds):
            await stopping.wait()
    except TimeoutError:
        return
