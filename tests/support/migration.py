"""What the tests of a migration share: logs with everything in them, read without the product."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from streams.config.runtime import Runtime
from streams.kafka.control_topic import append_control
from streams.records.events import Control, Watermark
from streams.records.kill_switch import KillSwitchCommand
from streams.records.topics import CANDLES, CONTROL, FILLS, ORDERS
from tests.support.deployment import Deployment
from tests.support.sample_events import SAMPLES
from tests.support.waiting import PATIENCE_S

FACTS = (CANDLES, CONTROL, ORDERS, FILLS)
NO_LEADER_YET = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_PARTITION,
)


class Raw(NamedTuple):
    """A committed record, byte for byte."""

    offset: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    headers: tuple[tuple[str, bytes | None], ...]


def read_raw(bootstrap: str, topic: str) -> dict[int, list[Raw]]:
    """Return the committed records of a topic by its full name, by partition."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "the test's own",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
        }
    )
    try:
        numbers = list(consumer.list_topics(topic, 30).topics[topic].partitions)
        consumer.assign([TopicPartition(topic, number, 0) for number in numbers])
        found: dict[int, list[Raw]] = {number: [] for number in numbers}
        left, end = set(numbers), time.monotonic() + PATIENCE_S
        while left:
            assert time.monotonic() < end, f"{topic}: {left} cannot be read"
            for m in consumer.consume(5_000, 0.2):
                error = m.error()
                if error is None:
                    headers = tuple(m.headers() or ())
                    raw = Raw(m.offset(), m.key(), m.value(), m.timestamp()[1], headers)
                    found[m.partition()].append(raw)
                elif error.code() == KafkaError._PARTITION_EOF:
                    left.discard(m.partition())
        return found
    finally:
        consumer.close()


class EndsWatch:
    """How many offsets topics have; 0 for those that do not exist."""

    def __init__(self, runtime: Runtime, topics: tuple[str, ...] = FACTS) -> None:
        self._names = [runtime.topic(topic) for topic in topics]
        servers = runtime.kafka_bootstrap_servers
        self._consumer = Consumer({"bootstrap.servers": servers, "group.id": "the test's own"})

    def offsets(self) -> int:
        """Return how many there are now; a topic that was just made has no leader for a moment."""
        listed = self._consumer.list_topics(timeout=30).topics
        asked = [
            TopicPartition(name, number)
            for name in self._names
            if name in listed
            for number in listed[name].partitions
        ]
        return sum(map(self._end, asked))

    def _end(self, at: TopicPartition) -> int:
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                return int(self._consumer.get_watermark_offsets(at, 30)[1])
            except KafkaException as error:
                if error.args[0].code() not in NO_LEADER_YET or time.monotonic() > end:
                    raise
            time.sleep(0.05)

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()


def ends_of(runtime: Runtime) -> int:
    """Return how many offsets the topics of facts have."""
    watch = EndsWatch(runtime)
    try:
        return watch.offsets()
    finally:
        watch.close()


def produce(deployment: Deployment, topic: str, *records: tuple[Any, ...]) -> None:
    """Write raw records (partition, key, value, time, headers)."""
    producer = Producer({"bootstrap.servers": deployment.runtime.kafka_bootstrap_servers})
    for partition, key, value, at_ms, headers in records:
        producer.produce(
            deployment.runtime.topic(topic), value, key,
            partition=partition, timestamp=at_ms, headers=headers,
        )  # fmt: skip
    assert producer.flush(30) == 0


def leave_gaps(deployment: Deployment, topic: str, records: int) -> None:
    """Abort a transaction in a topic: its records and its marker take offsets for ever."""
    name = deployment.runtime.topic(topic)
    producer = Producer(
        {
            "bootstrap.servers": deployment.runtime.kafka_bootstrap_servers,
            "transactional.id": f"{name}-gaps",
        }
    )
    producer.init_transactions(30)
    producer.begin_transaction()
    for _ in range(records):
        producer.produce(name, b"aborted", b"kill_switch", partition=0)
    assert producer.flush(30) == 0
    producer.abort_transaction(30)


def say(deployment: Deployment, word: KillSwitchCommand) -> int:
    """Say a word of the kill switch in the log; return its offset."""
    now_ms = int(time.time() * 1000)
    record = Control("kill_switch", None, word.to_json(), "ops", "a test", now_ms)
    return append_control(deployment.runtime, deployment.codec, [record])[0]


def strange_records(deployment: Deployment, at_ms: int) -> None:
    """Write what is no event: it is carried over as it is, and refused there as here."""
    produce(
        deployment,
        CANDLES,
        (0, b"EUR_USD", None, at_ms, None),
        (1, None, b"", at_ms, None),
        (
            1,
            b"\xff\x00",
            b"\x07garbage",
            at_ms,
            [("empty", None), ("twice", b"1"), ("twice", b"2")],
        ),
        (2, b"EUR_USD", b"\0" + (9_999).to_bytes(4, "big") + b"of a later version", at_ms, None),
    )
    codec = deployment.codec
    for topic, name in ((ORDERS, "OrderIntent"), (FILLS, "BrokerReport")):
        control_offset = len(read_raw_of(deployment, CONTROL)[0])
        for number in range(3):
            event: Any = SAMPLES[name]
            stamped = event._replace(control_offset=control_offset + number - 2)
            value = codec.encode(topic, stamped)
            headers = [("config_id", b"x"), ("engine", b"qfh-0.0.0")]
            produce(deployment, topic, (number, b"EUR_USD", value, at_ms + number, headers))


def read_raw_of(deployment: Deployment, topic: str) -> dict[int, list[Raw]]:
    """Return the committed records of a deployment's topic."""
    runtime = deployment.runtime
    return read_raw(runtime.kafka_bootstrap_servers, runtime.topic(topic))


def require_copy(old: Deployment, new: Deployment) -> dict[str, int]:
    """Assert that the facts of ``new`` are those of ``old``; return the records of each topic.

    Keys, time stamps, headers and order are the same; so are values, but for the offsets of
    ops.control in them, before which the same control records lie.
    """
    control = [read_raw_of(each, CONTROL)[0] for each in (old, new)]
    lying = [[raw.offset for raw in records] for records in control]
    counts = {}
    for topic in FACTS:
        before, after = read_raw_of(old, topic), read_raw_of(new, topic)
        assert before.keys() == after.keys()
        for number, records in before.items():
            copied = after[number]
            assert len(copied) == len(records), f"{topic}-{number}"
            for one, two in zip(records, copied, strict=True):
                assert (one.key, *one[3:]) == (two.key, *two[3:]), f"{topic}-{number} {one}"
                if one.value != two.value:
                    _require_same_event(old, topic, one.value, two.value, lying)
        counts[topic] = sum(map(len, before.values()))
    return counts


def _require_same_event(
    old: Deployment, topic: str, one: bytes | None, two: bytes | None, lying: list[list[int]]
) -> None:
    first: Any = old.codec.decode(topic, one)
    second: Any = old.codec.decode(topic, two)
    if topic == CONTROL:
        words = [KillSwitchCommand.from_json(event.value) for event in (first, second)]
        offsets = [word.read_to for word in words]
        assert first._replace(value="") == second._replace(value="")
        assert words[0]._replace(read_to=0) == words[1]._replace(read_to=0)
    else:
        assert isinstance(first, Watermark) or topic != CANDLES
        offsets = [first.control_offset, second.control_offset]
        assert first._replace(control_offset=0) == second._replace(control_offset=0)
    known = [sum(at < end for at in records) for end, records in zip(offsets, lying, strict=True)]
    assert known[0] == known[1], (topic, offsets)


class Migrating:
    """``manifold migrate`` as a process of its own, in small transactions."""

    def __init__(self, deployment: Deployment, to_prefix: str, batch: int = 50) -> None:
        program = (
            f"import streams.migration.copy as c; c.BATCH = {batch}\n"
            "from streams.cli import main\n"
            f"main(['migrate', '--to-prefix', {to_prefix!r}, '--json'])"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", program],
            env=deployment.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def until(self, ready: Callable[[], bool]) -> None:
        """Wait until something is so, or it has ended."""
        end = time.monotonic() + PATIENCE_S
        while self.running and not ready():
            assert time.monotonic() < end
            time.sleep(0.002)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        os.kill(self.process.pid, number)

    def ended(self) -> tuple[int, str, str]:
        """Wait for its end; return exit code, output and errors."""
        said, errors = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, said, errors


def elsewhere(deployment: Deployment, directory: Path, prefix: str) -> Deployment:
    """Return the deployment under another prefix; its topics are there, or are made."""
    return Deployment(directory, **deployment.environment | {"TOPIC_PREFIX": prefix})
