"""Reads the clock of Valkey (``TIME``)."""

from __future__ import annotations

import asyncio

import redis

from streams.config.runtime import Runtime
from streams.mirror.writer import valkey_options
from streams.process.clock_skew import ANSWER_SEC, SECOND_MS, VALKEY, Skew, ahead_ms, now_ms


async def of_valkey(runtime: Runtime) -> list[Skew]:
    return await asyncio.to_thread(_ask_valkey, runtime)


def _ask_valkey(runtime: Runtime) -> list[Skew]:
    try:
        with redis.Redis.from_url(
            runtime.valkey_url,
            socket_timeout=ANSWER_SEC,
            socket_connect_timeout=ANSWER_SEC,
            **valkey_options(runtime),
        ) as client:
            client.ping()
            before_ms = now_ms()
            seconds, micros = client.time()
            told_ms = seconds * SECOND_MS + micros // SECOND_MS
            return [Skew(VALKEY, ahead_ms(before_ms, now_ms(), told_ms, told_ms))]
    except (redis.RedisError, ValueError):
        return []
