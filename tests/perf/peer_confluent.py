"""A bare loop of confluent-kafka for the benchmark: consume, step, one transaction, again.

    python -m tests.perf.peer_confluent 1000

The argument is the most records of a transaction. One transactional id, one transaction over all
partitions: outputs, changed rows of state, source offsets.
"""

from __future__ import annotations

import sys
from collections import defaultdict

from confluent_kafka import Consumer, KafkaException, Producer

from streams.kafka.client import confluent_config
from tests.perf.peer_stage import PeerStage, SourceRecord, source_record


def main(size: int) -> None:
    """Run until the process is stopped."""
    stage = PeerStage()
    runtime = stage.runtime
    group = f"{runtime.application}-bare"
    consumer = Consumer(
        confluent_config(runtime)
        | {
            "group.id": group,
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 10,
        }
    )
    producer = Producer(
        confluent_config(runtime)
        | {
            "transactional.id": group,
            "linger.ms": 5,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 500_000,
        }
    )
    producer.init_transactions()
    consumer.subscribe([stage.source])
    while True:
        fetched = consumer.consume(size, 0.05)
        if not fetched:
            continue
        records: defaultdict[int, list[SourceRecord]] = defaultdict(list)
        for message in fetched:
            if message.error() is not None:
                raise KafkaException(message.error())
            at = message.partition(), message.offset(), message.timestamp()[1]
            records[at[0]].append(source_record(*at, message.key(), message.value()))
        producer.begin_transaction()
        for partition, batch in records.items():
            for topic, to, key, value, stamp, headers, _ in stage.process(partition, batch):
                name = runtime.topic(topic)
                producer.produce(name, value, key, to, timestamp=stamp, headers=list(headers))
            for key, row in stage.changes(partition).items():
                producer.produce(stage.changelog, row, key, partition)
        offsets = consumer.position(consumer.assignment())
        producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata())
        producer.commit_transaction()


if __name__ == "__main__":
    main(int(sys.argv[1]))
