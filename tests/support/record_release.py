"""Record the log of a release: ``tests/support/released``, for ``test_released_log.py``.

Run at a release, with a checkout of it that has its own virtual environment::

    python -m tests.support.record_release --python RELEASE/.venv/bin/python

A broker is started, the release loads a seeded synthetic market of two pairs and derives it, and
everything it has left on the broker is written to ``tests/support/released``. Only the commands of
the release are used, none of its modules.

The clock of all processes is moved to ``RECORDED_AT``: a broker refuses records from its future,
and the tests are also run at past dates.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    ConfigResource,
    ConfigSource,
    OffsetSpec,
    ResourceType,
)

from streams.errors import Fatal
from streams.feeds.synthetic import MarketRates, synthetic_market
from streams.process.child import Child
from streams.records.events import Candle
from streams.stack.kafka import QUICK_JVM, KafkaBroker
from tests.dates.wallclock import moved_by
from tests.support.candle_files import HEADER, csv_line
from tests.support.deployment import LIVELY
from tests.support.environment import kept_environment
from tests.support.migration import read_raw
from tests.support.released_log import CANDLES_FILE, FOLDER, RecordedTopic, ReleasedLog
from tests.support.transactional_ids import known_transactional_ids
from tests.support.waiting import until

RECORDED_AT: Final = datetime.fromisoformat("2024-01-12T12:00Z")
START: Final = datetime.fromisoformat("2024-01-10T07:00Z")
PAIRS: Final = ("EUR_USD", "USD_JPY")
SEED: Final = 7
BARS: Final = 300
LOADED: Final = (150, 210, 260)
"""The market is loaded up to these bars, one after the other; the rest is left to the test."""
SETTINGS: Final = {"TOPIC_PARTITIONS": "2"} | LIVELY
WORKER_ID: Final = "worker-1"


class Release:
    """The commands of a release.

    Parameters
    ----------
    python
        Its interpreter.
    directory
        Working directory, and where the worker's output goes.
    bootstrap
        The broker.
    """

    def __init__(self, python: Path, directory: Path, bootstrap: str) -> None:
        self._command = [str(python), "-m", "streams"]
        self._directory = directory
        self._environment = kept_environment() | SETTINGS
        self._environment |= {"KAFKA_BOOTSTRAP_SERVERS": bootstrap, "METRICS_PORT": "0"}

    def run(self, *arguments: str) -> str:
        """Run a command to its end; return what it prints."""
        done = subprocess.run(
            [*self._command, *arguments],
            env=self._environment,
            cwd=self._directory,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise Fatal(f"manifold {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def start_worker(self) -> Child:
        """Start the worker."""
        command = [*self._command, "worker", "--worker-id", WORKER_ID]
        log = self._directory / "worker.log"
        child = Child("the worker", command, log, env=self._environment, cwd=self._directory)
        child.start()
        return child

    def settle(self) -> None:
        """Wait until all candles are derived; twice, because stages follow each other."""
        for _ in range(2):
            until(self._caught_up, "the worker does not reach the end", every_s=0.5)

    def _caught_up(self) -> bool:
        lag = json.loads(self.run("status", "--json"))["lag"]
        return not any(n for name, n in lag.items() if name != "mirror")


def main() -> None:
    """Record the release that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.record_release")
    parser.add_argument("--python", type=Path, required=True, help="interpreter of the release")
    python: Path = parser.parse_args().python.absolute()
    if "WALLCLOCK_OFFSET_S" not in os.environ:
        offset_s = round(RECORDED_AT.timestamp() - time.time())
        os.execve(
            sys.executable,
            [sys.executable, "-m", "tests.support.record_release", "--python", str(python)],
            os.environ | moved_by(offset_s),
        )
    with tempfile.TemporaryDirectory(prefix="manifold-release-") as name:
        directory = Path(name)
        broker = KafkaBroker(directory / "kafka", jvm=QUICK_JVM)
        broker.start()
        try:
            release = Release(python, directory, broker.bootstrap)
            loaded = derive(release, directory)
            log = recorded(broker.bootstrap, release.run("--version").strip(), loaded)
        finally:
            broker.stop()
    FOLDER.mkdir(exist_ok=True)
    log.write()
    candles = market(BARS)
    with CANDLES_FILE.open("wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
        packed.write(csv_text(candles).encode())
    count = sum(map(len, log.records.values()))
    print(f"{log.version}: {count} records of {len(log.topics)} topics, {loaded} candles")


def market(bars: int) -> list[Candle]:
    """Return the candles of the first bars."""
    start_ms = round(START.timestamp() * 1000)
    rates = MarketRates(quiet=20, late=0, duplicate=0)
    found = synthetic_market(SEED, PAIRS, start_ms, bars, rates=rates)
    return [candle for bar in found for candle in bar.candles]


def csv_text(candles: Sequence[Candle]) -> str:
    """Return candles as CSV."""
    return "\n".join([HEADER, *map(csv_line, candles)]) + "\n"


def derive(release: Release, directory: Path) -> int:
    """Let the release load and derive the market; return how many candles are in the log."""
    release.run("topics", "create")
    worker = None
    try:
        for bars in LOADED:
            candles = market(bars)
            file = directory / "candles.csv"
            file.write_text(csv_text(candles), encoding="utf-8")
            release.run("load", str(file))
            # after the first load: each would write the first configuration
            worker = worker or release.start_worker()
            release.settle()
    finally:
        code = worker.stop() if worker else None
    if code != 0:
        raise Fatal(f"the worker ended with code {code}: {worker.last_words(8)}")
    release.run("verify")
    return len(candles)


def recorded(bootstrap: str, version: str, loaded: int) -> ReleasedLog:
    """Return what is on the broker."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    names = sorted(n for n in admin.list_topics(timeout=30).topics if not n.startswith("__"))
    topics = {name: recorded_topic(admin, name) for name in names}
    records = {
        (name, partition): found
        for name in names
        for partition, found in read_raw(bootstrap, name).items()
    }
    groups = {
        group.group_id: committed
        for group in admin.list_consumer_groups().result(30).valid
        if (committed := committed_by(admin, group.group_id))
    }
    ids = sorted(known_transactional_ids(bootstrap, ""))
    return ReleasedLog(version, SETTINGS, loaded, topics, groups, ids, records)


def recorded_topic(admin: AdminClient, name: str) -> RecordedTopic:
    """Return a topic's partitions, ends and configuration."""
    resource = ConfigResource(ResourceType.TOPIC, name)
    entries: dict[str, Any] = admin.describe_configs([resource])[resource].result(30)
    own = ConfigSource.DYNAMIC_TOPIC_CONFIG.value
    config = {key: entry.value for key, entry in entries.items() if entry.source == own}
    numbers = sorted(admin.list_topics(name, 30).topics[name].partitions)
    asked = {TopicPartition(name, number): OffsetSpec.latest() for number in numbers}
    ends = {at.partition: told.result(30).offset for at, told in admin.list_offsets(asked).items()}
    return RecordedTopic(config, [ends[number] for number in numbers])


def committed_by(admin: AdminClient, group: str) -> list[tuple[str, int, int]]:
    """Return topic, partition and committed offset of all partitions of a group."""
    asked = [ConsumerGroupTopicPartitions(group)]
    found = admin.list_consumer_group_offsets(asked)[group].result(30).topic_partitions
    return sorted((at.topic, at.partition, at.offset) for at in found if at.offset >= 0)


if __name__ == "__main__":
    main()
