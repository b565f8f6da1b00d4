"""``manifold migrate`` on a real log: what is copied and derived there, and what is refused."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streams.config.runtime import Runtime
from streams.kafka.registry import open_codec, registry_of
from streams.records.codec import schema_id_of
from streams.records.kill_switch import KillSwitchCommand
from streams.records.topics import (
    CANDLES,
    CONTROL,
    DEAD_LETTERS,
    GATES,
    MANIFOLDS,
    SIGNALS,
    SUMMARIES,
    TOPICS,
    TRADES,
    WEIGHTS,
)
from streams.stack.kafka import KafkaBroker
from tests.support.deployment import LIVELY, READY, Deployment
from tests.support.migration import (
    elsewhere,
    ends_of,
    leave_gaps,
    produce,
    read_raw_of,
    require_copy,
    say,
    strange_records,
)
from tests.support.waiting import PATIENCE_S

pytestmark = pytest.mark.kafka

START_MS = 1_709_546_400_000
MARKET = ("feed", "synthetic", "--start", "2024-03-04T10:00", "--pairs", "EUR_USD,GBP_USD,USD_JPY")
BARS = 400
DERIVED = (SIGNALS, MANIFOLDS, TRADES, SUMMARIES, GATES, WEIGHTS)


@pytest.fixture(scope="module")
def lived(kafka: KafkaBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A market with changes of control, gaps and nonsense in it, derived and verified; all off."""
    made = Deployment(
        tmp_path_factory.mktemp("lived"),
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        TOPIC_PREFIX=f"t{uuid.uuid4().hex[:8]}.",
        TOPIC_PARTITIONS="3",
        **LIVELY,
    )
    try:
        leave_gaps(made, CONTROL, 3)
        assert made.run(*MARKET, "--bars", str(BARS // 2)).returncode == 0
        say(made, KillSwitchCommand(True))
        leave_gaps(made, CONTROL, 2)
        say(made, KillSwitchCommand(False, say(made, KillSwitchCommand(True)) + 1))
        changed = ("AUTO_DIRECTION_LOOKBACK=5", "EXIT_PNL_TARGET_PCT=0.05", "--reason", "a try")
        assert made.run("params", "set", "EUR_USD", *changed).returncode == 0
        strange_records(made, START_MS + BARS // 2 * 60_000)
        assert made.run(*MARKET, "--bars", str(BARS)).returncode == 0
        worker = made.start_worker()
        made.settle()
        made.require_verified()
        assert worker.stop() == 0
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def moved(lived: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """The same under another prefix, derived there by a worker."""
    prefix = f"n{uuid.uuid4().hex[:8]}."
    done = lived.run("migrate", "--to-prefix", prefix)
    assert done.returncode == 2
    assert "the kill switch is off" in done.stderr and "manifold kill on" in done.stderr
    say(lived, KillSwitchCommand(True))
    planned = migrated(lived, prefix, "--dry-run")
    assert not planned["complete"] and planned["next"] == []
    assert {one["copied"] for one in planned["topics"].values()} == {0}
    found = migrated(lived, prefix)
    assert found["complete"] and found["next"]
    for name, one in found["topics"].items():
        assert one["copied"] == one["records"] == planned["topics"][name]["records"] > 0
    made = elsewhere(lived, tmp_path_factory.mktemp("moved"), prefix)
    try:
        made.start_worker()
        made.settle()
        yield made
    finally:
        made.stop()


def migrated(lived: Deployment, prefix: str, *more: str) -> dict[str, Any]:
    done = lived.run("migrate", "--to-prefix", prefix, "--json", *more)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_every_fact_is_there_once_and_as_it_was(lived: Deployment, moved: Deployment) -> None:
    counts = require_copy(lived, moved)
    assert all(counts.values())
    offsets = [[raw.offset for raw in read_raw_of(each, CONTROL)[0]] for each in (lived, moved)]
    assert offsets[0] != offsets[1], "the offsets of ops.control were to differ in this test"


def test_what_is_derived_there_is_the_same_and_verifies(
    lived: Deployment, moved: Deployment
) -> None:
    moved.require_verified()
    for topic in DERIVED:
        before, after = (by_key(each, topic) for each in (lived, moved))
        assert before.keys() == after.keys() and before, topic
        for key, events in before.items():
            assert after[key] == events, (topic, key)
    letters = [
        sorted(letter.reason for letter in each.events(DEAD_LETTERS)) for each in (lived, moved)
    ]
    assert letters[0] == letters[1] and letters[0]


def by_key(deployment: Deployment, topic: str) -> dict[Any, list[Any]]:
    """Return the events of each instrument in order; what names offsets left out."""
    found: dict[Any, list[Any]] = {}
    for event in deployment.events(topic):
        if hasattr(event, "config_id"):
            plain = event._replace(control_offset=0)
            found.setdefault(getattr(event, "instrument", None), []).append(plain)
    return found


def test_the_same_command_again_compares_and_copies_nothing(
    lived: Deployment, moved: Deployment
) -> None:
    before = ends_of(moved.runtime)
    again = migrated(lived, moved.runtime.topic_prefix)
    assert again["complete"]
    assert all(
        (one["there"], one["copied"]) == (one["records"], 0) for one in again["topics"].values()
    )
    assert ends_of(moved.runtime) == before


def test_a_prefix_in_use_gets_nothing_more(lived: Deployment, moved: Deployment) -> None:
    produce(lived, CANDLES, (0, b"late", b"late", START_MS, None))
    before = ends_of(moved.runtime)
    done = lived.run("migrate", "--to-prefix", moved.runtime.topic_prefix)
    assert done.returncode == 2
    assert "in use" in done.stderr and "1 records" in done.stderr
    assert ends_of(moved.runtime) == before


def test_a_prefix_with_other_content_is_refused(
    lived: Deployment, topic_prefix: str, tmp_path: Path
) -> None:
    other = elsewhere(lived, tmp_path, topic_prefix)
    produce(other, CANDLES, (1, b"EUR_USD", b"\x07another", START_MS, None))
    done = lived.run("migrate", "--to-prefix", topic_prefix)
    assert done.returncode == 2, done.stdout
    assert f"{topic_prefix}md.candles-1 at offset 0 is no copy" in done.stderr
    # one record too many is found as well, when everything else is right
    produce(other, CONTROL, (0, b"audit", b"\x07another", START_MS, None))
    done = lived.run("migrate", "--to-prefix", topic_prefix)
    assert done.returncode == 2 and "is no copy" in done.stderr


def test_topics_that_would_lose_records_are_refused(lived: Deployment, topic_prefix: str) -> None:
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": lived.runtime.kafka_bootstrap_servers})
    name = f"{topic_prefix}{CANDLES}"
    short = NewTopic(name, 3, 1, config={"retention.ms": "604800000"})
    admin.create_topics([short])[name].result()
    done = lived.run("migrate", "--to-prefix", topic_prefix)
    assert done.returncode == 2 and "retention.ms" in done.stderr
    other = NewTopic(f"{topic_prefix}2.{CANDLES}", 4, 1)
    admin.create_topics([other])[f"{topic_prefix}2.{CANDLES}"].result()
    done = lived.run("migrate", "--to-prefix", f"{topic_prefix}2.")
    assert done.returncode == 2 and "partitions is 4, not 3" in done.stderr


def test_a_prefix_without_a_deployment_is_said(lived: Deployment, topic_prefix: str) -> None:
    done = lived.run("migrate", "--to-prefix", "x.", TOPIC_PREFIX=topic_prefix)
    assert done.returncode == 2
    assert f"there is no topic {topic_prefix}md.candles" in done.stderr
    done = lived.run("migrate", "--to-prefix", "x.", TOPIC_PARTITIONS="12")
    assert done.returncode == 2
    assert (
        "md.candles has 3 partitions, the copy would have 12: set TOPIC_PARTITIONS=3" in done.stderr
    )


def test_a_worker_that_runs_is_named_and_nothing_is_touched(
    lived: Deployment, topic_prefix: str
) -> None:
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    admin = AdminClient({"bootstrap.servers": lived.runtime.kafka_bootstrap_servers})
    group = lived.runtime.application

    def has_joined() -> bool:
        # until it is ready it may be too busy for heartbeats, and leaves the group again
        if READY not in worker.child.log.read_text():
            return False
        try:
            return bool(admin.describe_consumer_groups([group])[group].result().members)
        except KafkaException:
            return False  # the group is not there before its first member

    worker = lived.start_worker("worker-1")
    try:
        assert lived.keep_running(PATIENCE_S, has_joined)
        done = lived.run("migrate", "--to-prefix", topic_prefix)
        assert done.returncode == 2, done.stderr
        assert f"consumer group {lived.runtime.application}" in done.stderr
    finally:
        assert worker.stop() == 0
    other = Runtime.from_env(lived.environment | {"TOPIC_PREFIX": topic_prefix})
    assert ends_of(other) == 0


@pytest.mark.registry
def test_the_schemas_are_registered_under_the_new_subjects_and_ids_are_theirs(
    kafka: KafkaBroker, registry: Any, topic_prefix: str, tmp_path: Path
) -> None:
    made = Deployment(
        tmp_path,
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        SCHEMA_REGISTRY_URL=registry.url,
        TOPIC_PREFIX=topic_prefix,
        TOPIC_PARTITIONS="2",
    )
    assert made.run(*MARKET, "--bars", "20").returncode == 0
    prefix = f"n{topic_prefix}"
    assert not migrated(made, prefix, "--dry-run")["complete"]
    assert registered(made, prefix) == []
    found = migrated(made, prefix)
    assert found["topics"][CANDLES]["copied"] > 0
    assert len(registered(made, prefix)) > len(TOPICS)
    moved = elsewhere(made, tmp_path, prefix)
    codec = asyncio.run(open_codec(moved.runtime))
    for topic in (CANDLES, CONTROL):
        for records in read_raw_of(moved, topic).values():
            for raw in records:
                event = codec.decode(topic, raw.value)
                known = codec.schema_id(topic, type(event).__name__)
                assert schema_id_of(raw.value) == known
    assert migrated(made, prefix)["topics"][CANDLES]["copied"] == 0


def registered(deployment: Deployment, prefix: str) -> list[str]:
    async def asked() -> list[str]:
        async with registry_of(deployment.runtime) as client:
            return [name for name in await client.subjects() if name.startswith(prefix)]

    return asyncio.run(asked())


def test_the_embedded_broker_is_refused(embedded_broker: Any, tmp_path: Path) -> None:
    made = Deployment(
        tmp_path, KAFKA_BOOTSTRAP_SERVERS=embedded_broker.bootstrap, TOPIC_PREFIX="e."
    )
    done = made.run("migrate", "--to-prefix", "f.")
    assert done.returncode == 2 and "embedded broker" in done.stderr
