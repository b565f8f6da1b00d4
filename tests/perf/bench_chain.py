"""The live chain on a real Kafka: rate, catch-up, latency, next to a plain Faust agent."""

from __future__ import annotations

import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from streams.connection import confluent_config
from streams.control import UniverseChange
from streams.events import Candle, Weights
from streams.feed.live import run_feed
from streams.feed.plan import FeedPlan
from streams.feed.synthetic import MarketRates, synthetic_market
from streams.feed.writer import FactWriter
from streams.replay.log_reader import LogReader
from streams.settings import Config
from streams.stack.child import Child
from streams.stack.kafka import KafkaBroker
from streams.stack.valkey import ValkeyServer
from streams.topics import SIGNALS, WEIGHTS
from tests.deployment import Deployment
from tests.environment import kept_environment

Row = dict[str, Any]
START_MS = 1_709_510_400_000  # Monday 2024-03-04 00:00 UTC
BAR_MS = 60_000
PAIRS = 8
BARS = 6_000
# every partition has a transaction of its own: more of them than cores get into each other's way
LATENCY_PARTITIONS = (2, 4)
LATENCY_PAIRS, LATENCY_BARS, WARM_UP_BARS, SPEED = 28, 40, 200, 20
# a broker that has just started runs its code uncompiled; one that is at work does not
QUICK_BARS, QUICK_S = 1_000, 0.05
BURST_S = 0.1
ROOT = Path(__file__).resolve().parents[2]


def rows() -> list[Row]:
    """Measure and return the rows of the table."""
    with tempfile.TemporaryDirectory(prefix="manifold-bench-") as place:
        directory = Path(place)
        broker = KafkaBroker(directory / "kafka")
        broker.start()
        valkey = ValkeyServer(directory / "valkey")
        valkey.start()
        try:
            deploy = _deployer(directory, broker, valkey)
            latency = [row for count in LATENCY_PARTITIONS for row in _latency(deploy, count)]
            return [*_rates(deploy, directory), *latency, *_demo(directory)]
        finally:
            valkey.stop()
            broker.stop()


def _deployer(
    directory: Path, broker: KafkaBroker, valkey: ValkeyServer
) -> Callable[..., Deployment]:
    def deploy(name: str, pairs: int, partitions: int = 4) -> Deployment:
        return Deployment(
            directory,
            KAFKA_BOOTSTRAP_SERVERS=broker.bootstrap,
            VALKEY_URL=valkey.url,
            TOPIC_PREFIX=f"{name}.",
            TOPIC_PARTITIONS=str(partitions),
            HOTBAND_PAIRS=",".join(_names(pairs)),
        )

    return deploy


def _names(count: int) -> list[str]:
    return [f"P{chr(65 + i // 26)}{chr(65 + i % 26)}_USD" for i in range(count)]


def _fill(deployment: Deployment, bars: int) -> None:
    names = deployment.runtime.hotband_pairs
    market = synthetic_market(1, names, START_MS, bars, rates=MarketRates(0, 0, 0))
    now_ms = int(time.time() * 1000)
    run_feed(deployment.runtime, deployment.codec, Config(), names, "M1", market, "bench", now_ms)


def _rates(deploy: Callable[..., Deployment], directory: Path) -> list[Row]:
    deployment = deploy("rate", PAIRS)
    candles = PAIRS * BARS
    signals = PAIRS * (BARS - 128)
    plain = _plain_faust(deployment, directory, signals)
    ours = _signals_alone(deploy("alone", PAIRS), directory, signals)
    begun = time.monotonic()
    worker = deployment.start_worker()
    watched = {SIGNALS: signals, WEIGHTS: BARS}
    seen = _watch(deployment, watched, begun, 300.0)
    worker.stop()
    within = _middle_rate(seen[SIGNALS])
    chain = _middle_rate(seen[WEIGHTS]) * PAIRS
    ready = min(at for at, count in seen[SIGNALS] if count)
    done = seen[WEIGHTS][-1][0]
    return [
        {
            "name": "md.candles to sep.signals, the stage alone (two outputs, exactly once)",
            "value": ours,
            "unit": "candles/s",
            "ratios": {"plain Faust agent (one output, its defaults)": ours / plain},
        },
        {
            "name": "md.candles to sep.signals, with gates and weights in the same worker",
            "value": within,
            "unit": "candles/s",
            "ratios": {"plain Faust agent (one output, its defaults)": within / plain},
        },
        {"name": "plain Faust agent, candles/s", "value": plain, "unit": "1/s", "ratios": {}},
        {
            "name": "md.candles to risk.weights, all three stages in one worker",
            "value": chain,
            "unit": "candles/s",
            "ratios": {"plain Faust agent, signals alone": chain / plain},
        },
        {"name": "worker start to first signals", "value": ready, "unit": "s", "ratios": {}},
        {
            "name": f"catch-up of {candles:,} candles, start included",
            "value": done,
            "unit": "s",
            "ratios": {},
        },
    ]


Seen = dict[str, list[tuple[float, int]]]


def _watch(deployment: Deployment, wanted: dict[str, int], begun: float, seconds: float) -> Seen:
    """Return (seconds since begun, committed offsets) of each topic until all are there."""
    seen: Seen = {topic: [] for topic in wanted}
    with LogReader(deployment.runtime) as reader:
        partitions = {topic: reader.partitions(topic) for topic in wanted}
        while time.monotonic() - begun < seconds:
            for topic, numbers in partitions.items():
                found = reader.all_bounds(topic, numbers).values()
                count = sum(high - low for low, high in found)
                seen[topic].append((time.monotonic() - begun, count))
            if all(seen[topic][-1][1] >= count for topic, count in wanted.items()):
                return seen
            time.sleep(0.05)
    raise RuntimeError(f"not done after {seconds} s: {deployment.last_words()}")


def _middle_rate(seen: list[tuple[float, int]]) -> float:
    """Return offsets per second between a tenth and nine tenths: start and end left out."""
    total = seen[-1][1]
    first = next(one for one in seen if one[1] >= total * 0.1)
    last = next(one for one in seen if one[1] >= total * 0.9)
    return (last[1] - first[1]) / (last[0] - first[0])


def _signals_alone(deployment: Deployment, directory: Path, signals: int) -> float:
    """Return the rate of a worker that has one agent, as the plain one has."""
    _fill(deployment, BARS)
    child = Child(
        "the signals stage",
        [sys.executable, "-m", "tests.perf.signals_worker"],
        directory / "signals.log",
        env=deployment.environment,
        cwd=ROOT,
    )
    begun = time.monotonic()
    child.start()
    try:
        return _middle_rate(_watch(deployment, {SIGNALS: signals}, begun, 300.0)[SIGNALS])
    finally:
        child.kill()


def _plain_faust(deployment: Deployment, directory: Path, signals: int) -> float:
    runtime, output = deployment.runtime, "plain.signals"
    admin = AdminClient(confluent_config(runtime))
    for future in admin.create_topics([NewTopic(output, runtime.topic_partitions, 1)]).values():
        future.result()
    child = Child(
        "plain Faust",
        [sys.executable, "-m", "tests.perf.plain_faust", "worker", "-l", "info"],
        directory / "plain.log",
        env=deployment.environment
        | {"PLAIN_FAUST_OUTPUT": output, "PLAIN_FAUST_DATADIR": str(directory / "plain")},
        cwd=ROOT,
    )
    child.start()
    # what it fetches before its table is restored it never processes: candles come after that
    child.wait_until(lambda: b"Worker ready" in child.log.read_bytes(), 60.0)
    _fill(deployment, BARS)
    seen: list[tuple[float, int]] = []
    consumer = Consumer(confluent_config(runtime) | {"group.id": "bench"})
    begun = time.monotonic()
    try:
        while not seen or seen[-1][1] < signals * 0.95:
            ends = (
                consumer.get_watermark_offsets(TopicPartition(output, p), 10)
                for p in range(runtime.topic_partitions)
            )
            seen.append((time.monotonic() - begun, sum(end[1] for end in ends if end)))
            if time.monotonic() - begun > 300 or not child.running:
                raise RuntimeError(f"plain Faust: {seen[-1]} {child.last_words(20)}")
            time.sleep(0.05)
    finally:
        consumer.close()
        child.kill()
    return _middle_rate(seen)


def _latency(deploy: Callable[..., Deployment], partitions: int) -> list[Row]:
    deployment = deploy(f"latency{partitions}", LATENCY_PAIRS, partitions)
    _fill(deployment, WARM_UP_BARS)
    worker = deployment.start_worker()
    deployment.settle()
    sent = _send_bursts(deployment)
    worker.stop()
    found = sorted(sent)
    assert len(found) == LATENCY_BARS
    rank = min(len(found) - 1, int(len(found) * 0.99))
    note = f"candle to weights, {LATENCY_PAIRS} instruments, {SPEED}x, bursts, "
    note += f"{partitions} partitions"
    return [
        {
            "name": f"{note}: p50",
            "value": statistics.median(found) * 1000,
            "unit": "ms",
            "ratios": {},
        },
        {"name": f"{note}: p99", "value": found[rank] * 1000, "unit": "ms", "ratios": {}},
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
        QUICK_BARS + LATENCY_BARS,
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
    raise RuntimeError(f"no weights of {epoch_ms}: {deployment.last_words()}")


def _demo(directory: Path) -> list[Row]:
    command = [sys.executable, "-m", "streams", "up", "--demo"]
    command += ["--data-dir", str(directory / "demo")]
    command += ["--env-file", str(ROOT / "deploy" / "profiles" / "demo.env")]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env=kept_environment(),
    )
    found = re.search(r"from start to the first weights[ │]+([\d.]+)", done.stdout)
    if found is None:
        raise RuntimeError(f"make demo did not end well: {done.stdout} {done.stderr}")
    return [
        {"name": "make demo, start to first weights", "value": float(found[1]), "unit": "s"}
        | {"ratios": {}}
    ]
