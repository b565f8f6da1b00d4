"""Queries the servers of a deployment for their clocks.

A server that does not answer, or does not report its time, is left out; its users report the
failure. The schema registry reports its time in the ``Date`` header, in whole seconds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from email.utils import parsedate_to_datetime

import aiohttp

from streams.config.runtime import Runtime
from streams.errors import Fatal, Recoverable
from streams.kafka.registry import registry_of
from streams.kafka.server_clock import of_cluster
from streams.mirror.server_clock import of_valkey
from streams.process.clock_skew import (
    ANSWER_SEC,
    LOG,
    REGISTRY,
    SECOND_MS,
    Skew,
    ahead_ms,
    now_ms,
)


async def measure(runtime: Runtime) -> list[Skew]:
    """Return the difference of this clock to that of each server that reports its time."""
    # an unavailable broker is reported once, by the code that needs it
    log = logging.getLogger("aiokafka")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        return await _measure(runtime)
    finally:
        log.setLevel(level)


async def _measure(runtime: Runtime) -> list[Skew]:
    answers = await asyncio.gather(
        *(_bounded(ask(runtime)) for ask in (of_cluster, _of_registry, of_valkey))
    )
    return sorted((skew for skews in answers for skew in skews), key=lambda one: one.server == LOG)


async def _bounded(asking: Awaitable[list[Skew]]) -> list[Skew]:
    try:
        return await asyncio.wait_for(asking, ANSWER_SEC)
    except (TimeoutError, Fatal, Recoverable, OSError):
        return []


async def _of_registry(runtime: Runtime) -> list[Skew]:
    if not runtime.schema_registry_url:
        return []
    before_ms = now_ms()
    try:
        async with registry_of(runtime) as registry:
            date = await registry.date()
        first_ms = int(parsedate_to_datetime(date).timestamp() * SECOND_MS)
    except (aiohttp.ClientError, ValueError):
        return []
    last_ms = first_ms + SECOND_MS - 1
    return [Skew(REGISTRY, ahead_ms(before_ms, now_ms(), first_ms, last_ms))]
