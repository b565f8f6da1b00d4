"""A migration that is killed, frozen, overtaken, or has the old log grow under it."""

from __future__ import annotations

import json
import os
import random
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.config.runtime import Runtime
from streams.records.kill_switch import KillSwitchCommand
from streams.records.topics import CANDLES, CONTROL
from streams.stack.kafka import KafkaBroker
from tests.support.deployment import Deployment
from tests.support.migration import (
    EndsWatch,
    Migrating,
    elsewhere,
    leave_gaps,
    produce,
    read_raw,
    require_copy,
    say,
    strange_records,
)

pytestmark = pytest.mark.kafka

KILLS = int(os.environ.get("MANIFOLD_FAULT_KILLS", "5"))
PAIRS = "EUR_USD,GBP_USD,USD_JPY,NZD_USD"
MARKET = ("feed", "synthetic", "--start", "2024-03-04T10:00", "--pairs", PAIRS, "--bars", "700")
START_MS = 1_709_546_400_000
LEAST = 3_000
"""Offsets that the facts take; a target in which all of them are copied has about as many."""


@pytest.fixture(scope="module")
def lived(kafka: KafkaBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A log of facts alone: a market, and a kill switch that was engaged and cleared many times."""
    made = Deployment(
        tmp_path_factory.mktemp("lived"),
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        TOPIC_PREFIX=f"t{uuid.uuid4().hex[:8]}.",
        TOPIC_PARTITIONS="3",
    )
    leave_gaps(made, CONTROL, 4)
    for _ in range(20):
        say(made, KillSwitchCommand(False, say(made, KillSwitchCommand(True)) + 1))
    assert made.run(*MARKET).returncode == 0
    say(made, KillSwitchCommand(True))
    strange_records(made, START_MS)
    yield made
    made.stop()


@pytest.fixture
def watch(lived: Deployment, topic_prefix: str) -> Iterator[EndsWatch]:
    """The topics under the new prefix."""
    made = EndsWatch(Runtime.from_env(lived.environment | {"TOPIC_PREFIX": topic_prefix}))
    yield made
    made.close()


def tails(lived: Deployment, prefix: str) -> dict[str, list[tuple[int, int]]]:
    """Return the last offsets and times of the old and the new partitions of md.candles."""
    found = {}
    for each in (lived.runtime.topic_prefix, prefix):
        raw = read_raw(lived.runtime.kafka_bootstrap_servers, f"{each}{CANDLES}")
        for number, records in raw.items():
            found[f"{each}{number}: {len(records)}"] = [
                (r.offset, r.timestamp_ms) for r in records[-60:]
            ]
    return found


def completed(lived: Deployment, prefix: str, directory: Path) -> None:
    """Assert that the copy is complete, and that the same command again finds that."""
    require_copy(lived, elsewhere(lived, directory, prefix))
    code, said, errors = Migrating(lived, prefix).ended()
    assert code == 0, errors
    assert all(one["copied"] == 0 for one in json.loads(said)["topics"].values())


def test_killed_at_any_instant_it_goes_on_and_copies_nothing_twice(
    lived: Deployment, topic_prefix: str, tmp_path: Path, watch: EndsWatch
) -> None:
    chance = random.Random(11)
    kills, reached = 0, []
    while True:
        one = Migrating(lived, topic_prefix)
        if kills < KILLS:
            if kills % 3 == 2:  # at any instant of the start too
                end = time.monotonic() + chance.uniform(0.0, 4.0)
                one.until(lambda end=end: time.monotonic() >= end)
            else:
                goal = watch.offsets() + chance.randrange(LEAST // KILLS)
                one.until(lambda goal=goal: watch.offsets() > goal)
            if one.running:
                one.signal(signal.SIGKILL)
                kills += 1
                reached.append(watch.offsets())
                one.ended()
                continue
        code, said, errors = one.ended()
        assert code == 0, (errors, tails(lived, topic_prefix))
        break
    assert kills >= KILLS // 2, "it was complete before it was killed often"
    assert len({at for at in reached if 0 < at < LEAST}) >= KILLS // 3, reached
    assert json.loads(said)["complete"]
    completed(lived, topic_prefix, tmp_path)


def test_one_that_was_frozen_is_fenced_by_the_next(
    lived: Deployment, topic_prefix: str, tmp_path: Path, watch: EndsWatch
) -> None:
    frozen = Migrating(lived, topic_prefix)
    frozen.until(lambda: watch.offsets() > LEAST // 3)
    frozen.signal(signal.SIGSTOP)
    code, _, errors = Migrating(lived, topic_prefix).ended()
    assert code == 0, errors
    frozen.signal(signal.SIGCONT)
    code, said, errors = frozen.ended()
    assert code != 0, said
    assert "another manifold migrate to this prefix has taken over" in errors
    completed(lived, topic_prefix, tmp_path)


def test_what_is_written_under_the_old_prefix_meanwhile_is_found_and_copied_by_the_next(
    lived: Deployment, topic_prefix: str, tmp_path: Path, watch: EndsWatch
) -> None:
    one = Migrating(lived, topic_prefix)
    one.until(lambda: watch.offsets() > LEAST // 3)
    one.signal(signal.SIGSTOP)
    produce(lived, CANDLES, (0, b"EUR_USD", b"\x07from a load", START_MS, None))
    one.signal(signal.SIGCONT)
    code, _, errors = one.ended()
    assert code == 75, errors
    assert f"{lived.runtime.topic(CANDLES)}-0 has grown" in errors
    code, said, errors = Migrating(lived, topic_prefix).ended()
    assert code == 0, errors
    assert json.loads(said)["topics"][CANDLES]["copied"] == 1
    completed(lived, topic_prefix, tmp_path)


def test_a_kill_switch_that_is_cleared_meanwhile_is_found(
    lived: Deployment, topic_prefix: str, watch: EndsWatch
) -> None:
    one = Migrating(lived, topic_prefix)
    one.until(lambda: watch.offsets() > LEAST // 3)
    one.signal(signal.SIGSTOP)
    say(lived, KillSwitchCommand(False))
    one.signal(signal.SIGCONT)
    code, _, errors = one.ended()
    assert code == 75 and "has grown" in errors, errors
    code, _, errors = Migrating(lived, topic_prefix).ended()
    say(lived, KillSwitchCommand(True))
    assert code == 2 and "the kill switch is off" in errors
