"""Creating and checking topics on a real broker: every drift is named, nothing is left behind."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

import pytest
from confluent_kafka.admin import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from streams.config.runtime import Runtime
from streams.errors import Fatal
from streams.kafka.cluster_check import check_cluster
from streams.kafka.topics_admin import (
    ActualTopic,
    Cluster,
    create_topics,
    drifts,
    expected_topics,
    require_topics,
)
from tests.support.waiting import PATIENCE_S, until

PARTITIONS = 3


def runtime_of(bootstrap: str, prefix: str, **more: str) -> Runtime:
    return Runtime.from_env(
        {
            "KAFKA_BOOTSTRAP_SERVERS": bootstrap,
            "TOPIC_PREFIX": prefix,
            "TOPIC_PARTITIONS": str(PARTITIONS),
            **more,
        }
    )


@pytest.fixture
def runtime(kafka: Any, topic_prefix: str) -> Runtime:
    return runtime_of(kafka.bootstrap, topic_prefix)


def set_config(cluster: Cluster, topic: str, key: str, value: str) -> None:
    entry = ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    for future in cluster.client.incremental_alter_configs([resource]).values():
        future.result(timeout=PATIENCE_S)


def make_topic(cluster: Cluster, name: str, partitions: int) -> None:
    for future in cluster.client.create_topics([NewTopic(name, partitions, 1)]).values():
        future.result(timeout=PATIENCE_S)

    def listed() -> bool:
        found = cluster.actual([name])
        return name in found and found[name].partitions == partitions

    until(listed, f"{name} is not listed")


def manifold(runtime: Runtime, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {
        **os.environ,
        "KAFKA_BOOTSTRAP_SERVERS": runtime.kafka_bootstrap_servers,
        "TOPIC_PREFIX": runtime.topic_prefix,
        "TOPIC_PARTITIONS": str(runtime.topic_partitions),
        "SCHEMA_REGISTRY_URL": "",
    }
    command = [sys.executable, "-m", "streams", "topics", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=PATIENCE_S)


@pytest.mark.kafka
def test_topics_are_created_once_and_as_the_table_says(runtime: Runtime) -> None:
    wanted = [topic.name for topic in expected_topics(runtime)]
    assert create_topics(runtime) == dict.fromkeys(wanted, "created")
    assert create_topics(runtime) == dict.fromkeys(wanted, "exists")
    assert drifts(runtime) == []
    require_topics(runtime)


@pytest.mark.kafka
def test_every_drift_is_named(runtime: Runtime) -> None:
    cluster = Cluster(runtime)
    candles, gates = runtime.topic("md.candles"), runtime.topic("opt.gates")
    make_topic(cluster, candles, PARTITIONS + 1)
    make_topic(cluster, gates, 1)
    set_config(cluster, gates, "message.timestamp.type", "LogAppendTime")
    found = drifts(runtime, cluster)
    named = {(drift.topic, drift.aspect) for drift in found}
    default = {"retention.ms", "segment.ms"}  # what a broker's defaults get wrong
    assert named >= {(candles, "partitions"), (gates, "message.timestamp.type")}
    assert named >= {(topic, key) for topic in (candles, gates) for key in default}
    assert sum(drift.aspect == "missing" for drift in found) == len(expected_topics(runtime)) - 2


@pytest.mark.kafka
def test_another_partition_count_is_fatal_with_the_way_out(runtime: Runtime) -> None:
    cluster = Cluster(runtime)
    make_topic(cluster, runtime.topic("sep.signals"), PARTITIONS + 1)
    with pytest.raises(Fatal, match=r"sep\.signals: partitions is 4, not 3; .*new TOPIC_PREFIX"):
        create_topics(runtime, cluster)
    assert set(cluster.actual(t.name for t in expected_topics(runtime))) == {
        runtime.topic("sep.signals")
    }


@pytest.mark.kafka
def test_another_partition_count_is_found_although_the_broker_did_not_list_the_topic_yet(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster(runtime)
    make_topic(cluster, runtime.topic("sep.signals"), PARTITIONS + 1)
    listings: list[dict[str, ActualTopic]] = [{}]

    def actual(names: Iterable[str]) -> dict[str, ActualTopic]:
        return listings.pop() if listings else Cluster.actual(cluster, names)

    monkeypatch.setattr(cluster, "actual", actual)
    with pytest.raises(Fatal, match=r"sep\.signals: partitions is 4, not 3; .*new TOPIC_PREFIX"):
        create_topics(runtime, cluster)


@pytest.mark.kafka
def test_missing_topics_are_fatal_for_a_program_that_needs_them(runtime: Runtime) -> None:
    with pytest.raises(Fatal, match=r"md\.candles.*; run manifold topics create"):
        require_topics(runtime)


@pytest.mark.kafka
async def test_the_cluster_is_tried_out_and_nothing_is_left(runtime: Runtime) -> None:
    create_topics(runtime)
    found = {finding.name: finding for finding in await check_cluster(runtime)}
    assert [f.detail for f in found.values() if not f.ok] == []
    assert set(found) == {
        "broker", "apis", "sessions", "transactions", "fencing", "read_committed", "timestamps",
        "clock", "topics",
    }  # fmt: skip
    there = {t for t in Cluster(runtime).metadata.topics if t.startswith(runtime.topic_prefix)}
    assert there == {topic.name for topic in expected_topics(runtime)}


@pytest.mark.kafka
async def test_a_release_that_loses_commit_markers_is_a_warning(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_topics(runtime)
    broker = (await check_cluster(runtime))[0]
    assert broker.state == "ok"
    assert "Kafka 4.2," in broker.detail

    async def levels(client: object, answer_sec: float) -> dict[int, int | None]:
        return {1: 29, 2: 33}

    monkeypatch.setattr("streams.kafka.cluster_check.metadata_levels", levels)
    broker = (await check_cluster(runtime))[0]
    assert broker.state == "warn"
    assert "Kafka 4.2 and 4.4" in broker.detail
    assert "Kafka 4.4 skips the commit markers" in broker.detail


@pytest.mark.kafka
def test_the_commands_answer_with_exit_codes_and_json(runtime: Runtime) -> None:
    before = manifold(runtime, "check", "--json")
    assert before.returncode == 1
    missing = [f for f in json.loads(before.stdout)["findings"] if not f["ok"]]
    assert all(f["name"] == "topics" and "is missing" in f["detail"] for f in missing)
    created = manifold(runtime, "create", "--json")
    assert created.returncode == 0
    assert set(json.loads(created.stdout).values()) == {"created"}
    listed = json.loads(manifold(runtime, "list", "--json").stdout)
    assert all(row["exists"] for row in listed)
    assert manifold(runtime, "check").returncode == 0
    other = Runtime.from_env(
        {
            "KAFKA_BOOTSTRAP_SERVERS": runtime.kafka_bootstrap_servers,
            "TOPIC_PREFIX": runtime.topic_prefix,
            "TOPIC_PARTITIONS": "7",
        }
    )
    refused = manifold(other, "create")
    assert refused.returncode == 2
    assert refused.stderr.startswith("manifold: ")
    assert refused.stderr.count("\n") == 1


def test_no_broker_is_one_sentence(topic_prefix: str) -> None:
    answer = manifold(runtime_of("127.0.0.1:1", topic_prefix), "list")
    assert answer.returncode == 75
    assert "KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:1" in answer.stderr
    assert answer.stderr.count("\n") == 1


@pytest.mark.embedded
async def test_the_embedded_broker_drifts_in_nothing_it_does_not_tell(
    embedded_broker: Any, topic_prefix: str
) -> None:
    runtime = runtime_of(embedded_broker.bootstrap, topic_prefix)
    create_topics(runtime)
    assert drifts(runtime) == []
    found = {finding.name: finding.ok for finding in await check_cluster(runtime)}
    assert found["transactions"]
    assert not found["read_committed"]
