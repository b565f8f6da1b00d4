"""The two streams: lines in any pieces, breaks of every kind, and what comes after them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from streams.oanda.client import OandaClient
from streams.oanda.errors import AccessRefused
from streams.oanda.shapes import Price, StreamHeartbeat
from streams.oanda.stream import Connected, OandaStream, price_stream
from tests.support.oanda_clients import client
from tests.support.oanda_raw import answering, serving
from tests.support.v20 import Handle, V20Server
from tests.support.waiting import PATIENCE_S

LINE = {
    "type": "PRICE",
    "instrument": "EUR_USD",
    "time": "2024-03-04T12:00:00.123456789Z",
    "tradeable": True,
    "bids": [{"price": "1.10000", "liquidity": 1}],
    "asks": [{"price": "1.10010", "liquidity": 1}],
}
BEAT = {"type": "HEARTBEAT", "time": "2024-03-04T12:00:01.000000000Z"}
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(content: bytes) -> bytes:
    return f"{len(content):x}\r\n".encode() + content + b"\r\n"


def line(content: dict[str, Any]) -> bytes:
    return json.dumps(content).encode() + b"\n"


async def heard(stream: OandaStream[Any], until: Callable[[list[Any]], bool]) -> list[Any]:
    events: list[Any] = []
    async with asyncio.timeout(PATIENCE_S):
        async for event in stream.events():
            events.append(event)
            if until(events):
                return events
    raise AssertionError("the stream ended")


def second_connection(events: list[Any]) -> bool:
    return Connected(1) in events


async def test_lines_come_in_any_pieces() -> None:
    whole = line(LINE) + b"\n" + line(BEAT) + line(LINE | {"type": "NEW_KIND"}) + line(LINE)
    pieces = [chunk(whole[at : at + 7]) for at in range(0, len(whole), 7)]
    talk = answering(HEAD, *pieces, pause_s=0.001)
    async with serving(talk) as (made, _), OandaClient(made) as oanda:
        stream = price_stream(oanda, ["EUR_USD"])
        events = await heard(stream, lambda found: len(found) == 4)
    price = Price("EUR_USD", 1_709_553_600_123, 1.1, 1.1001, True)
    assert events == [Connected(0), price, StreamHeartbeat(1_709_553_601_000), price]


@pytest.mark.parametrize(
    ("pieces", "pause", "stay", "trouble"),
    [
        ((chunk(line(LINE)[:40]),), 0.0, 0.0, "no answer"),
        ((chunk(line(LINE)[:40]), chunk(b"")), 0.0, 0.0, "ended"),
        ((chunk(b"<html>\n"),), 0.0, 0.9, "not a JSON object"),
        ((chunk(b"[1]\n"),), 0.0, 0.9, "not as described"),
        ((chunk(line({"type": "PRICE"})),), 0.0, 0.9, "not as described"),
        ((chunk(line(LINE | {"asks": [{"price": "1.0"}]})),), 0.0, 0.9, "asks"),
        ((), 0.0, 0.9, "silent"),
        (tuple([chunk(b" ")] * 20), 0.1, 0.0, "silent"),
        ((chunk(b"x" * (1 << 20) + b"xx"),), 0.0, 0.9, "does not end"),
    ],
    ids=["cut", "ended", "garbage", "list", "empty", "crossed", "silent", "drip", "endless"],
)
async def test_a_broken_stream_is_opened_again_and_half_a_line_is_never_read(
    pieces: tuple[bytes, ...], pause: float, stay: float, trouble: str
) -> None:
    talk = answering(HEAD + chunk(line(LINE)), *pieces, pause_s=pause, stay_s=stay)
    async with serving(talk) as (made, heads), OandaClient(made, short) as oanda:
        stream = price_stream(oanda, ["EUR_USD"])
        said: list[str] = []

        def until(events: list[Any]) -> bool:
            said.append(stream.health.trouble or "")
            return second_connection(events)

        watch = asyncio.create_task(_troubles(stream, said))
        events = await heard(stream, until)
        watch.cancel()
    assert events[:2] == [Connected(0), Price("EUR_USD", 1_709_553_600_123, 1.1, 1.1001, True)]
    assert len([e for e in events if isinstance(e, Price)]) == 1
    assert stream.health.reconnects == 1
    assert any(trouble in text for text in said), said
    assert len(heads) == 2


async def short(seconds: float) -> None:
    await asyncio.sleep(min(seconds, 0.1))


async def _troubles(stream: OandaStream[Any], said: list[str]) -> None:
    while True:
        said.append(stream.health.trouble or "")
        await asyncio.sleep(0.02)


@pytest.fixture(scope="module")
def broker() -> Iterator[Handle]:
    with V20Server(speed=0, start="2024-03-04T12:00:00Z", heartbeat_sec=0.1) as made:
        yield made
        assert made.violations() == []


async def test_a_stream_that_may_not_be_opened_ends_the_program(broker: Handle) -> None:
    async with client(broker, OANDA_API_KEY="wrong") as (oanda, _):
        with pytest.raises(AccessRefused):
            await heard(price_stream(oanda, ["EUR_USD"]), lambda _: False)


async def test_prices_come_as_they_happen(broker: Handle) -> None:
    async with client(broker) as (oanda, _):

        async def happen() -> None:
            await asyncio.sleep(0.3)
            await asyncio.to_thread(broker.price, "EUR_USD", "1.20000", "1.20010", False)

        def is_there(events: list[Any]) -> bool:
            last = events[-1]
            return isinstance(last, Price) and last.bid == 1.2

        seen, _ = await asyncio.gather(heard(price_stream(oanda, ["EUR_USD"]), is_there), happen())
    assert isinstance(seen[0], Connected)
    assert any(isinstance(event, StreamHeartbeat) for event in seen)
