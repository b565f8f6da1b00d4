"""The service: from the record in the log to the last of 500 WebSocket clients, and REST by wrk."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from confluent_kafka import Producer
from websockets.asyncio.client import ClientConnection, connect

from streams.feeds.synthetic import synthetic_market
from streams.kafka.client import producer_config
from streams.records.events import Candle
from streams.records.topics import CANDLES
from streams.stack.kafka import KafkaBroker
from streams.stack.valkey import ValkeyServer
from tests.perf.rows import Row, at_rank, row
from tests.support.candle_files import START_MS
from tests.support.deployment import LIVELY, Deployment
from tests.support.service import ServiceProcess
from tests.support.trading import BarByBar

PAIRS = tuple(f"P{chr(65 + i // 26)}{chr(65 + i % 26)}_USD" for i in range(8))
CLIENTS, EVENTS, EVERY_S = 500, 100, 0.1
WARM_UP_BARS = 200
WRK_S, WRK_CONNECTIONS = 5, 16
REST_MEASURE = f"answers / seconds of a wrk run of {WRK_S} s, client and service on the same cores"
PATHS = ("/api/global-status", "/api/kill-switch", f"/api/manifold/latest?instrument={PAIRS[0]}")


def rows() -> list[Row]:
    """Measure and return the rows of the table."""
    with tempfile.TemporaryDirectory(prefix="manifold-bench-") as place:
        directory = Path(place)
        broker = KafkaBroker(directory / "kafka")
        broker.start()
        valkey = ValkeyServer(directory / "valkey")
        valkey.start()
        deployment = Deployment(
            directory,
            KAFKA_BOOTSTRAP_SERVERS=broker.bootstrap,
            VALKEY_URL=valkey.url,
            TOPIC_PREFIX="service.",
            TOPIC_PARTITIONS="4",
            HOTBAND_PAIRS=",".join(PAIRS),
            **LIVELY,
        )
        try:
            deployment.start_worker()
            deployment.start("mirror", "mirror")
            market = BarByBar(deployment, synthetic_market(7, PAIRS, START_MS, 1_000), START_MS)
            for _ in range(WARM_UP_BARS):
                market.next()
            deployment.settle()
            service = ServiceProcess(deployment, API_RATE_PER_SEC="0", WS_HEARTBEAT_SEC="60")
            service.start()
            return [*_fan_out(deployment, service), *_rest(service)]
        finally:
            deployment.stop()
            valkey.stop()
            broker.stop()


# -- fan-out ---------------------------------------------------------------------------------------


def _fan_out(deployment: Deployment, service: ServiceProcess) -> list[Row]:
    place = f"ws://127.0.0.1:{service.ports['WS_PORT']}/ws"
    last, every = asyncio.run(_measured(deployment, place))
    note = f"{CLIENTS} clients of one process, a candle every {EVERY_S * 1000:.0f} ms"
    name, measure = "candle in the log to", "received - acknowledged by the log, {} of {:,}"
    return [
        row(
            f"service.{key}",
            f"{name} {who} of {CLIENTS} WebSocket clients: {which}",
            at_rank(values, share) * 1000,
            "ms",
            measure.format(what, len(values)),
            note=note,
        )
        for key, who, which, what, values, share in (
            ("last_p50", "the last", "p50", "median", last, 0.5),
            ("last_p95", "the last", "p95", "95th percentile", last, 0.95),
            ("any_p50", "any", "p50", "median", every, 0.5),
        )
    ]


async def _measured(deployment: Deployment, place: str) -> tuple[list[float], list[float]]:
    """Return seconds from the log's word to the last client, and to every client."""
    sockets = [await _subscribed(place) for _ in range(CLIENTS)]
    arrived: dict[int, list[float]] = {}
    readers = [asyncio.create_task(_read(one, arrived)) for one in sockets]
    acknowledged = await asyncio.to_thread(_produce, deployment)
    give_up_at = time.monotonic() + 30
    while time.monotonic() < give_up_at:
        if all(len(arrived.get(bar, ())) == CLIENTS for bar in acknowledged):
            break
        await asyncio.sleep(0.1)
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    for one in sockets:
        await one.close()
    missing = sum(CLIENTS - len(arrived.get(bar, ())) for bar in acknowledged)
    if missing:
        raise RuntimeError(f"{missing} of {CLIENTS * len(acknowledged)} events did not arrive")
    last = [max(arrived[bar]) - at for bar, at in acknowledged.items()]
    every = [one - at for bar, at in acknowledged.items() for one in arrived[bar]]
    return last, every


async def _subscribed(place: str) -> ClientConnection:
    one = await connect(place, compression=None, ping_interval=None, max_queue=1_000)
    await one.recv()
    await one.send(json.dumps({"type": "subscribe", "channels": ["market"]}))
    await one.recv()
    return one


async def _read(one: ClientConnection, arrived: dict[int, list[float]]) -> None:
    while True:
        text = await one.recv()
        at = time.monotonic()
        found = re.search(r'"bar_ms":(\d+)', str(text))
        if found is not None:
            arrived.setdefault(int(found[1]), []).append(at)


def _produce(deployment: Deployment) -> dict[int, float]:
    """Write candles one by one; return when the log has acknowledged each, by its bar."""
    # of another granularity: nothing is derived of them, so the fan-out alone is measured
    first = next(iter(synthetic_market(3, PAIRS[:1], START_MS, 1))).candles[0]
    producer = Producer(producer_config(deployment.runtime) | {"linger.ms": 0})
    acknowledged: dict[int, float] = {}
    due = time.monotonic()
    for number in range(EVENTS):
        due += EVERY_S
        time.sleep(max(0.0, due - time.monotonic()))
        candle = _hourly(first, number)

        def delivered(_: Any, __: Any, bar_ms: int = candle.bar_ms) -> None:
            acknowledged[bar_ms] = time.monotonic()

        producer.produce(
            deployment.runtime.topic(CANDLES),
            deployment.codec.encode(CANDLES, candle),
            candle.instrument.encode(),
            timestamp=candle.as_of_ms,
            on_delivery=delivered,
        )
        producer.flush(10.0)
    return acknowledged


def _hourly(candle: Candle, number: int) -> Candle:
    bar_ms = START_MS + number * 3_600_000
    return candle._replace(granularity="H1", bar_ms=bar_ms, as_of_ms=bar_ms + 3_600_000)


# -- REST ------------------------------------------------------------------------------------------


def _rest(service: ServiceProcess) -> list[Row]:
    if shutil.which("wrk") is None:
        note = "wrk is not installed: apt-get install wrk"
        return [row("service.rest", "REST requests", None, "1/s", REST_MEASURE, note=note)]
    return [_wrk(service, path) for path in PATHS]


def _wrk(service: ServiceProcess, path: str) -> Row:
    url = f"http://127.0.0.1:{service.ports['API_PORT']}{path}"
    command = ["wrk", "-t1", f"-c{WRK_CONNECTIONS}", f"-d{WRK_S}s", "--latency", url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    late = re.search(r"99%\s+([\d.]+\w+)", done.stdout)
    if rate is None or "Non-2xx" in done.stdout:
        raise RuntimeError(f"wrk {path}: {done.stdout}")
    note = f"wrk, {WRK_CONNECTIONS} connections, p99 {late[1] if late else '?'}"
    key = "service." + path.removeprefix("/api/").partition("?")[0].replace("/", "_")
    return row(key, f"REST {path}", float(rate[1]), "1/s", REST_MEASURE, note=note)
