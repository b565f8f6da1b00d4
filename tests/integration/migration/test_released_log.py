"""The log and state that a release has written are taken over by this version.

``tests/support/released`` holds them; its README says of which release, and how they were recorded.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from confluent_kafka import KafkaException, Producer

from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.kafka.committed import committed_offsets
from streams.kafka.ends import Ends, partition_ends
from streams.kafka.error_kinds import ErrorKind, error_kind
from streams.kafka.topics_admin import Drift, create_topics, drifts
from streams.kafka.transactions import transactional_producer
from streams.records.topics import (
    CANDLES,
    CONTROL,
    DEAD_LETTERS,
    GATES,
    MANIFOLDS,
    SIGNALS,
    STAGE_SOURCES,
    SUMMARIES,
    TRADES,
    WEIGHTS,
)
from streams.stack.kafka import KafkaBroker
from tests.support.deployment import READY, Deployment
from tests.support.migration import Raw, read_raw
from tests.support.released_log import CANDLES_FILE, ReleasedLog, read_released_log
from tests.support.transactional_ids import known_transactional_ids
from tests.support.waiting import PATIENCE_S

pytestmark = pytest.mark.kafka

DERIVED = (SIGNALS, MANIFOLDS, TRADES, SUMMARIES, GATES, WEIGHTS)
PARTS_OF_INSTALLATION = ("tzdata_version", "market_holidays_version")
"""Settings that name tables of the installation; no other version of them is followed."""

AllEnds = dict[tuple[str, int], Ends]


class TakenOver(NamedTuple):
    """A deployment of this version on the log of a release, and what was seen on the way.

    Attributes
    ----------
    deployment
        All candles are loaded and derived; the worker has ended.
    topics
        Full name -> what ``create_topics`` answered before anything was started.
    drift
        Differences between the topics of the release and those of this version, at that time.
    settings_changed
        Settings that were set because this installation has other tables than the release.
    ends_before, ends_ready
        Ends of all partitions before the worker was started, and when it was ready.
    loaded
        What ``load --json`` of the whole market printed.
    workers_of_release
        Transactional id -> a producer that had it before the worker was started.
    """

    released: ReleasedLog
    deployment: Deployment
    topics: dict[str, str]
    drift: list[Drift]
    settings_changed: dict[str, str]
    ends_before: AllEnds
    ends_ready: AllEnds
    loaded: dict[str, int]
    workers_of_release: dict[str, Producer]

    @property
    def runtime(self) -> Runtime:
        """Addresses and names of the deployment."""
        return self.deployment.runtime

    def records(self, topic: str) -> dict[int, list[Raw]]:
        """Return the committed records of a topic, by partition."""
        return read_raw(self.runtime.kafka_bootstrap_servers, self.runtime.topic(topic))

    def new_records(self, topic: str) -> list[Raw]:
        """Return the committed records that the release has not written."""
        ends = self.released.topics[topic].ends
        found = self.records(topic).items()
        return [raw for number, raws in found for raw in raws if raw.offset >= ends[number]]


@pytest.fixture(scope="module")
def taken_over(kafka: KafkaBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TakenOver]:
    released = read_released_log()
    settings = released.settings | {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
        "TOPIC_PREFIX": f"t{uuid.uuid4().hex[:8]}.",
    }
    runtime = Runtime.from_env(settings)
    released.restore(runtime)
    topics, drift = create_topics(runtime), drifts(runtime)
    deployment = Deployment(tmp_path_factory.mktemp("released"), **settings)
    predecessors = {
        name: transactional_producer(runtime, f"{runtime.topic_prefix}{name}")
        for name in released.transactional_ids
    }
    try:
        changed = set_parts_of_installation(deployment, released)
        before = all_ends(runtime, released)
        worker = deployment.start_worker()
        log = worker.child.log
        assert deployment.keep_running(
            PATIENCE_S, lambda: READY in log.read_text("utf-8", "replace")
        ), deployment.last_words()
        ready = all_ends(runtime, released)
        done = deployment.run("load", str(CANDLES_FILE), "--json")
        assert done.returncode == 0, done.stderr
        deployment.settle()
        assert worker.stop() == 0, worker.child.last_words(8)
        assert worker.restarts == 0, deployment.last_words()
    finally:
        deployment.stop()
    loaded = json.loads(done.stdout)
    yield TakenOver(
        released, deployment, topics, drift, changed, before, ready, loaded, predecessors
    )


def set_parts_of_installation(deployment: Deployment, released: ReleasedLog) -> dict[str, str]:
    """Do what a process asks for that finds other tables installed than the log names.

    With the tables of the release nothing is done.
    """
    recorded, installed = recorded_config(deployment, released), Config()
    changed = {
        name.upper(): getattr(installed, name)
        for name in PARTS_OF_INSTALLATION
        if getattr(installed, name) != getattr(recorded, name)
    }
    if changed:
        settings = [f"{name}={value}" for name, value in changed.items()]
        done = deployment.run("config", "set", *settings, "--reason", "another installation")
        assert done.returncode == 0, done.stderr
    return changed


def recorded_config(deployment: Deployment, released: ReleasedLog) -> Config:
    """Return the configuration that the release has written."""
    control = (deployment.codec.decode(CONTROL, r.value) for r in released.records[CONTROL, 0])
    (text,) = [event.value for event in control if event.kind == "config"]
    return Config.from_json(text)


def all_ends(runtime: Runtime, released: ReleasedLog) -> AllEnds:
    """Return the ends of all partitions of the release's topics."""
    return partition_ends(
        runtime,
        [
            (runtime.topic(name), number)
            for name, topic in released.topics.items()
            for number in range(len(topic.ends))
        ],
    )


def source_of(raw: Raw) -> tuple[str, int, int]:
    """Return topic, partition and offset of the record that a record was derived from."""
    source = dict(raw.headers)["source"]
    assert source is not None
    topic, partition, offset = source.decode().rsplit("-", 2)
    return topic, int(partition), int(offset)


def test_the_topics_of_the_release_are_those_of_this_version(taken_over: TakenOver) -> None:
    assert set(taken_over.topics.values()) == {"exists"}, taken_over.topics
    assert taken_over.drift == []
    names = {taken_over.runtime.topic(name) for name in taken_over.released.topics}
    assert taken_over.topics.keys() == names


def test_every_record_of_the_release_keeps_its_offset_and_its_bytes(taken_over: TakenOver) -> None:
    for name, topic in taken_over.released.topics.items():
        for number, raws in taken_over.records(name).items():
            kept = [raw for raw in raws if raw.offset < topic.ends[number]]
            assert kept == taken_over.released.records.get((name, number), []), (name, number)


def test_the_worker_writes_nothing_before_new_candles_arrive(taken_over: TakenOver) -> None:
    recorded = {
        (taken_over.runtime.topic(name), number): Ends(end, end)
        for name, topic in taken_over.released.topics.items()
        for number, end in enumerate(topic.ends)
        if name != CONTROL  # may have got the settings of this installation
    }
    for ends in (taken_over.ends_before, taken_over.ends_ready):
        assert {place: ends[place] for place in recorded} == recorded


def test_only_candles_that_the_release_has_not_had_are_derived(taken_over: TakenOver) -> None:
    read = {
        (topic, partition): offset
        for topic, partition, offset in taken_over.released.groups[taken_over.runtime.app_id]
    }
    assert taken_over.loaded["already_there"] == taken_over.released.loaded
    assert taken_over.loaded["written"] > 50
    for name in DERIVED:
        new = taken_over.new_records(name)
        assert new, f"nothing new in {name}"
        for raw in new:
            topic, partition, offset = source_of(raw)
            assert offset >= read[topic, partition], f"{name}: derived again from {raw.headers}"
    taken_over.deployment.require_exact()


def test_verify_derives_what_both_versions_have_written(taken_over: TakenOver) -> None:
    done = taken_over.deployment.run("verify", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["passed"]
    assert set(report["unprocessed"].values()) == {0}
    for name in DERIVED:
        count = sum(map(len, taken_over.records(name).values()))
        assert report["topics"][name]["compared"] == count, name
    assert taken_over.deployment.events(DEAD_LETTERS) == []


def test_the_configuration_of_the_release_stays_the_active_one(taken_over: TakenOver) -> None:
    deployment, changed = taken_over.deployment, taken_over.settings_changed
    new = [deployment.codec.decode(CONTROL, raw.value) for raw in taken_over.new_records(CONTROL)]
    kinds = [event.kind for event in new]
    # the universe is what load writes whenever it writes candles
    assert kinds == (["config"] if changed else []) + ["universe"]
    recorded = recorded_config(deployment, taken_over.released)
    active = Config.from_json(new[0].value) if changed else recorded
    stamped = {
        dict(raw.headers)["config_id"] for name in DERIVED for raw in taken_over.new_records(name)
    }
    assert stamped == {active.config_id.encode()}
    assert active == Config.from_env(deployment.environment)
    assert (active.config_id == recorded.config_id) == (not changed)


def test_the_group_of_the_release_goes_on(taken_over: TakenOver) -> None:
    runtime = taken_over.runtime
    assert list(taken_over.released.groups) == [runtime.app_id]
    ends = all_ends(runtime, taken_over.released)
    for topic, number, offset in taken_over.released.groups[runtime.app_id]:
        now = committed_offsets(runtime, topic, [number])[number]
        assert offset < now <= ends[runtime.topic(topic), number].stable
    topics = {topic for topic, _, _ in taken_over.released.groups[runtime.app_id]}
    assert topics == set(STAGE_SOURCES.values())


def test_a_worker_of_the_release_that_still_runs_is_fenced(taken_over: TakenOver) -> None:
    runtime, released = taken_over.runtime, taken_over.released
    known = known_transactional_ids(runtime.kafka_bootstrap_servers, runtime.topic_prefix)
    expected = {f"{runtime.topic_prefix}{name}" for name in released.transactional_ids}
    assert known == expected
    for name, producer in taken_over.workers_of_release.items():
        with pytest.raises(KafkaException) as raised:
            producer.begin_transaction()
            producer.produce(runtime.topic(CANDLES), b"x", partition=0, timestamp=1)
            producer.commit_transaction(30)
        assert error_kind(raised.value.args[0]) is ErrorKind.FENCED, name
