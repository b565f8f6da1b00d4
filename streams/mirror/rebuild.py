"""Filling Valkey from the log: the same writes as the live mirror, from the first record on."""

from __future__ import annotations

from collections.abc import Callable

from streams.codec import Codec
from streams.mirror.follow import retention_of, writes_of_values
from streams.mirror.writer import MirrorWriter, clear, connect
from streams.replay.log_reader import LogReader
from streams.settings import Config, Runtime
from streams.topics import MIRRORED


async def rebuild(
    runtime: Runtime,
    config: Config,
    codec: Codec,
    progress: Callable[[str, int], None] = lambda topic, count: None,
) -> int:
    """Remove what the mirror wrote and write it again from the log; return the writes.

    A live mirror may go on meanwhile: last values are guarded by event time, and members of series
    are added once. What has expired by its event time is gone at once. Nothing
    is published: a subscriber shall not see what is long past.

    Raises
    ------
    Fatal, Recoverable
        A topic is missing; Kafka or Valkey cannot be reached.
    """
    client = connect(runtime)
    try:
        await clear(client)
        writer = MirrorWriter(client, publish=False)
        with LogReader(runtime) as reader:
            for topic in MIRRORED:
                for partition in reader.partitions(topic):
                    for batch in reader.read(topic, partition):
                        found = ((topic, item.record.value) for item in batch)
                        await writer.apply(
                            writes_of_values(
                                codec, found, config.alloc_interval_sec, retention_of(runtime)
                            )
                        )
                        progress(topic, len(batch))
        return writer.written
    finally:
        await client.aclose()
