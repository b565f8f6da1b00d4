"""A Faust agent for the benchmark, tuned: batches in and out, large buffers, lz4, uvloop.

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
from aiokafka import AIOKafkaProducer

from tests.perf.peer_stage import PeerStage, source_record

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
    key_serializer="raw",
    value_serializer="raw",
    web_enabled=False,
    datadir=os.environ["PEER_DATADIR"],
)
candles = app.topic(stage.source)


class Sender:
    """Whole batches for partitions by the client library that Faust uses: ``send`` of Faust's own
    costs several times what the step does.
    """

    def __init__(self) -> None:
        self._producer: AIOKafkaProducer | None = None
        self._batches: dict[tuple[str, int], Any] = {}
        self._sent: list[asyncio.Future[Any]] = []

    async def begin(self) -> None:
        """Connect on first use."""
        if self._producer is None:
            self._producer = AIOKafkaProducer(
                bootstrap_servers=runtime.kafka_bootstrap_servers,
                acks="all",
                compression_type="lz4",
                max_batch_size=1 << 19,
            )
            await self._producer.start()

    async def add(
        self,
        topic: str,
        partition: int,
        key: bytes,
        value: bytes | None,
        ms: int | None,
        headers: Any,
    ) -> None:
        """Put a record into its partition's batch; a full batch goes first."""
        at, record = (topic, partition), {"key": key, "value": value, "timestamp": ms}
        while at not in self._batches or (
            self._batches[at].append(**record, headers=list(headers)) is None
        ):
            await self._send(at)
            assert self._producer is not None
            self._batches[at] = self._producer.create_batch()

    async def _send(self, at: tuple[str, int]) -> None:
        batch = self._batches.pop(at, None)
        if batch is not None and batch.record_count():
            assert self._producer is not None
            self._sent.append(await self._producer.send_batch(batch, at[0], partition=at[1]))

    async def flush(self) -> None:
        """Return when the broker has everything."""
        for at in list(self._batches):
            await self._send(at)
        await asyncio.gather(*self._sent)
        self._sent.clear()


sender = Sender()


@app.agent(candles)
async def derive(stream: Any) -> None:
    """Step a batch, send what is derived and the changed rows, wait until the broker has all."""
    await sender.begin()
    async for events in stream.take_events(BATCH, within=WITHIN_S):
        batches: defaultdict[int, list[Any]] = defaultdict(list)
        for event in events:
            m = event.message
            stamp = round(m.timestamp * 1000)
            record = source_record(m.partition, m.offset, stamp, m.key, m.value)
            batches[m.partition].append(record)
        for partition, records in batches.items():
            for topic, to, key, value, stamp, headers, _ in stage.process(partition, records):
                await sender.add(runtime.topic(topic), to, key, value, stamp, headers)
            for key, row in stage.changes(partition).items():
                await sender.add(stage.changelog, partition, key, row, None, ())
        await sender.flush()


if __name__ == "__main__":
    app.main()
