"""Processes of a counting worker, the topics they work on, and the check that nothing is wrong."""

from __future__ import annotations

import random
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic

from streams.config.runtime import Runtime
from streams.kafka.client import confluent_config
from streams.pipeline.worker.changelog import POSITION_ROW
from streams.process.child import Child
from streams.records.topics import SIGNALS
from tests.conftest import ROOT
from tests.faults.counting_app import STAGES, TOPICS_OF_CHAIN
from tests.support.environment import kept_environment
from tests.support.waiting import PATIENCE_S

LEFT_UNSAFE = 70


class Found(NamedTuple):
    """A record of the log."""

    partition: int
    offset: int
    key: bytes
    value: bytes


class Worker:
    """A worker process and what it noted."""

    def __init__(self, child: Child, marks: Path) -> None:
        self.child, self._marks = child, marks

    @property
    def marks(self) -> list[str]:
        """The notes of this process so far."""
        return self._marks.read_text().splitlines() if self._marks.exists() else []

    @property
    def frozen(self) -> bool:
        """Whether the process is stopped (SIGSTOP)."""
        stat = Path(f"/proc/{self.child.pid}/stat").read_text(encoding="utf-8")
        return stat.rpartition(")")[2].split()[0] == "T"

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.child.signal(number)

    def until_ready(self) -> None:
        """Wait until the partitions are taken over (or the process is gone)."""
        wait_for(
            lambda: "ready" in self.marks or not self.child.running,
            "the worker is not ready",
            self.child,
        )

    def ended(self) -> int:
        """Wait for the end of the process; return its exit code."""
        wait_for(lambda: not self.child.running, "the worker does not end", self.child)
        code = self.child.returncode
        assert code is not None
        return code


class Trial:
    """Topics of a counting chain, and the workers on it.

    Parameters
    ----------
    bootstrap, prefix
        The broker, and what makes the trial alone on it.
    directory
        Takes logs and notes.
    chain
        Number of stages.
    """

    def __init__(
        self, bootstrap: str, prefix: str, directory: Path, chain: int = 1, partitions: int = 4
    ) -> None:
        self.directory, self.chain, self.partitions = directory, chain, partitions
        self.environment = kept_environment()
        self.environment |= {
            "KAFKA_BOOTSTRAP_SERVERS": bootstrap,
            "TOPIC_PREFIX": prefix,
            "TOPIC_PARTITIONS": str(partitions),
            "SESSION_TIMEOUT_SEC": "3",
            "TRANSACTION_TIMEOUT_SEC": "5",
            "CHAIN": str(chain),
            "PYTHONPATH": str(ROOT),
        }
        self.runtime = Runtime.from_env(self.environment)
        self.workers: list[Worker] = []
        self._readers: dict[str, Consumer] = {}
        self.sent: Counter[tuple[int, bytes]] = Counter()
        client = confluent_config(self.runtime) | {"log_level": 0}
        self._admin = AdminClient(client)
        self._producer = Producer(client | {"linger.ms": 5})
        topics = [self.runtime.topic(name) for name in TOPICS_OF_CHAIN[: chain + 1]]
        changelogs = [self.changelog(number) for number in range(chain)]
        compact = {"cleanup.policy": "compact"}
        self.create([NewTopic(name, partitions, 1) for name in topics])
        self.create([NewTopic(name, partitions, 1, config=compact) for name in changelogs])

    def create(self, topics: Sequence[NewTopic]) -> None:
        """Create topics."""
        for made in self._admin.create_topics(list(topics)).values():
            made.result(20)

    def changelog(self, number: int = 0) -> str:
        """Return the changelog of a stage."""
        return self.runtime.changelog(STAGES[number])

    def topic(self, number: int = 0) -> str:
        """Return the full name of a topic of the chain; 0 is the source."""
        return self.runtime.topic(TOPICS_OF_CHAIN[number])

    def send(self, count: int, keys: int = 40) -> None:
        """Write records to the source; a key always goes to the same partition."""
        first = self.sent.total()
        for number in range(first, first + count):
            key = (number * 7) % keys
            partition, name = key % self.partitions, b"K%04d" % key
            self._producer.produce(self.topic(), b"1", name, partition=partition)
            self.sent[partition, name] += 1
            self._producer.poll(0)
        assert self._producer.flush(30) == 0

    def start(self, name: str = "a", app: str = "counting_app", **settings: str) -> Worker:
        """Start a worker process."""
        number = len(self.workers)
        marks = self.directory / f"{name}{number}.marks"
        child = Child(
            f"worker {name}",
            [sys.executable, "-m", f"tests.faults.{app}"],
            self.directory / f"{name}{number}.log",
            env=self.environment | {"WORKER_ID": name, "MARKS": str(marks)} | settings,
            cwd=self.directory,
        )
        child.start()
        self.workers.append(Worker(child, marks))
        return self.workers[-1]

    def stop(self) -> None:
        """End what still runs."""
        for worker in self.workers:
            if worker.child.running:
                worker.child.kill()
        for reader in self._readers.values():
            reader.close()

    def committed(self, number: int = 0) -> list[int]:
        """Return the committed source offsets of a stage, per partition."""
        asked = [TopicPartition(self.topic(number), p) for p in range(self.partitions)]
        group = ConsumerGroupTopicPartitions(self.runtime.application, asked)
        found = next(iter(self._admin.list_consumer_group_offsets([group]).values())).result(20)
        return [at.offset for at in found.topic_partitions]

    def commit(self, offsets: Mapping[int, int], number: int = 0) -> None:
        """Set committed source offsets of a stage from outside; waits until nobody works there."""
        at = [TopicPartition(self.topic(number), p, offset) for p, offset in offsets.items()]
        group = ConsumerGroupTopicPartitions(self.runtime.application, at)

        def set_them() -> bool:
            answer = next(iter(self._admin.alter_consumer_group_offsets([group]).values()))
            try:
                return all(p.error is None for p in answer.result(20).topic_partitions)
            except KafkaException:  # a static member is one until its session ends
                return False

        wait_for(set_them, "the group does not become empty")

    def forget_group(self) -> None:
        """Delete the group with its offsets, as a broker does with one that was idle for long."""

        def delete() -> bool:
            answer = self._admin.delete_consumer_groups([self.runtime.application])
            try:
                next(iter(answer.values())).result(20)
            except KafkaException:
                return False
            return True

        wait_for(delete, "the group does not become empty")

    def write_derived(self, partition: int, source: str, topic: str = SIGNALS) -> None:
        """Write a record to an output topic that says what it was derived from."""
        name, headers = self.runtime.topic(topic), [("source", source.encode())]
        self._producer.produce(name, b"x", b"x", partition=partition, headers=headers)
        assert self._producer.flush(30) == 0

    def leave_open(self, topic: str, partition: int) -> Producer:
        """Begin a transaction that nobody ends, and write a record into it."""
        producer = Producer(
            confluent_config(self.runtime)
            | {"transactional.id": f"{topic}-left-open", "transaction.timeout.ms": 600_000}
        )
        producer.init_transactions(20)
        producer.begin_transaction()
        producer.produce(topic, b"x", b"x", partition=partition)
        assert producer.flush(20) == 0
        return producer

    def read(self, topic: str, isolation: str = "read_committed") -> list[Found]:
        """Return the records of a topic, up to its end now."""
        consumer = self._reader(isolation)
        partitions = range(self.partitions)
        consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in partitions])
        left, found = set(partitions), []
        end = time.monotonic() + PATIENCE_S
        while left:
            assert time.monotonic() < end, f"{topic} cannot be read to its end"
            for message in consumer.consume(5_000, 0.1):
                error, partition = message.error(), message.partition()
                if error is None:
                    key, value = message.key(), message.value()
                    found.append(Found(partition, message.offset(), key, value))
                elif error.code() == KafkaError._PARTITION_EOF:
                    left.discard(partition)
        consumer.unassign()
        return found

    def _reader(self, isolation: str) -> Consumer:
        if isolation not in self._readers:
            self._readers[isolation] = Consumer(
                confluent_config(self.runtime)
                | {
                    "group.id": f"{self.runtime.topic_prefix}reader",
                    "enable.auto.commit": False,
                    "isolation.level": isolation,
                    "enable.partition.eof": True,
                    "fetch.wait.max.ms": 20,
                    "log_level": 0,
                }
            )
        return self._readers[isolation]

    def aborted(self) -> int:
        """Return how many derived records lie in the log that no committed reader sees."""
        derived = [self.topic(number) for number in range(1, self.chain + 1)]
        return sum(len(self.read(t, "read_uncommitted")) - len(self.read(t)) for t in derived)

    def finished(self) -> bool:
        """Return whether every record has been through the whole chain, or more than that."""
        return len(self.read(self.topic(self.chain))) >= self.sent.total()

    def wait_until_finished(self) -> None:
        """Wait for the end of the work; the last worker started has to do it."""
        wait_for(self.finished, "the work does not end", self.workers[-1].child)

    def require_exact(self) -> None:
        """Assert that every stage wrote once for every source record, its counts in order."""
        for number in range(self.chain):
            source = self.read(self.topic(number))
            outputs = self.read(self.topic(number + 1))
            where = f"stage {STAGES[number]}"
            wanted = Counter((found.partition, found.offset) for found in source)
            derived = Counter(coordinates(found) for found in outputs)
            lost, more = wanted - derived, derived - wanted
            assert not lost, f"{where}: {lost.total()} of {len(wanted)} lost: {sorted(lost)[:5]}"
            assert not more, f"{where}: {more.total()} too many: {sorted(more)[:5]}"
            assert counted(outputs) == {
                name: list(range(1, count + 1)) for name, count in self.sent.items()
            }, f"{where}: the counts of a key are not 1, 2, 3 and so on"
            rows = {(f.partition, f.key): int(f.value) for f in self.read(self.changelog(number))}
            positions = [rows.pop((p, POSITION_ROW), -1001) for p in range(self.partitions)]
            assert positions == self.committed(number), f"{where}: state and offset differ"
            assert rows == dict(self.sent), f"{where}: the changelog is not the state"


def coordinates(found: Found) -> tuple[int, int]:
    """Return partition and offset of the record that an output was made from."""
    partition, offset, _ = found.value.split(b":")
    return int(partition), int(offset)


def counted(outputs: Sequence[Found]) -> dict[tuple[int, bytes], list[int]]:
    """Return the counts of every key in the order of the log."""
    counts: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    for found in outputs:
        counts[found.partition, found.key].append(int(found.value.rpartition(b":")[2]))
    return dict(counts)


def wait_for(ready: Callable[[], Any], otherwise: str, child: Child | None = None) -> None:
    """Wait until ``ready``; the patience is long, no test asserts how long it takes."""
    end = time.monotonic() + PATIENCE_S
    while not ready():
        said = f": {child.last_output(8)}" if child is not None else ""
        assert time.monotonic() < end, otherwise + said
        assert child is None or child.returncode in (None, -signal.SIGKILL), f"it ended{said}"
        time.sleep(0.1)


def seeded(seed: int) -> random.Random:
    """Return a source of chance that is the same in every run."""
    return random.Random(seed)
