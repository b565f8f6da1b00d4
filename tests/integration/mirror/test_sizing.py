"""The figures of docs/sizing.md about Valkey's memory, measured again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import redis

from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.feeds.synthetic import synthetic_market
from streams.mirror.keys import HISTORY_MS
from streams.mirror.shapes import Retention, writes_of
from streams.mirror.sizing import CANDLE_BYTES, MANIFOLD_BYTES, SIGNAL_BYTES, memory_need
from streams.mirror.writer import MirrorWriter, connect
from streams.records.events import Candle, Event, Manifold, Signal
from streams.replay.files import derive
from streams.stack.valkey import ValkeyServer

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "sizing.md").read_text(encoding="utf-8")
START_MS, MINUTE = 1_709_546_400_000, 60_000
PAIRS, BARS = ("EUR_USD", "USD_JPY"), 1_900
MEMORY = 0.15
"""How far a figure may be from what is measured here, as a fraction."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    made = ValkeyServer(tmp_path_factory.mktemp("sizing") / "valkey")
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def events() -> list[Event]:
    """Candles of two pairs and what the first stage makes of them."""
    bars = [(b.as_of_ms, b.candles) for b in synthetic_market(1, PAIRS, START_MS, BARS)]

    async def collect() -> list[Event]:
        chunks = derive(Config(), bars, PAIRS, START_MS, bars[-1][0], 2)
        return [one.output.event async for chunk in chunks for one in chunk]

    return [*(candle for _, candles in bars for candle in candles), *asyncio.run(collect())]


def written(server: ValkeyServer, events: Sequence[Event], retention: Retention) -> None:
    writes = [write for event in events for write in writes_of(event, 60, retention)]

    async def write() -> None:
        client = connect(Runtime(valkey_url=server.url))
        try:
            for start in range(0, len(writes), 500):
                await MirrorWriter(client).apply(writes[start : start + 500])
        finally:
            await client.aclose()

    asyncio.run(write())


def test_a_record_takes_the_memory_that_is_told(server: ValkeyServer, events: list[Event]) -> None:
    with redis.Redis.from_url(server.url) as client:

        def used() -> int:
            return int(client.info("memory")["used_memory"])

        for kind, told, pattern in (
            (Candle, CANDLE_BYTES, "md:candles:*"),
            (Signal, SIGNAL_BYTES, "sep:signal_index:*"),
            (Manifold, MANIFOLD_BYTES, "ws:manifold:hist:*"),
        ):
            before = used()
            written(server, [e for e in events if isinstance(e, kind)], Retention(0, 0))
            kept = sum(int(client.zcard(key)) for key in client.scan_iter(pattern))
            each = (used() - before) / kept
            assert each == pytest.approx(told, rel=MEMORY), f"{kind.__name__}: {each:.0f} bytes"
            assert f"| {told} |" in PAGE


def test_a_bounded_mirror_takes_no_more_than_is_told(
    server: ValkeyServer, events: list[Event]
) -> None:
    bound = Retention(300, 200)
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
        written(server, events, bound)
        assert {int(client.zcard(f"md:candles:{pair}:M1")) for pair in PAIRS} == {300}
        assert {int(client.zcard(f"sep:signal_index:{pair}")) for pair in PAIRS} == {200}
        assert len(list(client.scan_iter("sep:signal:*"))) == 200 * len(PAIRS)
        used = int(client.info("memory")["used_memory"])
    need = memory_need(len(PAIRS), MINUTE, bound)
    assert used <= need.size and need.yearly == 0


@pytest.mark.parametrize("pairs", [8, 28])
def test_the_table_of_memory_is_what_doctor_says(pairs: int) -> None:
    runtime = Runtime()
    kept = Retention(runtime.valkey_candle_retention, runtime.valkey_signal_retention)
    size = memory_need(pairs, MINUTE, kept).size
    assert f"| {pairs} | {size >> 20} MiB |" in PAGE
    assert size < 1 << 30, "a small server"
    assert HISTORY_MS // MINUTE == 1_440
