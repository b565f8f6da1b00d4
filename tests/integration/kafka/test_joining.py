"""A consumer that leads its group waits until the broker knows the group's topics."""

from __future__ import annotations

import asyncio
import threading

import aiokafka
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from streams.errors import Recoverable
from streams.pipeline.worker.joining import wait_before_assigning, wait_for_topics
from streams.stack.kafka import KafkaBroker
from tests.support.waiting import PATIENCE_S, until

pytestmark = pytest.mark.kafka


def create(kafka: KafkaBroker, name: str, partitions: int) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap, "log_level": 0})
    admin.create_topics([NewTopic(name, partitions, 1)])[name].result(PATIENCE_S)
    until(lambda: len(admin.list_topics(name, PATIENCE_S).topics[name].partitions) == partitions)


async def test_nothing_is_assigned_before_every_topic_is_known(
    kafka: KafkaBroker, topic_prefix: str
) -> None:
    early, late = f"{topic_prefix}early", f"{topic_prefix}late"
    create(kafka, early, 2)
    consumer = aiokafka.AIOKafkaConsumer(
        bootstrap_servers=kafka.bootstrap, group_id=f"{topic_prefix}group"
    )
    await consumer.start()
    try:
        wait_before_assigning(consumer, {early: 2, late: 3}, PATIENCE_S)
        consumer.subscribe([early, late])
        asked = threading.Event()
        client = consumer._client
        update = client.force_metadata_update

        def counted() -> object:
            asked.set()
            return update()

        client.force_metadata_update = counted
        async with asyncio.timeout(PATIENCE_S):
            while not asked.is_set():  # noqa: ASYNC110 - the client has no event for it
                await asyncio.sleep(0.01)
            assert consumer.assignment() == set()
            await asyncio.to_thread(create, kafka, late, 3)
            while not consumer.assignment():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert len(consumer.assignment()) == 5
    finally:
        await consumer.stop()


async def test_a_topic_that_does_not_come_is_named(kafka: KafkaBroker, topic_prefix: str) -> None:
    name = f"{topic_prefix}never"
    consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap)
    await consumer.start()
    try:
        with pytest.raises(Recoverable, match=f"knows 0 of 4 partitions of {name}"):
            await wait_for_topics(consumer._client, {name: 4}, 0.5)
    finally:
        await consumer.stop()
