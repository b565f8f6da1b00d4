"""Rebuilds Valkey from the log: the writes of the live mirror, from the first record on."""

from __future__ import annotations

from collections.abc import Callable

from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.errors import Recoverable
from streams.kafka.reader import LogReader
from streams.mirror.follow import retention_of, writes_of_records
from streams.mirror.keys import position_field
from streams.mirror.rights import require_rights
from streams.mirror.writer import MirrorWriter, clear, connect
from streams.records.codec import Codec
from streams.records.topics import MIRRORED


async def rebuild(
    runtime: Runtime,
    config: Config,
    codec: Codec,
    progress: Callable[[str, int], None] = lambda topic, count: None,
) -> int:
    """Remove the mirror's keys and write them again from the log; return the number of writes.

    A live mirror may run meanwhile: last values are guarded by event time, and members of series
    are added once. Values that have expired by their event time are not written. Nothing is
    published, so that subscribers see no old values. If interrupted, it leaves no positions, and
    the live mirror begins at the first record.

    Raises
    ------
    Fatal, Recoverable
        A topic or a right in Valkey is missing; Kafka or Valkey cannot be reached; Valkey restarted
        meanwhile.
    """
    client = connect(runtime)
    try:
        writer, retention = MirrorWriter(client, publish=False), retention_of(runtime, config)
        await require_rights(client, runtime)  # before anything is removed
        run_id = await writer.run_id()
        await clear(client)
        reached: dict[str, int] = {}
        with LogReader(runtime) as reader:
            for topic in MIRRORED:
                for partition in reader.partitions(topic):
                    field = position_field(reader.cluster_id, runtime.topic(topic), partition)
                    for batch in reader.read(topic, partition):
                        found = (item.record for item in batch)
                        await writer.apply(
                            writes_of_records(codec, found, config.alloc_interval_sec, retention)
                        )
                        reached[field] = batch[-1].record.offset + 1
                        progress(topic, len(batch))
        if await writer.run_id() != run_id:
            raise Recoverable(
                "Valkey restarted during the rebuild and may have lost writes: run it again"
            )
        await writer.reach(reached)
        return writer.written
    finally:
        await client.aclose()
