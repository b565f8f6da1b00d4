"""Bulk work on the log: load, verify and the mirror's rebuild, as whole processes.

What is beside ``manifold load`` does a part of its work each, in this process and without a start:
rows of their own, no ratios.
"""

from __future__ import annotations

import asyncio
import csv
import json
import tempfile
import time
from pathlib import Path

from aiokafka import AIOKafkaProducer
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from streams.kafka.client import confluent_config, producer_config
from streams.records.topics import CANDLES
from streams.stack.kafka import KafkaBroker
from streams.stack.valkey import ValkeyServer
from tests.perf.rows import Row, row
from tests.support.candle_files import market, write_csv
from tests.support.deployment import Deployment

PAIRS = ("EUR_USD", "GBP_USD", "USD_JPY", "AUD_USD")
BARS = 25_000


def rows() -> list[Row]:
    """Measure and return the rows of the table."""
    with tempfile.TemporaryDirectory(prefix="manifold-bench-") as place:
        directory = Path(place)
        broker, valkey = KafkaBroker(directory / "kafka"), ValkeyServer(directory / "valkey")
        broker.start()
        valkey.start()
        try:
            return _measured(directory, broker, valkey)
        finally:
            valkey.stop()
            broker.stop()


def _measured(directory: Path, broker: KafkaBroker, valkey: ValkeyServer) -> list[Row]:
    deployment = Deployment(
        directory,
        KAFKA_BOOTSTRAP_SERVERS=broker.bootstrap,
        VALKEY_URL=valkey.url,
        TOPIC_PREFIX="load.",
        TOPIC_PARTITIONS="4",
    )
    candles = market(PAIRS, BARS)
    path = write_csv(directory / "candles.csv", candles)
    values = [deployment.codec.encode(CANDLES, candle) for candle in candles]
    keys = [candle.instrument.encode() for candle in candles]
    admin = AdminClient(confluent_config(deployment.runtime))
    for created in admin.create_topics([NewTopic("bare", 4, 1)]).values():
        created.result()
    bare = len(values) / _confluent(deployment, keys, values)
    plain = len(values) / asyncio.run(_aiokafka(deployment, keys, values))
    parsed = len(values) / _csv_reader(path)
    loaded = _command(deployment, "load", path)
    again = _command(deployment, "load", path)
    deployment.start_worker()
    deployment.settle(300)
    deployment.stop()
    verified, seconds = _timed(deployment, "verify", "--json")
    compared = sum(t["compared"] for t in json.loads(verified)["topics"].values())
    written, rebuild_s = _timed(deployment, "mirror", "--rebuild", "--json")
    rows_of = f"{len(candles):,} rows"
    part = "one run in this process; a part of what load does: "
    whole = "seconds of the whole command, start included, one run"
    return [
        row(
            "load.csv",
            "manifold load, CSV to Kafka",
            len(candles) / loaded,
            "rows/s",
            f"rows / {whole}",
            note=rows_of,
        ),
        row(
            "load.again",
            "manifold load of the same file again",
            len(candles) / again,
            "rows/s",
            f"rows / {whole}",
            note=f"{rows_of}; nothing is written",
        ),
        row(
            "load.dict_reader",
            "part: csv.DictReader and floats",
            parsed,
            "rows/s",
            "rows / seconds",
            note=f"{part}no candles, no checks, nothing written",
        ),
        row(
            "load.confluent",
            "part: confluent-kafka",
            bare,
            "records/s",
            "records / seconds to the last acknowledgement",
            note=f"{part}bytes at hand",
        ),
        row(
            "load.aiokafka",
            "part: aiokafka",
            plain,
            "records/s",
            "records / seconds to the last acknowledgement",
            note=f"{part}bytes at hand",
        ),
        row(
            "load.verify",
            "manifold verify of that log",
            compared / seconds,
            "records/s",
            f"derived records compared / {whole}",
        ),
        row(
            "load.rebuild",
            "manifold mirror --rebuild",
            json.loads(written)["written"] / rebuild_s,
            "writes/s",
            f"writes to Valkey / {whole}",
        ),
    ]


def _timed(deployment: Deployment, *arguments: str) -> tuple[str, float]:
    begun = time.perf_counter()
    done = deployment.run(*arguments)
    seconds = time.perf_counter() - begun
    if done.returncode != 0:
        raise RuntimeError(f"manifold {' '.join(arguments)}: {done.stdout}{done.stderr}")
    return done.stdout, seconds


def _command(deployment: Deployment, *arguments: str) -> float:
    return _timed(deployment, *arguments, "--json")[1]


def _csv_reader(path: str) -> float:
    begun = time.perf_counter()
    with open(path, newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            [float(row[f"{side}_{price}"]) for side in ("bid", "ask") for price in "ohlc"]
    return time.perf_counter() - begun


def _confluent(deployment: Deployment, keys: list[bytes], values: list[bytes]) -> float:
    producer = Producer(
        producer_config(deployment.runtime) | {"queue.buffering.max.messages": 500_000}
    )
    begun = time.perf_counter()
    for key, value in zip(keys, values, strict=True):
        producer.produce("bare", value, key)
        producer.poll(0)
    producer.flush()
    return time.perf_counter() - begun


async def _aiokafka(deployment: Deployment, keys: list[bytes], values: list[bytes]) -> float:
    servers = deployment.runtime.kafka_bootstrap_servers
    producer = AIOKafkaProducer(
        bootstrap_servers=servers, acks="all", linger_ms=20, enable_idempotence=True
    )
    await producer.start()
    begun = time.perf_counter()
    sent = [
        await producer.send("bare", value, key) for key, value in zip(keys, values, strict=True)
    ]
    await asyncio.gather(*sent)
    seconds = time.perf_counter() - begun
    await producer.stop()
    return seconds
