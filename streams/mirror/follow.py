"""Follows the log into Valkey; waits while Kafka or Valkey is unavailable, skips no record."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from streams.config.feeds import FeedSettings
from streams.config.runtime import Runtime
from streams.config.settings import Config, UnknownSettings
from streams.errors import Fatal, Recoverable
from streams.kafka.control_topic import read_control
from streams.kafka.decoding import event_of
from streams.kafka.follower import LogPartition, keep_following, open_consumer, poll_records
from streams.kafka.topics_admin import Cluster, require_topics
from streams.mirror.keys import position_field
from streams.mirror.rights import require_rights
from streams.mirror.shapes import Retention, Write, silent, writes_of
from streams.mirror.writer import Advance, MirrorWriter, connect
from streams.process.pausing import BackOff, pause
from streams.records.codec import Codec
from streams.records.config_following import FollowedConfig
from streams.records.control import ControlLog
from streams.records.log_record import SourceRecord
from streams.records.topics import CONTROL, MIRRORED

BATCH = 5_000

Positions = dict[LogPartition, int | None]
T = TypeVar("T")

log = logging.getLogger("manifold.mirror")


def writes_of_records(
    codec: Codec,
    found: Iterable[SourceRecord],
    alloc_interval_sec: int,
    retention: Retention,
) -> list[Write]:
    """Return the writes of records; one that is refused writes nothing.

    The stages write such records to ``dead.letters``.
    """
    writes: list[Write] = []
    for record in found:
        event = event_of(codec, record)
        if event is not None:
            writes += writes_of(event, alloc_interval_sec, retention)
    return writes


def _source_record(topic: str, record: Any) -> SourceRecord:
    return SourceRecord(
        topic, record.partition, record.offset, record.timestamp, record.key, record.value
    )


def _checked_cluster(runtime: Runtime) -> str:
    cluster = Cluster(runtime)
    require_topics(runtime, cluster)
    return str(cluster.metadata.cluster_id)


def retention_of(runtime: Runtime, config: Config) -> Retention:
    """Return the retention of the series, from the settings."""
    return Retention(
        runtime.valkey_candle_retention,
        runtime.valkey_signal_retention,
        FeedSettings.from_env().feed_settle_ms,
        config.eval_history_hours,
    )


class Follower:
    """One mirror process.

    Parameters
    ----------
    runtime, config, codec
        The deployment; the settings of this environment.
    """

    def __init__(self, runtime: Runtime, config: Config, codec: Codec) -> None:
        self._runtime, self._codec = runtime, codec
        self._followed, self._control = FollowedConfig(config), ControlLog()
        self._retention = retention_of(runtime, config)
        self._client = connect(runtime)
        self.writer = MirrorWriter(self._client)
        self._stopping = asyncio.Event()
        self._cluster_id = ""
        self._commit_pending = False
        # end of the published records: none is published again after a seek back
        self._published: dict[LogPartition, int] = {}

    def stop(self) -> None:
        """Ask ``run`` to return after the current batch."""
        self._stopping.set()

    async def run(self) -> None:
        """Follow until ``stop``; waits with back-off while Kafka or Valkey is unavailable.

        Raises
        ------
        Fatal
            Kafka or Valkey refuses the login, the certificate or a right, or topics are missing.
        """
        try:
            await keep_following(self._follow, self._stopping, str, log)
        finally:
            await self._client.aclose()

    async def _follow(self) -> None:
        if not self._cluster_id:  # a broker that restarts may briefly report its topics as missing
            cluster_id = await asyncio.to_thread(_checked_cluster, self._runtime)
            await self._retried(lambda: require_rights(self._client, self._runtime))
            self._cluster_id = cluster_id
        await self._refresh_config()
        names = {self._runtime.topic(topic): topic for topic in MIRRORED}
        known: Positions = {}
        async with open_consumer(
            self._runtime,
            MIRRORED,
            group_id=self._runtime.mirror_group,
            auto_offset_reset="earliest",
            session_timeout_ms=10_000,
        ) as consumer:
            while not self._stopping.is_set():
                known = await self._positioned(consumer, known)
                received, _ = await poll_records(consumer, BATCH)
                # records of a partition without a position yet are read again after the seek
                batches = {tp: found for tp, found in received.items() if found and tp in known}
                if batches:
                    await self._take(consumer, names, known, batches)

    async def _positioned(self, consumer: Any, known: Positions) -> Positions:
        """Return the positions stored in Valkey, and seek the consumer to those that changed.

        The offsets committed by the group only show the mirror's lag.
        """
        asked = sorted(consumer.assignment())
        fields = [self._field(tp) for tp in asked]
        stored = await self._retried(lambda: self.writer.positions(fields))
        assigned = consumer.assignment()
        now = {tp: at for tp, at in zip(asked, stored, strict=True) if tp in assigned}
        moved = {tp: at for tp, at in now.items() if tp not in known or known[tp] != at}
        for tp in moved.keys() & known.keys():
            log.warning(
                "the position in Valkey is now %s for %s-%d, it was %s: continuing from there",
                *(moved[tp] or "the beginning", tp.topic, tp.partition, known[tp]),
            )
        begin = [tp for tp, at in moved.items() if at is None]
        for tp, at in moved.items():
            if at is not None:
                consumer.seek(tp, at)
        if begin:
            await consumer.seek_to_beginning(*begin)
        if self._commit_pending or moved.keys() & known.keys():
            await consumer.commit({tp: at or 0 for tp, at in now.items()})
            self._commit_pending = False
        return now

    async def _take(
        self,
        consumer: Any,
        names: Mapping[str, str],
        known: Positions,
        batches: Mapping[LogPartition, Sequence[Any]],
    ) -> None:
        if any(names[tp.topic] == CONTROL for tp in batches):
            await self._refresh_config()
        interval_sec = self._followed.active.alloc_interval_sec
        writes: list[Write] = []
        for tp, records in batches.items():
            told = sum(record.offset < self._published.get(tp, 0) for record in records)
            values = [_source_record(names[tp.topic], record) for record in records]
            for part, again in ((values[:told], True), (values[told:], False)):
                found = writes_of_records(self._codec, part, interval_sec, self._retention)
                writes += [silent(write) for write in found] if again else found
        after = {tp: records[-1].offset + 1 for tp, records in batches.items()}
        advances = [Advance(self._field(tp), known[tp], at) for tp, at in after.items()]
        moved = await self._retried(lambda: self.writer.apply(writes, advances))
        for tp, at in after.items():
            self._published[tp] = max(self._published.get(tp, 0), at)
            known[tp] = at
        self._commit_pending = not moved
        if moved:
            await consumer.commit(after)

    async def _refresh_config(self) -> None:
        """Take the settings of ``ops.control``; if they are of a newer version, keep the current
        ones."""
        try:
            await asyncio.to_thread(read_control, self._runtime, self._codec, self._control)
        except UnknownSettings as error:
            log.warning("%s; the allocator's status keeps the previous interval", error)
        self._followed.look(self._control, refuse=False)
        self._retention = retention_of(self._runtime, self._followed.active)

    def _field(self, tp: LogPartition) -> str:
        return position_field(self._cluster_id, tp.topic, tp.partition)

    async def _retried(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Repeat a Valkey request until it succeeds: no batch is skipped."""
        back_off = BackOff()
        while True:
            try:
                return await ask()
            except Fatal:
                # rights withdrawn while it runs: names them all, and how to grant them
                await require_rights(self._client, self._runtime)
                raise
            except Recoverable as error:
                if self._stopping.is_set():
                    raise
                log.warning("%s; the mirror waits and catches up", error)
                await pause(self._stopping, back_off.next_s())
