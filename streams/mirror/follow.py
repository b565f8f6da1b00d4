"""Follows the log into Valkey. Whatever is down is waited for; nothing is skipped."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from streams.admin import require_topics
from streams.codec import Codec, DecodeError
from streams.connection import aiokafka_config
from streams.errors import Recoverable
from streams.mirror.shapes import Retention, Write, writes_of
from streams.mirror.writer import MirrorWriter, connect
from streams.settings import Config, Runtime
from streams.topics import MIRRORED

BATCH = 5_000
BACK_OFF_S = (0.2, 0.5, 1.0, 2.0, 5.0)

log = logging.getLogger("manifold.mirror")


def writes_of_values(
    codec: Codec,
    found: Iterable[tuple[str, bytes | None]],
    alloc_interval_sec: int,
    retention: Retention,
) -> list[Write]:
    """Return the writes of (topic, value) pairs; values that are no events write nothing.

    The stages make dead letters of such values.
    """
    writes: list[Write] = []
    for topic, value in found:
        try:
            event = codec.decode(topic, value)
        except DecodeError:
            continue
        writes += writes_of(event, alloc_interval_sec, retention)
    return writes


def retention_of(runtime: Runtime) -> Retention:
    """Return the bounds of the series from the settings."""
    return Retention(runtime.valkey_candle_retention, runtime.valkey_signal_retention)


class Follower:
    """One mirror process.

    Parameters
    ----------
    runtime, config, codec
        The deployment.
    """

    def __init__(self, runtime: Runtime, config: Config, codec: Codec) -> None:
        self._runtime, self._codec = runtime, codec
        self._interval_sec = config.alloc_interval_sec
        self._client = connect(runtime)
        self.writer = MirrorWriter(self._client)
        self._stopping = asyncio.Event()
        self._topics_were_there = False

    def stop(self) -> None:
        """Ask ``run`` to return after the batch in hand."""
        self._stopping.set()

    async def run(self) -> None:
        """Follow until ``stop``; waits with back-off while Kafka or Valkey is away.

        Raises
        ------
        Fatal
            Kafka or Valkey refuses the login or the certificate, or topics are missing.
        """
        tries = 0
        while not self._stopping.is_set():
            try:
                await self._follow()
                tries = 0
            except (KafkaError, Recoverable) as error:
                pause_s = BACK_OFF_S[min(tries, len(BACK_OFF_S) - 1)]
                log.warning("%s; trying again in %.1f s", error, pause_s)
                tries += 1
                await self._pause(pause_s)
        await self._client.aclose()

    async def _follow(self) -> None:
        if not self._topics_were_there:  # a broker that restarts may not know them for a moment
            await asyncio.to_thread(require_topics, self._runtime)
            self._topics_were_there = True
        names = {self._runtime.topic(topic): topic for topic in MIRRORED}
        make: Any = AIOKafkaConsumer
        consumer = make(
            *names,
            **aiokafka_config(self._runtime),
            group_id=self._runtime.mirror_group,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=10_000,
            fetch_max_wait_ms=250,
        )
        await consumer.start()
        try:
            while not self._stopping.is_set():
                fetched = await consumer.getmany(timeout_ms=500, max_records=BATCH)
                values = [
                    (names[tp.topic], record.value)
                    for tp, records in fetched.items()
                    for record in records
                ]
                if not values:
                    continue
                writes = writes_of_values(
                    self._codec, values, self._interval_sec, retention_of(self._runtime)
                )
                await self._apply(writes)
                await consumer.commit()
        finally:
            await consumer.stop()

    async def _apply(self, writes: list[Write]) -> None:
        """Write until it is done: no batch is left out or committed before it is written."""
        tries = 0
        while True:
            try:
                await self.writer.apply(writes)
                return
            except Recoverable as error:
                if self._stopping.is_set():
                    raise
                pause_s = BACK_OFF_S[min(tries, len(BACK_OFF_S) - 1)]
                log.warning("%s; the mirror waits and catches up", error)
                tries += 1
                await self._pause(pause_s)

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return
