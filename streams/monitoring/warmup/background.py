"""Runs work that an interrupted command does not wait for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar, cast

T = TypeVar("T")


async def in_background(call: Callable[[], T]) -> T:
    """Return what ``call`` returns, run in a thread that ends with the process.

    ``asyncio.to_thread`` would delay a stopped command until the call has ended. Only for work that
    may be aborted at any instruction.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, problem: BaseException | None) -> None:
        if answer.done():
            return  # the caller no longer waits
        if problem is not None:
            answer.set_exception(problem)
        else:
            answer.set_result(cast(T, result))

    def run() -> None:
        result, problem = None, None
        try:
            result = call()
        except Exception as error:
            problem = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result, problem)

    threading.Thread(target=run, name="background", daemon=True).start()
    return await answer
