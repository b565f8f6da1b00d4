"""Check by trial whether a Kafka cluster supports everything this program needs.

Two temporary topics are created and deleted again. In the first, one transaction is aborted and one
committed and read back with read_committed, and a second producer with the same transactional id
fences the first, as a worker that takes over does. The second topic uses LogAppendTime and shows
the difference between the clocks.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError as AioKafkaError
from aiokafka.protocol.admin import ApiVersionRequest
from confluent_kafka import (
    TIMESTAMP_LOG_APPEND_TIME,
    Consumer,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    ConfigResource,
    NewTopic,
    ResourceType,
)

from streams.checks import Finding
from streams.config.runtime import Runtime
from streams.errors import Fatal, Recoverable
from streams.kafka.broker_version import known_against, metadata_levels, release_of
from streams.kafka.client import SILENT, aiokafka_config, confluent_config
from streams.kafka.delivery import Delivery
from streams.kafka.error_kinds import ErrorKind, error_kind
from streams.kafka.errors import translate_error
from streams.kafka.registry import registry_of
from streams.kafka.topics_admin import TIMEOUT_SEC, Cluster, drifts
from streams.process.clock_skew import ADVICE, MAX_SKEW_MS, ahead_ms, length
from streams.records.schemas import released
from streams.records.topics import TOPICS, subject

NEEDED_APIS: Final[dict[int, tuple[str, int]]] = {
    0: ("Produce", 3),
    1: ("Fetch", 4),
    2: ("ListOffsets", 2),
    9: ("OffsetFetch", 7),
    11: ("JoinGroup", 5),
    19: ("CreateTopics", 0),
    22: ("InitProducerId", 3),
    24: ("AddPartitionsToTxn", 0),
    25: ("AddOffsetsToTxn", 0),
    26: ("EndTxn", 0),
    28: ("TxnOffsetCommit", 3),
    32: ("DescribeConfigs", 0),
}
"""API key -> (name, minimum version), for transactions, stable offsets and static members."""

_PRODUCE_OF_KAFKA: Final = ((13, "4.1"), (12, "4.0"), (11, "3.8"), (10, "3.7"), (9, "2.8"))
_FENCED_SEC: Final = 5.0
_OLD_STAMP_MS: Final = 1_400_000_000_000


async def check_cluster(runtime: Runtime) -> list[Finding]:
    """Check everything a deployment needs from its cluster.

    Raises
    ------
    Fatal
        The login is refused or a setting is invalid.
    Recoverable
        No broker answers, or the registry does not.
    """
    cluster = Cluster(runtime)
    found = await _check_broker(runtime, cluster)
    found += _check_sessions(runtime, cluster)
    found += _check_by_trial(runtime, cluster)
    if runtime.schema_registry_url:
        found.append(await check_registry(runtime))
    drifting = drifts(runtime, cluster)
    found += [Finding("topics", "fail", drift.sentence) for drift in drifting]
    if not drifting:
        found.append(Finding("topics", "ok", "all as in the table"))
    return found


async def _check_broker(runtime: Runtime, cluster: Cluster) -> list[Finding]:
    versions, releases = await api_versions(runtime)
    produce = versions.get(0, 0)
    age = next((f"as Kafka {v} or later" for n, v in _PRODUCE_OF_KAFKA if produce >= n), "old")
    meta = cluster.metadata
    plural = "s" if len(meta.brokers) != 1 else ""
    kind = f"Kafka {' and '.join(releases)}" if releases else f"unnamed ({age})"
    against = [said for said in map(known_against, releases) if said]
    summary = (
        f"{len(meta.brokers)} broker{plural}, {kind}, cluster {meta.cluster_id}, "
        f"speaks Produce {produce}, Fetch {versions.get(1, 0)}"
    )
    found = [Finding("broker", "warn" if against else "ok", "; ".join([summary, *against]))]
    lacking = [
        f"{name} {least}"
        for key, (name, least) in NEEDED_APIS.items()
        if versions.get(key, -1) < least
    ]
    if lacking:
        detail = f"the broker lacks {', '.join(lacking)}; use Apache Kafka 2.8 or later"
        return [*found, Finding("apis", "fail", detail)]
    return [*found, Finding("apis", "ok", "every request the product makes is supported")]


async def api_versions(runtime: Runtime) -> tuple[dict[int, int], list[str]]:
    """Return API key -> highest version of one broker, and the Kafka releases in the cluster.

    Without releases when the brokers do not report them.

    Raises
    ------
    Recoverable
        No broker answers.
    """
    client: Any = AIOKafkaClient(**aiokafka_config(runtime))  # type: ignore[no-untyped-call]
    try:
        await client.bootstrap()
        node = min(broker.nodeId for broker in client.cluster.brokers())
        answer = await client.send(node, ApiVersionRequest())
        levels = await metadata_levels(client, TIMEOUT_SEC)
    except AioKafkaError as error:
        raise Recoverable(
            f"no broker answers at {runtime.kafka_bootstrap_servers}: {error}"
        ) from error
    finally:
        await client.close()
    releases = {release for level in levels.values() if (release := release_of(level))}
    return {key: highest for key, _, highest in answer.api_versions}, sorted(releases)


def _check_sessions(runtime: Runtime, cluster: Cluster) -> list[Finding]:
    node = min(cluster.metadata.brokers)
    resource = ConfigResource(ResourceType.BROKER, str(node))
    try:
        futures = cluster.client.describe_configs([resource], request_timeout=TIMEOUT_SEC)
        limits = {k: e.value for k, e in cluster.result(futures[resource]).items()}
    except (Fatal, Recoverable) as error:
        return [Finding("sessions", "ok", f"not reported by the broker ({error})")]
    least, most = (limits.get(f"group.{bound}.session.timeout.ms") for bound in ("min", "max"))
    return [session_finding(runtime.session_timeout_sec, least, most)]


def session_finding(session_sec: float, least_ms: str | None, most_ms: str | None) -> Finding:
    """Return whether the broker accepts this session timeout; unknown bounds are not checked."""
    session_ms = int(session_sec * 1000)
    least, most = int(least_ms or 0), int(most_ms or session_ms)
    said = f"SESSION_TIMEOUT_SEC={session_sec:g}"
    if least <= session_ms <= most:
        return Finding("sessions", "ok", said)
    detail = f"{said} is outside the broker's {least}..{most} ms; set it inside"
    return Finding("sessions", "fail", detail)


def _check_by_trial(runtime: Runtime, cluster: Cluster) -> list[Finding]:
    try:
        with _trial_topic(runtime, cluster, "CreateTime") as topic:
            found = _check_transactions(runtime, topic)
        with _trial_topic(runtime, cluster, "LogAppendTime") as topic:
            return [*found, _check_clock(runtime, topic)]
    except _NoTrial as error:
        detail = f"no topic can be created to try them on ({error})"
        return [Finding("transactions", "fail", detail)]
    except KafkaException as error:
        raise translate_error(runtime.kafka_bootstrap_servers, error) from error


class _NoTrial(Exception):
    pass


@contextmanager
def _trial_topic(runtime: Runtime, cluster: Cluster, stamps: str) -> Iterator[str]:
    name = f"{runtime.application}-check-{secrets.token_hex(6)}"
    config = {"message.timestamp.type": stamps, "retention.ms": "-1"}
    new = NewTopic(name, 1, runtime.topic_replication_factor, config=config)
    made = cluster.client.create_topics([new], operation_timeout=TIMEOUT_SEC)
    try:
        cluster.result(made[name])
    except Fatal as error:
        raise _NoTrial(str(error)) from error
    try:
        yield name
    finally:
        gone = cluster.client.delete_topics([name], operation_timeout=TIMEOUT_SEC)
        cluster.result(gone[name])


def _producer(runtime: Runtime, transactional_id: str) -> Producer:
    return Producer(
        confluent_config(runtime)
        | {
            "transactional.id": transactional_id,
            "transaction.timeout.ms": int(runtime.transaction_timeout_sec * 1000),
            **SILENT,  # fencing is the purpose of this trial: do not log it
            "error_cb": [].append,
        }
    )


def _check_transactions(runtime: Runtime, topic: str) -> list[Finding]:
    producer = _producer(runtime, topic)
    try:
        producer.init_transactions(TIMEOUT_SEC)
        for value, finish in (
            (b"aborted", producer.abort_transaction),
            (b"committed", producer.commit_transaction),
        ):
            producer.begin_transaction()
            producer.produce(topic, value, partition=0, timestamp=_OLD_STAMP_MS)
            producer.flush(TIMEOUT_SEC)
            finish(TIMEOUT_SEC)
    except KafkaException as error:
        said = error.args[0].str()
        detail = f"a transaction fails: {said}; use a broker with transactions"
        return [Finding("transactions", "fail", detail)]
    found = [Finding("transactions", "ok", "one aborted, one committed")]
    found.append(_check_fencing(runtime, producer, topic))
    return found + _check_what_is_read(_read_all(runtime, topic))


def _check_fencing(runtime: Runtime, former: Producer, topic: str) -> Finding:
    former.begin_transaction()
    former.produce(topic, b"fenced", partition=0, timestamp=_OLD_STAMP_MS)
    former.flush(TIMEOUT_SEC)
    _producer(runtime, topic).init_transactions(TIMEOUT_SEC)
    try:
        former.commit_transaction(_FENCED_SEC)
    except KafkaException as error:
        cause = error.args[0]
        if error_kind(cause) is ErrorKind.FENCED:
            return Finding("fencing", "ok", "a worker that was replaced cannot commit")
        return Finding("fencing", "fail", f"a replaced worker gets another error: {cause.str()}")
    detail = "a replaced worker can still commit: duplicates are possible when workers change"
    return Finding("fencing", "fail", detail)


def _read_all(runtime: Runtime, topic: str) -> list[Message]:
    consumer = Consumer(
        confluent_config(runtime)
        | {
            "group.id": topic,
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
    )
    consumer.assign([TopicPartition(topic, 0, 0)])
    deadline = time.monotonic() + TIMEOUT_SEC
    read: list[Message] = []
    try:
        while time.monotonic() < deadline:
            message = consumer.poll(1.0)
            if message is None:
                continue
            if message.error():
                break
            read.append(message)
    finally:
        consumer.close()
    return read


def _check_what_is_read(read: list[Message]) -> list[Finding]:
    values = [message.value() or b"" for message in read]
    if values == [b"committed"]:
        found = [Finding("read_committed", "ok", "exactly the committed record is read")]
    else:
        shown = ", ".join(value.decode(errors="replace") for value in values) or "nothing"
        detail = f"a read_committed reader gets: {shown}; duplicates are possible after a failure"
        found = [Finding("read_committed", "fail", detail)]
    stamps = {message.timestamp()[1] for message in read}
    if stamps <= {_OLD_STAMP_MS}:
        return [*found, Finding("timestamps", "ok", "a record keeps the timestamp it is given")]
    detail = f"a record stamped {_OLD_STAMP_MS} comes back as {sorted(stamps)}"
    return [*found, Finding("timestamps", "fail", detail)]


def _check_clock(runtime: Runtime, topic: str) -> Finding:
    stamped: list[tuple[int, int]] = []
    producer = Producer(confluent_config(runtime) | {"linger.ms": 0, "error_cb": [].append})
    before = after = 0
    for _ in range(2):  # the first record also opens the connection
        before = time.time_ns() // 1_000_000
        delivery = Delivery()
        producer.produce(topic, b"clock", partition=0, on_delivery=delivery.report)
        producer.flush(TIMEOUT_SEC)
        stamped += [delivery.delivered.timestamp()] if delivery.delivered is not None else []
        after = time.time_ns() // 1_000_000
    if not stamped or stamped[-1][0] != TIMESTAMP_LOG_APPEND_TIME:
        return Finding("clock", "ok", "the broker does not report its time")
    skew_ms = ahead_ms(before, after, stamped[-1][1], stamped[-1][1])
    if abs(skew_ms) <= MAX_SKEW_MS:
        return Finding("clock", "ok", f"at most {abs(skew_ms) + after - before} ms apart")
    way = "ahead of" if skew_ms > 0 else "behind"
    detail = f"this machine's clock is {length(skew_ms)} {way} the broker's; {ADVICE}"
    return Finding("clock", "fail", detail)


async def check_registry(runtime: Runtime) -> Finding:
    missing: list[str] = []
    async with registry_of(runtime) as registry:
        for topic in TOPICS.values():
            for record in topic.records:
                name = subject(topic.name, record, runtime.topic_prefix)
                for one in released()[record]:
                    if await registry.lookup(name, one.text) is not None:
                        continue
                    reason = await registry.incompatible_because(name, one.text)
                    if reason is not None:
                        return Finding(
                            "registry", "fail", f"{name} holds other schemas {reason}".strip()
                        )
                    missing.append(name)
    if not missing:
        return Finding("registry", "ok", "every schema is registered")
    detail = f"{len(missing)} schemas will be registered by the first program that starts"
    return Finding("registry", "ok", detail)


def cluster_findings_json(found: list[Finding]) -> dict[str, Any]:
    """Return the findings as ``manifold topics check --json`` prints them."""
    findings = [
        {"name": f.name, "ok": f.ok, "detail": f.detail, "warning": f.state == "warn"}
        for f in found
    ]
    return {"ok": all(f.ok for f in found), "findings": findings}
