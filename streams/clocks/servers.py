"""Asking the servers of a deployment for their time.

``Kafka``
    The controller tells its time as the leader's ``LastCaughtUpTimestamp`` in DescribeQuorum
    (KIP-836, from Kafka 3.3 on; needs DESCRIBE on the cluster). Other brokers do not tell.
``the schema registry``
    The ``Date`` of an answer: whole seconds.
``Valkey``
    ``TIME``.
``the log``
    The highest time stamp in ``md.candles``: a candle is written after its end, so that a clock is
    behind at least by what lies in its future.

A server that does not answer, or does not tell, is left out: what is wrong with it is said by
whoever needs it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable
from email.utils import parsedate_to_datetime
from typing import Any, Final

import aiohttp
import redis
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

from streams.clocks.skew import KAFKA, LOG, REGISTRY, SECOND_MS, VALKEY, Skew, ahead_ms
from streams.connection import SILENT, aiokafka_config, confluent_config
from streams.errors import Fatal, Recoverable
from streams.mirror.writer import connection_options
from streams.registry import registry_of
from streams.settings import Runtime
from streams.topics import CANDLES

ANSWER_SEC: Final = 3.0


async def measure(runtime: Runtime) -> list[Skew]:
    """Return how far this clock is from that of each server that tells its time."""
    # a broker that is not there is said by whoever needs it, once
    log = logging.getLogger("aiokafka")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        return await _measure(runtime)
    finally:
        log.setLevel(level)


async def _measure(runtime: Runtime) -> list[Skew]:
    answers = await asyncio.gather(
        *(_bounded(ask(runtime)) for ask in (_of_cluster, _of_registry, _of_valkey))
    )
    return sorted((skew for skews in answers for skew in skews), key=lambda one: one.server == LOG)


def now_ms() -> int:
    """Return the wall clock, epoch ms UTC."""
    return time.time_ns() // 1_000_000


async def _bounded(asking: Awaitable[list[Skew]]) -> list[Skew]:
    try:
        return await asyncio.wait_for(asking, ANSWER_SEC)
    except (TimeoutError, Fatal, Recoverable, OSError):
        return []


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


async def _of_cluster(runtime: Runtime) -> list[Skew]:
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
        return []  # the client's word for a request that the broker does not know
    after_ms = now_ms()
    for _, partitions, _ in answer.topics:
        for _, error, leader, _, _, voters, _, _ in partitions:
            told = [ms for replica, _, _, ms, _ in voters if replica == leader and ms > 0]
            if not error and told:
                return [Skew(KAFKA, ahead_ms(before_ms, after_ms, told[0], told[0]))]
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
    # a candle of the past says nothing of the clock
    return [Skew(LOG, min(0, now_ms() - newest_ms))]


async def _of_registry(runtime: Runtime) -> list[Skew]:
    if not runtime.schema_registry_url:
        return []
    before_ms = now_ms()
    try:
        async with registry_of(runtime) as registry:
            date = await registry.date()
        first_ms = int(parsedate_to_datetime(date).timestamp() * SECOND_MS)
    except (aiohttp.ClientError, ValueError):
        return []
    last_ms = first_ms + SECOND_MS - 1
    return [Skew(REGISTRY, ahead_ms(before_ms, now_ms(), first_ms, last_ms))]


async def _of_valkey(runtime: Runtime) -> list[Skew]:
    return await asyncio.to_thread(_ask_valkey, runtime)


def _ask_valkey(runtime: Runtime) -> list[Skew]:
    try:
        with redis.Redis.from_url(
            runtime.valkey_url,
            socket_timeout=ANSWER_SEC,
            socket_connect_timeout=ANSWER_SEC,
            **connection_options(runtime),
        ) as client:
            client.ping()
            before_ms = now_ms()
            seconds, micros = client.time()
            told_ms = seconds * SECOND_MS + micros // SECOND_MS
            return [Skew(VALKEY, ahead_ms(before_ms, now_ms(), told_ms, told_ms))]
    except (redis.RedisError, ValueError):
        return []
