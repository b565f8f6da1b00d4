"""A Faust agent for the benchmark with its defaults: one event at a time, a table, ``send``.

What somebody writes who follows Faust's documentation.

    python -m tests.perf.peer_faust_plain worker
"""

from __future__ import annotations

import os
from typing import Any

import faust

from tests.perf.peer_stage import OUTPUTS, PeerStage, source_record

stage = PeerStage()
runtime = stage.runtime
app = faust.App(
    f"{runtime.application}-plain",
    broker=f"kafka://{runtime.kafka_bootstrap_servers}",
    store="memory://",
    topic_partitions=runtime.topic_partitions,
    topic_replication_factor=1,
    consumer_auto_offset_reset="earliest",
    key_serializer="raw",
    value_serializer="raw",
    web_enabled=False,
    datadir=os.environ["PEER_DATADIR"],
)
candles = app.topic(stage.source)
outputs = {topic: app.topic(runtime.topic(topic)) for topic in OUTPUTS}
table = app.Table("signals", partitions=runtime.topic_partitions, key_type=bytes, value_type=bytes)


@app.agent(candles)
async def derive(stream: Any) -> None:
    """Step, write the state, send what is derived."""
    async for event in stream.events():
        message = event.message
        partition, stamp = message.partition, round(message.timestamp * 1000)
        record = source_record(partition, message.offset, stamp, message.key, message.value)
        for topic, to, key, value, at_ms, headers, _ in stage.process(partition, [record]):
            await outputs[topic].send(
                key=key,
                value=value,
                partition=to,
                timestamp=at_ms / 1000,
                headers=list(headers),
            )
        rows = [row for row in stage.changes(partition).values() if row]
        if rows:
            table[message.key] = b"".join(rows)


if __name__ == "__main__":
    app.main()
