"""A Faust agent for the benchmark, tuned: batches, large buffers, lz4, uvloop, state by the batch.

Rows of state go to a compacted topic of their own, once a key and batch: a Faust table takes its
partition from the current event, which a batch does not have. Acknowledged after the broker has
everything of the batch: at least once.

    python -m tests.perf.peer_faust_tuned worker
"""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from typing import Any

import faust
import uvloop

from tests.perf.peer_stage import OUTPUTS, PeerStage, source_record

BATCH, WITHIN_S = 1_000, 0.02

asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
stage = PeerStage()
runtime = stage.runtime
app = faust.App(
    f"{runtime.application}-tuned",
    broker=f"kafka://{runtime.kafka_bootstrap_servers}",
    store="memory://",
    topic_partitions=runtime.topic_partitions,
    topic_replication_factor=1,
    topic_disable_leader=True,
    consumer_auto_offset_reset="earliest",
    consumer_max_fetch_size=8 << 20,
    broker_max_poll_records=5_000,
    stream_buffer_maxsize=65_536,
    stream_wait_empty=False,
    producer_acks=-1,
    producer_linger=0.005,
    producer_max_batch_size=1 << 20,
    producer_compression_type="lz4",
    key_serializer="raw",
    value_serializer="raw",
    web_enabled=False,
    datadir=os.environ["PEER_DATADIR"],
)
candles = app.topic(stage.source)
outputs = {topic: app.topic(runtime.topic(topic)) for topic in OUTPUTS}
changelog = app.topic(stage.changelog)


@app.agent(candles)
async def derive(stream: Any) -> None:
    """Step a batch, send what is derived and the changed rows, wait until the broker has all."""
    async for events in stream.take_events(BATCH, within=WITHIN_S):
        batches: defaultdict[int, list[Any]] = defaultdict(list)
        for event in events:
            m = event.message
            stamp = round(m.timestamp * 1000)
            record = source_record(m.partition, m.offset, stamp, m.key, m.value)
            batches[m.partition].append(record)
        sent = []
        for partition, records in batches.items():
            for topic, to, key, value, at_ms, headers, _ in stage.process(partition, records):
                sent.append(
                    await outputs[topic].send(
                        key=key,
                        value=value,
                        partition=to,
                        timestamp=at_ms / 1000,
                        headers=list(headers),
                    )
                )
            for key, row in stage.changes(partition).items():
                sent.append(await changelog.send(key=key, value=row, partition=partition))
        await asyncio.gather(*sent)


if __name__ == "__main__":
    app.main()
