"""The feed that follows OANDA: from the end of a bar at the venue to its candle in the log.

The venue is the test broker as a process, the feed is the command as it is run, the log is Kafka
with its data on disk; the candle counts when a reader of committed records has it. A bar lasts five
seconds here, so that there are enough of them; a bar ends at the first instant that is no longer
its own, which the tick that follows it can only come after.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import OFFSET_END, Consumer, TopicPartition

from streams.kafka.client import confluent_config
from streams.records.events import Candle
from streams.records.topics import CANDLES
from streams.stack.kafka import KafkaBroker
from tests.perf.rows import Row, at_rank, row
from tests.support.deployment import Deployment
from tests.support.oanda_venue import venue
from tests.support.v20 import V20Process
from tests.support.v20.amounts import parse_time

PAIRS = ("EUR_USD", "GBP_USD", "USD_JPY", "AUD_USD", "EUR_JPY", "USD_CAD", "NZD_USD", "USD_CHF")
SECONDS = 35.0
WARM_S = 10.0
SETTLES_MS = (500, 0)


def rows() -> list[Row]:
    """Measure and return the rows of the table."""
    found: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="manifold-bench-") as place:
        directory = Path(place)
        broker = KafkaBroker(directory / "kafka")
        broker.start()
        try:
            for settle_ms in SETTLES_MS:
                found += _measured(directory, broker, settle_ms)
        finally:
            broker.stop()
    return found


def _measured(directory: Path, broker: KafkaBroker, settle_ms: int) -> list[Row]:
    oanda = venue()
    try:
        deployment = Deployment(
            directory,
            KAFKA_BOOTSTRAP_SERVERS=broker.bootstrap,
            TOPIC_PREFIX=f"oanda{settle_ms}.",
            HOTBAND_PAIRS=",".join(PAIRS),
            CANDLE_GRAN="S5",
            CANDLE_COUNT="150",
            FEED_METRICS_PORT="0",
            FEED_SETTLE_MS=str(settle_ms),
            # a quiet bar must be settled well before the next ends, as with bars of a minute
            FEED_ABSENT_AFTER_SEC="1",
            **oanda.environment(),
        )
        with _following(deployment):
            latencies = _latencies(deployment, _ahead_s(oanda))
    finally:
        oanda.stop()
    name = f"end of the bar at the venue to the candle in the log, FEED_SETTLE_MS={settle_ms}"
    note = f"{len(PAIRS)} pairs, venue and Kafka on the same machine"
    measure = "read by a consumer of committed records - end of the bar, {} of {} candles"
    return [
        row(
            f"oanda.{settle_ms}.{key}",
            f"{name}: {key}",
            seconds * 1000,
            "ms",
            measure.format(what, len(latencies)),
            note=note,
        )
        for key, what, seconds in (
            ("p50", "median", at_rank(latencies, 0.5)),
            ("p95", "95th percentile", at_rank(latencies, 0.95)),
            ("worst", "slowest", max(latencies)),
        )
    ]


@contextmanager
def _following(deployment: Deployment) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, "-m", "streams", "feed", "oanda"],
        env=deployment.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield
    finally:
        process.terminate()
        _, said = process.communicate(timeout=30)
        if process.returncode != 0:
            raise RuntimeError(f"the feed ended with {process.returncode}: {said}")


def _ahead_s(oanda: V20Process) -> float:
    """Return how far the venue's clock is ahead of this machine's, by its quickest answer."""
    found = []
    for _ in range(20):
        asked = time.time()
        theirs = parse_time(oanda.state()["time"]) / 1e9
        took = time.time() - asked
        found.append((took, theirs - (asked + took / 2)))
    return min(found)[1]


def _latencies(deployment: Deployment, ahead_s: float) -> list[float]:
    settings = {"group.id": "bench", "isolation.level": "read_committed", "fetch.wait.max.ms": 5}
    consumer = Consumer(confluent_config(deployment.runtime) | settings)
    name = deployment.runtime.topic(CANDLES)
    partitions = range(deployment.runtime.topic_partitions)
    consumer.assign([TopicPartition(name, partition, OFFSET_END) for partition in partitions])
    begun, found = time.monotonic(), []
    while (passed := time.monotonic() - begun) < WARM_S + SECONDS:
        message = consumer.poll(0.1)
        if message is None or message.error() is not None or passed < WARM_S:
            continue
        at = time.time() + ahead_s
        event = deployment.codec.decode(CANDLES, message.value())
        if isinstance(event, Candle):
            found.append(at - event.as_of_ms / 1000)
    consumer.close()
    return found
