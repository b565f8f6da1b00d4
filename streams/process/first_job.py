"""Run jobs together: all end when the first of them ends or any fails."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any


async def until_first(
    jobs: Sequence[Coroutine[Any, Any, None]], others: Sequence[asyncio.Task[None]]
) -> None:
    """Run until the first job ends or any task fails; cancel the rest; re-raise the failure."""
    first, *background = [asyncio.create_task(job) for job in jobs]
    everything = [first, *background, *others]
    try:
        while not first.done():
            pending = [task for task in everything if not task.done()]
            done, _ = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    finally:
        for task in everything:
            task.cancel()
        await asyncio.gather(*everything, return_exceptions=True)
