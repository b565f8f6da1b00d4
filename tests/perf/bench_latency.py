"""How soon weights follow the candle that closes their epoch, at the pace of a live market."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable

from confluent_kafka import Consumer, TopicPartition

from streams.config.settings import Config
from streams.feeds.plan import FeedPlan
from streams.feeds.synthetic import MarketRates, synthetic_market
from streams.feeds.writer import FactWriter
from streams.kafka.client import confluent_config
from streams.kafka.reader import LogReader
from streams.records.control import UniverseChange
from streams.records.events import Candle, Weights
from streams.records.topics import WEIGHTS
from tests.perf.bench_market import BAR_MS, START_MS, deployments, fill
from tests.perf.rows import Row, at_rank, row
from tests.support.deployment import Deployment

# every partition has a transaction of its own: more of them than cores get into each other's way
PARTITIONS = (2, 4)
PAIRS, BARS, WARM_UP_BARS, SPEED = 28, 40, 200, 20
# a broker that has just started runs its code uncompiled; one that is at work does not
QUICK_BARS, QUICK_S = 800, 0.05
BURST_S = 0.1


def rows() -> list[Row]:
    """Measure and return the rows of the table."""
    found = []
    with deployments() as (deploy, _):
        for partitions in PARTITIONS:
            found += _measured(deploy, partitions)
    return found


def _measured(deploy: Callable[..., Deployment], partitions: int) -> list[Row]:
    deployment = deploy(f"latency{partitions}", PAIRS, partitions)
    fill(deployment, WARM_UP_BARS)
    worker = deployment.start_worker()
    deployment.settle()
    took = _send_bursts(deployment)
    worker.stop()
    if len(took) != BARS:
        raise RuntimeError(f"{len(took)} epochs were measured, not {BARS}")
    name = (
        f"candle that closes an epoch to its weights, {PAIRS} instruments, {partitions} partitions"
    )
    measure = (
        "weights read by a consumer of committed records - candle handed to the producer, "
        f"{{}} of {BARS} epochs"
    )
    note = f"{SPEED}x, bursts at the minute; {QUICK_BARS:,} bars before that warm the broker up"
    return [
        row(
            f"latency.{partitions}.{key}",
            f"{name}: {key}",
            value * 1000,
            "ms",
            measure.format(what),
            note=note,
        )
        for key, what, value in (
            ("p50", "median", statistics.median(took)),
            ("p95", "95th percentile", at_rank(took, 0.95)),
            ("worst", "slowest", max(took)),
        )
    ]


def _send_bursts(deployment: Deployment) -> list[float]:
    """Write bars at the pace of a live market; return how long each epoch's weights took."""
    runtime, codec = deployment.runtime, deployment.codec
    names = sorted(runtime.hotband_pairs)
    chance = random.Random(1)
    writer = FactWriter(runtime, codec, Config(), int(time.time() * 1000))
    plan = FeedPlan(names, "M1", writer.partitions)
    first_ms = START_MS + WARM_UP_BARS * BAR_MS
    writer.declare(UniverseChange("replace", tuple(names), first_ms, None), "bench")
    market = synthetic_market(
        2,
        names,
        first_ms,
        QUICK_BARS + BARS,
        rates=MarketRates(quiet=20, late=0, duplicate=0),
    )
    consumer = _weights_consumer(deployment)
    writer.write(plan.opening(first_ms, writer.control.end))
    writer.flush()
    took, due = [], time.monotonic()
    for number, bar in enumerate(market):
        due += 60.0 / SPEED if number >= QUICK_BARS else QUICK_S
        time.sleep(max(0.0, due - time.monotonic()))
        facts = plan.bar(bar.as_of_ms, bar.candles, writer.control.end)
        last = max(i for i, fact in enumerate(facts) if isinstance(fact.event, Candle))
        for fact in facts[:last]:
            writer.write([fact])
            time.sleep(chance.random() * 2 * BURST_S / len(facts) if number >= QUICK_BARS else 0)
        writer.flush()
        closed_at = time.monotonic()
        writer.write(facts[last:])
        writer.flush()
        took.append(_epoch_seen(deployment, consumer, bar.as_of_ms) - closed_at)
    consumer.close()
    return took[QUICK_BARS:]


def _weights_consumer(deployment: Deployment) -> Consumer:
    with LogReader(deployment.runtime) as reader:
        end = reader.bounds(WEIGHTS, 0)[1]
    consumer = Consumer(
        confluent_config(deployment.runtime)
        | {"group.id": "bench", "isolation.level": "read_committed", "fetch.wait.max.ms": 100}
    )
    consumer.assign([TopicPartition(deployment.runtime.topic(WEIGHTS), 0, end)])
    return consumer


def _epoch_seen(deployment: Deployment, consumer: Consumer, epoch_ms: int) -> float:
    give_up_at = time.monotonic() + 30
    while time.monotonic() < give_up_at:
        message = consumer.poll(1.0)
        if message is None or message.error():
            continue
        event = deployment.codec.decode(WEIGHTS, message.value())
        if isinstance(event, Weights) and event.epoch_ms == epoch_ms:
            return time.monotonic()
    raise RuntimeError(f"no weights of {epoch_ms}: {deployment.last_output()}")


if __name__ == "__main__":
    for measured in rows():
        print(measured)
