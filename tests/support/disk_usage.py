"""Bytes of the broker's disk for a candle, over all topics, measured on a real Apache Kafka.

``python -m tests.support.disk_usage`` prints the table of ``docs/sizing.md``: a candle as it comes
live, a bar at a time, which has a transaction in every partition for every bar, and in a catch-up,
where many candles share one.
"""

from __future__ import annotations

import re
import sys
import tempfile
import uuid
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from streams.config.runtime import DEFAULT_PAIRS
from streams.feeds.synthetic import MarketRates, synthetic_market
from streams.kafka.reader import LogReader
from streams.records.topics import TOPICS, WEIGHTS
from streams.stack.kafka import QUICK_JVM, KafkaBroker
from streams.stack.valkey import ValkeyServer
from tests.support.deployment import LIVELY, Deployment
from tests.support.trading import BarByBar
from tests.support.waiting import until

START_MS = 1_709_546_400_000  # Monday 2024-03-04 10:00 UTC: London is open
CHANGELOGS, INTERNAL = "changelogs (compacted)", "broker's internal topics (compacted)"


class Usage(NamedTuple):
    """Bytes of a candle by topic, live and in a catch-up."""

    live: dict[str, float]
    catch_up: dict[str, float]

    def kept(self, which: dict[str, float]) -> float:
        """Return the bytes that stay: those of every topic that is never compacted."""
        return sum(size for topic, size in which.items() if topic in TOPICS)


def bytes_of(broker: KafkaBroker, prefix: str, application: str) -> Counter[str]:
    """Return what every topic of a deployment takes on the broker's disk."""
    found: Counter[str] = Counter()
    for segment in (broker.directory / "data").glob("*/*.log"):
        topic = re.sub(r"-\d+$", "", segment.parent.name)
        if topic.startswith(f"{application}-"):
            name = CHANGELOGS
        elif topic.startswith(prefix):
            name = topic.removeprefix(prefix)
        elif topic in ("__consumer_offsets", "__transaction_state"):
            name = INTERNAL
        else:
            continue
        found[name] += segment.stat().st_size
    return found


def measure(
    broker: KafkaBroker, valkey_url: str, directory: Path, history: int, bars: int
) -> Usage:
    """Return what a candle of the default pairs and partitions takes.

    Parameters
    ----------
    history
        Bars that are there before the worker starts.
    bars
        Bars that come one by one then.
    """
    prefix = f"t{uuid.uuid4().hex[:8]}."
    deployment = Deployment(
        directory, KAFKA_BOOTSTRAP_SERVERS=broker.bootstrap, TOPIC_PREFIX=prefix,
        VALKEY_URL=valkey_url, **LIVELY,
    )  # fmt: skip
    runtime = deployment.runtime
    application = runtime.application

    def read() -> Counter[str]:
        return bytes_of(broker, prefix, application)

    market = synthetic_market(1, DEFAULT_PAIRS, START_MS, None, rates=MarketRates(20, 2, 2))
    feed, before = BarByBar(deployment, market, START_MS), read()
    candles = sum(len(feed.next().candles) for _ in range(history))
    try:
        deployment.start_worker()
        with LogReader(runtime) as reader:

            def epochs() -> int:
                return int(reader.bounds(WEIGHTS, 0)[1])

            deployment.settle()
            middle = read()
            caught = {topic: (middle[topic] - before[topic]) / candles for topic in middle}
            candles = 0
            for _ in range(bars):
                known = epochs()
                candles += len(feed.next().candles)
                until(lambda known=known: epochs() > known, deployment.last_output)
            deployment.settle()
        after = read()
        return Usage({t: (after[t] - middle[t]) / candles for t in after}, caught)
    finally:
        deployment.stop()


def table(usage: Usage) -> str:
    """Return the table of the docs."""
    lines = ["| topic | live, bytes per candle | catch-up, bytes per candle |", "|---|---|---|"]
    names = [name for name in TOPICS if usage.live.get(name, 0) or usage.catch_up.get(name, 0)]
    for name in names:
        lines.append(f"| `{name}` | {usage.live[name]:,.0f} | {usage.catch_up.get(name, 0):,.0f} |")
    live, caught = usage.kept(usage.live), usage.kept(usage.catch_up)
    lines.append(f"| **all topics** | **{live:,.0f}** | **{caught:,.0f}** |")
    for name in (CHANGELOGS, INTERNAL):
        lines.append(f"| {name} | {usage.live[name]:,.0f} | {usage.catch_up.get(name, 0):,.0f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    place = Path(tempfile.mkdtemp(prefix="manifold-disk-"))
    broker, valkey = KafkaBroker(place / "kafka", jvm=QUICK_JVM), ValkeyServer(place / "valkey")
    broker.start()
    valkey.start()
    try:
        sys.stdout.write(table(measure(broker, valkey.url, place, 600, 300)) + "\n")
    finally:
        valkey.stop()
        broker.stop()


if __name__ == "__main__":
    main()
