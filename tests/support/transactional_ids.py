"""Which transactional ids a broker knows."""

from __future__ import annotations

import time

from confluent_kafka import Consumer, KafkaError, TopicPartition

from tests.support.waiting import PATIENCE_S

STATE_TOPIC = "__transaction_state"


def known_transactional_ids(bootstrap: str, prefix: str) -> set[str]:
    """Return the transactional ids that begin with ``prefix``.

    Read from Kafka's own topic, whose keys are a version (int16), a length (int16) and the id.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "the test's own",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
        }
    )
    try:
        numbers = consumer.list_topics(STATE_TOPIC, 30).topics[STATE_TOPIC].partitions
        consumer.assign([TopicPartition(STATE_TOPIC, number, 0) for number in numbers])
        found: dict[str, bool] = {}
        left, give_up_at = set(numbers), time.monotonic() + PATIENCE_S
        while left:
            assert time.monotonic() < give_up_at, f"{STATE_TOPIC}: {left} cannot be read"
            for message in consumer.consume(5_000, 0.2):
                error = message.error()
                if error is None:
                    found[message.key()[4:].decode()] = message.value() is not None
                elif error.code() == KafkaError._PARTITION_EOF:
                    left.discard(message.partition())
        return {name for name, kept in found.items() if kept and name.startswith(prefix)}
    finally:
        consumer.close()
