"""Pauses: they grow up to the last one, and end when the process is told to stop."""

from __future__ import annotations

import asyncio
import time

from streams.process.pausing import BACK_OFF_S, BackOff, pause


def test_pauses_grow_up_to_the_last_one_and_begin_anew() -> None:
    back_off = BackOff()
    assert [back_off.next_s() for _ in range(7)] == [*BACK_OFF_S, BACK_OFF_S[-1], BACK_OFF_S[-1]]
    back_off.reset()
    assert back_off.next_s() == BACK_OFF_S[0]


def test_a_pause_ends_when_told_to_stop() -> None:
    async def paused(stop_after_s: float, pause_s: float) -> float:
        stopping, begun = asyncio.Event(), time.monotonic()
        asyncio.get_running_loop().call_later(stop_after_s, stopping.set)
        await pause(stopping, pause_s)
        return time.monotonic() - begun

    assert 0.05 <= asyncio.run(paused(10.0, 0.05)) < 5.0
    assert asyncio.run(paused(0.05, 60.0)) < 5.0
