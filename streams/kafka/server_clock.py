"""The clock of the brokers, and the time of the log.

``Kafka``
    The controller's time is the leader's ``LastCaughtUpTimestamp`` in DescribeQuorum (KIP-836,
    since Kafka 3.3; needs DESCRIBE on the cluster). Other brokers do not report their time.
``the log``
    The highest time stamp in ``md.candles``. A candle is written after its end, so a clock earlier
    than this time stamp is behind by at least the difference.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError as AioKafkaError
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from streams.config.runtime import Runtime
from streams.kafka.client import SILENT, aiokafka_config, confluent_config
from streams.process.clock_skew import ANSWER_SEC, KAFKA, LOG, Skew, ahead_ms, now_ms
from streams.records.topics import CANDLES


class _Quorum(Response):
    API_KEY = 55
    API_VERSION = 1
    _REPLICA = CompactArray(
        ("replica_id", Int32),
        ("log_end_offset", Int64),
        ("last_fetch_timestamp", Int64),
        ("last_caught_up_timestamp", Int64),
        ("tags", TaggedFields),
    )
    SCHEMA = Schema(
        ("error_code", Int16),
        (
            "topics",
            CompactArray(
                ("name", CompactString("utf-8")),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("error_code", Int16),
                        ("leader_id", Int32),
                        ("leader_epoch", Int32),
                        ("high_watermark", Int64),
                        ("voters", _REPLICA),
                        ("observers", _REPLICA),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _QuorumAsked(RequestStruct):
    FLEXIBLE_VERSION = True
    API_KEY = 55
    API_VERSION = 1
    RESPONSE_TYPE = _Quorum
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(
                ("name", CompactString("utf-8")),
                ("partitions", CompactArray(("partition", Int32), ("tags", TaggedFields))),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _AskQuorum(Request[_QuorumAsked]):
    API_KEY = 55

    def build(self, request_struct_class: type[_QuorumAsked]) -> _QuorumAsked:
        return request_struct_class([("__cluster_metadata", [(0, {})], {})], {})


async def of_cluster(runtime: Runtime) -> list[Skew]:
    client: Any = AIOKafkaClient(**aiokafka_config(runtime))  # type: ignore[no-untyped-call]
    try:
        await client.bootstrap()
        node = min(broker.nodeId for broker in client.cluster.brokers())
        found = await _of_controller(client, node)
    except (AioKafkaError, ValueError):
        return []
    finally:
        await client.close()
    return found + await asyncio.to_thread(_of_log, runtime)


async def _of_controller(client: Any, node: int) -> list[Skew]:
    before_ms = now_ms()
    try:
        answer = await client.send(node, _AskQuorum())
    except NotImplementedError:
        return []  # the client raises this when the broker does not support the request
    after_ms = now_ms()
    for _, partitions, _ in answer.topics:
        for _, error, leader, _, _, voters, _, _ in partitions:
            reported = [ms for replica, _, _, ms, _ in voters if replica == leader and ms > 0]
            if not error and reported:
                return [Skew(KAFKA, ahead_ms(before_ms, after_ms, reported[0], reported[0]))]
    return []


def _of_log(runtime: Runtime) -> list[Skew]:
    client = AdminClient(confluent_config(runtime) | SILENT)
    topic = runtime.topic(CANDLES)
    try:
        known = client.list_topics(topic, timeout=ANSWER_SEC).topics.get(topic)
        if known is None or known.error is not None:
            return []
        latest = OffsetSpec.max_timestamp()  # type: ignore[no-untyped-call]
        asked = {TopicPartition(topic, partition): latest for partition in known.partitions}
        answers = client.list_offsets(asked, request_timeout=ANSWER_SEC)
        newest_ms = max(int(found.result(ANSWER_SEC).timestamp) for found in answers.values())
    except (KafkaException, ValueError):
        return []
    # a candle in the past does not limit the clock
    return [Skew(LOG, min(0, now_ms() - newest_ms))]
