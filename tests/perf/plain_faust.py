"""A plain Faust agent for the benchmark: its defaults, with the product's codec and step.

One agent, one table, one output: what somebody writes who follows Faust's documentation.

    python -m tests.perf.plain_faust worker
"""

from __future__ import annotations

import os
from typing import Any

import faust

from streams.codec import locked_codec
from streams.control import ControlLog
from streams.events import Candle, Control, Watermark
from streams.settings import Config, Runtime
from streams.stages.signals import SignalsStep
from streams.stages.step import SourceRecord
from streams.topics import CANDLES, DEAD_LETTERS, SIGNALS

runtime = Runtime.from_env()
codec = locked_codec(runtime.topic_prefix)
partitions = runtime.topic_partitions
app = faust.App(
    f"{runtime.topic_prefix}plain",
    broker=f"kafka://{runtime.kafka_bootstrap_servers}",
    store="memory://",
    topic_partitions=partitions,
    topic_replication_factor=1,
    consumer_auto_offset_reset="earliest",
    key_serializer="raw",
    value_serializer="raw",
    web_enabled=False,
    datadir=os.environ["PLAIN_FAUST_DATADIR"],
)
candles = app.topic(runtime.topic(CANDLES))
signals = app.topic(os.environ["PLAIN_FAUST_OUTPUT"])
table = app.Table("signals", partitions=partitions, key_type=bytes, value_type=bytes)


def new_step() -> SignalsStep:
    """Return a step under the default configuration, without rows."""
    control = ControlLog()
    control.append(0, Control("config", None, Config().to_json(), "bench", "bench", 0))
    step = SignalsStep(control, {})
    step.follow(Watermark(0, Config().candle_gran, control.end, ()))
    return step


steps: dict[int, SignalsStep] = {}


@app.agent(candles)
async def derive(stream: Any) -> None:
    """Decode, step, write the state, send the signal."""
    async for event in stream.events():
        message = event.message
        decoded = codec.decode(CANDLES, message.value)
        if not isinstance(decoded, Candle):
            continue
        if message.partition not in steps:
            steps[message.partition] = new_step()
        step = steps[message.partition]
        at = SourceRecord(
            CANDLES,
            message.partition,
            message.offset,
            round(message.timestamp * 1000),
            message.key,
            message.value,
        )
        derived = step.step(decoded, at)
        table[message.key] = b"".join(row for row in step.changes().values() if row)
        for topic, found in derived:
            if topic == DEAD_LETTERS:
                raise RuntimeError(f"the benchmark's candle was refused: {found}")
            if topic == SIGNALS:
                await signals.send(key=message.key, value=codec.encode(SIGNALS, found))


if __name__ == "__main__":
    app.main()
