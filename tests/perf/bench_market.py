"""The market of the benchmarks on Kafka: eight pairs of a seeded market, a bar a minute."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from streams.config.settings import Config
from streams.feeds.live import run_feed
from streams.feeds.synthetic import MarketRates, synthetic_market
from streams.stack.kafka import KafkaBroker
from streams.stack.valkey import ValkeyServer
from tests.support.deployment import Deployment

START_MS = 1_709_510_400_000  # Monday 2024-03-04 00:00 UTC
BAR_MS = 60_000
PAIRS = 8
PARTITIONS = 4
Deploy = Callable[..., Deployment]


def names_of(count: int) -> list[str]:
    """Return names of instruments that no market has."""
    return [f"P{chr(65 + i // 26)}{chr(65 + i % 26)}_USD" for i in range(count)]


@contextmanager
def deployments() -> Iterator[tuple[Deploy, Path]]:
    """Give a way to make deployments on a Kafka and a Valkey of their own, and a directory."""
    with tempfile.TemporaryDirectory(prefix="manifold-bench-") as place:
        directory = Path(place)
        broker, valkey = KafkaBroker(directory / "kafka"), ValkeyServer(directory / "valkey")
        made: list[Deployment] = []

        def deploy(name: str, pairs: int = PAIRS, partitions: int = PARTITIONS) -> Deployment:
            made.append(
                Deployment(
                    directory,
                    KAFKA_BOOTSTRAP_SERVERS=broker.bootstrap,
                    VALKEY_URL=valkey.url,
                    TOPIC_PREFIX=f"{name}.",
                    TOPIC_PARTITIONS=str(partitions),
                    HOTBAND_PAIRS=",".join(names_of(pairs)),
                )
            )
            return made[-1]

        broker.start()
        valkey.start()
        try:
            yield deploy, directory
        finally:
            for deployment in made:
                deployment.stop()
            valkey.stop()
            broker.stop()


def fill(deployment: Deployment, bars: int) -> None:
    """Write the first bars of the market, with the configuration and the universe before them."""
    names = deployment.runtime.hotband_pairs
    market = synthetic_market(1, names, START_MS, bars, rates=MarketRates(0, 0, 0))
    now_ms = int(time.time() * 1000)
    run_feed(deployment.runtime, deployment.codec, Config(), names, "M1", market, "bench", now_ms)
