"""Quix Streams for the benchmark, exactly once. Runs in an environment of its own, ours behind it.

python -m tests.perf.peer_quix stateful    rows of state in its store (RocksDB and a changelog)
python -m tests.perf.peer_quix stateless   state in memory alone: lost when the process ends
"""

from __future__ import annotations

import os
import sys
from typing import Any

from quixstreams import Application, State, message_context
from quixstreams.models import Serializer

from tests.perf.peer_stage import OUTPUTS, PeerStage, source_record

CHECKPOINT_RECORDS, CHECKPOINT_S = 5_000, 0.25


class ValueOf(Serializer):
    """Takes the value of an ``Output`` as it is."""

    def __call__(self, value: Any, ctx: Any) -> bytes:
        return bytes(value.value)


def main(mode: str) -> None:
    """Run until the process is stopped."""
    stage = PeerStage()
    runtime = stage.runtime
    app = Application(
        broker_address=runtime.kafka_bootstrap_servers,
        consumer_group=f"{runtime.application}-quix",
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_every=CHECKPOINT_RECORDS,
        commit_interval=CHECKPOINT_S,
        consumer_extra_config={"fetch.wait.max.ms": 10},
        producer_extra_config={
            "linger.ms": 5,
            "compression.type": "lz4",
            "partitioner": "murmur2_random",
            "queue.buffering.max.messages": 500_000,
        },
        state_dir=os.environ["PEER_DATADIR"],
        loglevel="WARNING",
    )
    source = app.topic(stage.source, value_deserializer="bytes", key_deserializer="bytes")
    targets = {
        topic: app.topic(runtime.topic(topic), value_serializer=ValueOf(), key_serializer="bytes")
        for topic in OUTPUTS
    }

    def derive(value: bytes, key: bytes, timestamp: int, _: Any) -> list[Any]:
        at = message_context()
        record = source_record(at.partition, at.offset, timestamp, key, value)
        return stage.process(at.partition, [record])

    def derive_and_keep(
        value: bytes, key: bytes, timestamp: int, headers: Any, state: State
    ) -> list[Any]:
        derived = derive(value, key, timestamp, headers)
        for name, row in stage.changes(message_context().partition).items():
            if row is not None:
                state.set_bytes(name.decode(), row)
        return derived

    stream = app.dataframe(source)
    if mode == "stateful":
        stream = stream.apply(derive_and_keep, stateful=True, expand=True, metadata=True)
    else:
        stream = stream.apply(derive, expand=True, metadata=True)
    stream = stream.set_headers(lambda value, *_: list(value.headers))
    stream.to_topic(lambda value, *_: targets[value.topic])
    app.run()


if __name__ == "__main__":
    main(sys.argv[1])
