"""The OANDA client against a broker of our own, and against one that answers anything at all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest

from streams.errors import Fatal, Recoverable
from streams.events import GRANULARITY_MS
from streams.feed.broker_lane import BrokerLane, Resume
from streams.oanda.client import LONGEST_PAGE, MarketOrder, OandaClient, rfc3339
from streams.oanda.clock import BrokerClock
from streams.oanda.errors import (
    AccessRefused,
    AnswerLost,
    NotAsDescribed,
    NotSent,
    OrderRefused,
    RateLimited,
    RequestRefused,
    Unavailable,
)
from streams.oanda.limits import Breaker, Pace, pause_s, retry_after_s
from streams.oanda.settings import Oanda
from streams.oanda.shapes import Heartbeat, Price, TransactionState
from streams.oanda.stream import Connected, OandaStream, price_stream, transaction_stream
from streams.stack.child import free_port
from tests.oanda_venue import candles_of
from tests.v20 import Handle, V20Server

TOKEN = "a1b2c3-very-secret-token"
START = "2024-03-04T12:00:00Z"
START_MS = 1_709_553_600_000


@pytest.fixture(scope="module")
def shared() -> Iterator[Handle]:
    with V20Server(speed=0, start=START, heartbeat_sec=0.1) as made:
        yield made


@pytest.fixture
def broker(shared: Handle) -> Iterator[Handle]:
    shared.clear_faults()
    shared.control("POST", "/reset")
    yield shared
    shared.clear_faults()
    assert shared.violations() == []


def settings(broker: Handle, **more: str) -> Oanda:
    quick = {"OANDA_HTTP_BACKOFF": "1", "OANDA_HTTP_TIMEOUT_SEC": "2"}
    return Oanda.from_env(broker.environment() | quick | more)


class Naps:
    """Sleeps that take no time, and are remembered."""

    def __init__(self) -> None:
        self.taken: list[float] = []

    async def __call__(self, seconds: float) -> None:
        if seconds > 0:
            self.taken.append(seconds)
        await asyncio.sleep(0)


@asynccontextmanager
async def client(broker: Handle, **more: str) -> AsyncIterator[tuple[OandaClient, Naps]]:
    naps = Naps()
    async with OandaClient(settings(broker, **more), naps) as made:
        yield made, naps


def order(
    client_id: str = "o-1", units: int = 1000, instrument: str = "EUR_USD", **more: Any
) -> MarketOrder:
    given = {"reduce_only": False, "stop_loss": None, "take_profit": None} | more
    return MarketOrder(client_id, instrument, Decimal(units), **given)


async def test_every_question_is_read_and_is_as_described(broker: Handle) -> None:
    async with client(broker) as (oanda, _):
        candles = await oanda.candles("EUR_USD", "M1", START_MS - 3_600_000)
        assert 40 < len(candles) <= 61
        assert all(c.bid.close < c.mid.close < c.ask.close and c.volume > 0 for c in candles)
        summary = await oanda.account_summary()
        assert (summary.currency, summary.account_id) == ("USD", broker.account_id)
        terms = await oanda.instruments()
        assert terms["USD_JPY"].price_digits == 3
        assert terms["EUR_USD"].min_units == 1
        found = await oanda.prices(["EUR_USD", "USD_JPY"], home_rates=True)
        assert {p.instrument for p in found.prices} == {"EUR_USD", "USD_JPY"}
        assert {"JPY", "EUR"} & {rate.currency for rate in found.home_rates}
        before = summary.last_transaction_id
        filled = await oanda.submit(order("all-1", stop_loss=Decimal("0.90000")))
        assert filled.filled is not None
        assert filled.filled.client_id == "all-1"
        (trade,) = await oanda.open_trades()
        assert (trade.client_id, trade.stop_loss, trade.units) == ("all-1", 0.9, Decimal(1000))
        (position,) = await oanda.open_positions()
        assert (position.long.units, position.short.units) == (Decimal(1000), Decimal(0))
        assert [o.kind for o in await oanda.pending_orders()] == ["STOP_LOSS"]
        await oanda.set_brackets(trade.trade_id, Decimal("0.91000"), Decimal("1.90000"))
        assert sorted(o.kind for o in await oanda.pending_orders()) == ["STOP_LOSS", "TAKE_PROFIT"]
        await oanda.set_brackets(trade.trade_id, None, None)
        assert await oanda.pending_orders() == ()
        await oanda.close_trade(trade.trade_id, Decimal(400))
        closed = await oanda.close_position("EUR_USD", "long")
        assert closed.filled is not None
        assert closed.filled.units == Decimal(-600)
        booked = await oanda.transactions_since(before)
        assert [int(t.transaction_id) for t in booked] == list(
            range(int(before) + 1, int(booked[-1].transaction_id) + 1)
        )
        first, last = booked[0].transaction_id, booked[1].transaction_id
        assert await oanda.transactions_between(first, last) == booked[:2]
        assert (await oanda.transaction(first)) == booked[0]
        for part in ("account", "summary", "positions", "openPositions", "openTrades"):
            assert "lastTransactionID" in await oanda.passed_through(part)
    for request in broker.requests():
        assert request["headers"]["Authorization"] == "***"
        assert request["headers"]["Accept-Datetime-Format"] == "RFC3339"


async def test_a_pending_order_is_found_by_our_id_and_one_that_is_not_there_is_none(
    broker: Handle,
) -> None:
    status, _ = broker.api(
        "POST",
        "/accounts/{account}/orders",
        {
            "order": {
                "type": "LIMIT",
                "instrument": "EUR_USD",
                "units": "10",
                "price": "0.50000",
                "timeInForce": "GTC",
                "clientExtensions": {"id": "waits-1"},
            }
        },
    )
    assert status == 201
    async with client(broker) as (oanda, _):
        found = await oanda.order_by_client_id("waits-1")
        assert found is not None
        assert (found.client_id, found.state) == ("waits-1", "PENDING")
        cancelled = await oanda.cancel(found.order_id)
        assert cancelled.cancelled is not None
        assert await oanda.order_by_client_id("never was") is None


async def test_a_long_gap_comes_in_pages_and_every_candle_once(broker: Handle) -> None:
    begun_ms = START_MS - 7 * 86_400_000
    resume = Resume(begun_ms)
    lane = BrokerLane("USD_CHF", "M1", resume, settle_ms=500, absent_after_ms=5_000, reread_bars=3)
    async with client(broker) as (oanda, _):
        while lane.frontier_ms < START_MS - 60_000:
            asked_ms = START_MS
            assert lane.ask_ms <= asked_ms
            answer = await oanda.candles("USD_CHF", "M1", lane.from_ms)
            assert lane.take(answer, asked_ms, LONGEST_PAGE) == []
    assert len(broker.requests("/candles")) == 2
    found = [candle for bar in lane.ready for candle in bar.candles]
    assert len(found) > LONGEST_PAGE
    assert found == list(candles_of(broker, ["USD_CHF"], "M1", begun_ms).values())
    ends = [bar.as_of_ms for bar in lane.ready]
    assert ends == sorted(set(ends))


@pytest.mark.parametrize("granularity", ["S30", "M15", "H1", "H4", "H12"])
async def test_bars_of_any_length_begin_where_the_feed_expects_them(
    broker: Handle, granularity: str
) -> None:
    length = GRANULARITY_MS[granularity]
    begun_ms = START_MS - 20 * length
    lane = BrokerLane(
        "EUR_USD",
        granularity,
        Resume(begun_ms),
        settle_ms=0,
        absent_after_ms=0,
        reread_bars=3,
    )
    async with client(broker) as (oanda, _):
        answer = await oanda.candles("EUR_USD", granularity, lane.from_ms)
    assert all(candle.bar_ms % length == 0 for candle in answer)
    lane.take(answer, START_MS, LONGEST_PAGE)
    found = [candle.bar_ms for bar in lane.ready for candle in bar.candles]
    assert found == [candle.bar_ms for candle in answer if candle.complete]
    assert lane.frontier_ms >= START_MS - length
    quiet = [bar.as_of_ms for bar in lane.ready if not bar.candles]
    assert len(quiet) < 20 - len(found) + 2


async def test_connections_are_kept(broker: Handle) -> None:
    async with client(broker) as (oanda, _):
        for _ in range(10):
            await oanda.account_summary()
        assert oanda.counts.connections == 1
    assert len({request["connection"] for request in broker.requests()}) == 1


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "code": 500},
        {"kind": "status", "code": 503},
        {"kind": "status", "code": 429},
        {"kind": "cut_before"},
        {"kind": "cut_before", "reset": True},
        {"kind": "cut_middle"},
    ],
    ids=str,
)
async def test_a_question_is_asked_again_after(broker: Handle, fault: dict[str, Any]) -> None:
    broker.fault(**{"count": 2, **fault})
    async with client(broker) as (oanda, naps):
        assert (await oanda.account_summary()).currency == "USD"
        assert 1 <= oanda.counts.retries["account summary"] <= 2
        assert len(naps.taken) >= oanda.counts.retries["account summary"]


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"kind": "status", "code": 500}, Unavailable),
        ({"kind": "status", "code": 429}, RateLimited),
        ({"kind": "cut_before"}, Unavailable),
        ({"kind": "wrong_json"}, NotAsDescribed),
        ({"kind": "wrong_type"}, NotAsDescribed),
        ({"kind": "wrong_json", "body": "[" * 100_000}, NotAsDescribed),
        ({"kind": "wrong_json", "body": '{"account": NaN}'}, NotAsDescribed),
        ({"kind": "status", "code": 400}, RequestRefused),
        ({"kind": "status", "code": 404}, RequestRefused),
        ({"kind": "status", "code": 401}, AccessRefused),
        ({"kind": "status", "code": 403}, AccessRefused),
    ],
    ids=str,
)
async def test_a_question_without_a_usable_answer_says_so(
    broker: Handle, fault: dict[str, Any], error: type[Exception]
) -> None:
    broker.fault(**fault)
    async with client(broker, OANDA_HTTP_RETRIES="1") as (oanda, _):
        with pytest.raises(error, match="account summary") as raised:
            await oanda.account_summary()
    asked = len(broker.requests("/summary"))
    # aiohttp itself asks once more when a connection is gone without an answer
    gone = 2 if fault["kind"] == "cut_before" else 1
    assert asked == (2 * gone if issubclass(error, Unavailable) else 1)
    assert raised.value.__context__ is None
    assert raised.value.__cause__ is None


async def test_access_refused_names_what_to_check(broker: Handle) -> None:
    async with client(broker, OANDA_API_KEY="wrong") as (oanda, _):
        with pytest.raises(Fatal) as raised:
            await oanda.account_summary()
    for name in ("OANDA_API_KEY", "OANDA_ACCOUNT_ID", "OANDA_ENVIRONMENT", "practice"):
        assert name in str(raised.value)
    assert "wrong" not in str(raised.value)


async def test_a_time_out_is_told(broker: Handle) -> None:
    broker.fault("hang", count=1)
    async with client(broker, OANDA_HTTP_TIMEOUT_SEC="0.3", OANDA_HTTP_RETRIES="0") as (oanda, _):
        with pytest.raises(Unavailable, match=r"did not answer account summary within 0\.3 s"):
            await oanda.account_summary()


async def test_what_oanda_asks_to_wait_is_waited(broker: Handle) -> None:
    broker.fault("status", code=429, retry_after=7, count=1)
    async with client(broker) as (oanda, naps):
        await oanda.account_summary()
    assert max(naps.taken) >= 7


async def test_after_failures_in_a_row_nothing_is_sent_for_a_while(broker: Handle) -> None:
    broker.fault("status", code=500)
    more = {"OANDA_HTTP_RETRIES": "0", "OANDA_CB_FAILURES": "3", "OANDA_CB_RESET_SEC": "0.4"}
    async with client(broker, **more) as (oanda, _):
        for _ in range(6):
            with pytest.raises(Unavailable):
                await oanda.account_summary()
        assert len(broker.requests("/summary")) == 3
        with pytest.raises(NotSent, match="not sent"):
            await oanda.submit(order())
        assert broker.requests("/orders") == []
        await asyncio.sleep(0.45)
        for _ in range(3):  # one is let through, and fails
            with pytest.raises(Unavailable):
                await oanda.account_summary()
        assert len(broker.requests("/summary")) == 4
        broker.clear_faults()
        await asyncio.sleep(0.45)
        assert (await oanda.account_summary()).currency == "USD"
        assert not oanda.breaker.open


@pytest.mark.parametrize(
    ("fault", "error", "filled"),
    [
        ({"kind": "cut_before"}, AnswerLost, 0),
        ({"kind": "cut_before", "reset": True}, AnswerLost, 0),
        ({"kind": "lost_answer"}, AnswerLost, 1),
        ({"kind": "lost_answer", "how": "hang"}, AnswerLost, 1),
        ({"kind": "cut_after", "reset": True}, AnswerLost, 1),
        ({"kind": "cut_middle"}, AnswerLost, 1),
        ({"kind": "wrong_json"}, AnswerLost, 1),
        ({"kind": "wrong_type"}, AnswerLost, 1),
        ({"kind": "wrong_json", "body": "{}"}, AnswerLost, 1),
        ({"kind": "status", "code": 500}, AnswerLost, 0),
        ({"kind": "status", "code": 502, "processed": True}, AnswerLost, 1),
        ({"kind": "status", "code": 503}, AnswerLost, 0),
        ({"kind": "status", "code": 429}, RateLimited, 0),
        ({"kind": "status", "code": 401}, AccessRefused, 0),
        ({"kind": "reject_order", "reason": "INSUFFICIENT_MARGIN"}, OrderRefused, 0),
    ],
    ids=str,
)
async def test_an_order_is_sent_once_whatever_happens(
    broker: Handle, fault: dict[str, Any], error: type[Exception], filled: int
) -> None:
    client_id = f"once-{len(broker.account()['transactions'])}"
    async with client(broker, OANDA_HTTP_TIMEOUT_SEC="0.5") as (oanda, _):
        await oanda.account_summary()
        broker.fault(**{"count": 1, "path": "/orders$", **fault})
        with pytest.raises(error) as raised:
            await oanda.submit(order(client_id))
        assert oanda.counts.retries == {}
    assert len(broker.requests("/orders")) == 1
    found = broker.account()["clientOrders"].get(client_id, {"filled": 0})
    assert found["filled"] == filled
    assert raised.value.__context__ is None
    if isinstance(raised.value, OrderRefused):
        assert raised.value.code == "INSUFFICIENT_MARGIN"


async def test_an_order_that_is_cancelled_at_once_says_why(broker: Handle) -> None:
    broker.fault("cancel_order", reason="MARKET_HALTED", count=1)
    async with client(broker) as (oanda, _):
        answer = await oanda.submit(order("cancelled"))
    assert answer.filled is None
    assert answer.cancelled is not None
    assert answer.cancelled.reason == "MARKET_HALTED"


async def test_an_order_to_nobody_is_known_not_to_be_sent(broker: Handle) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    async with client(broker, OANDA_BASE_URL=nowhere) as (oanda, _):
        with pytest.raises(NotSent):
            await oanda.submit(order())
        with pytest.raises(NotSent):
            await oanda.close_position("EUR_USD", "long")


async def test_only_the_open_side_is_closed(broker: Handle) -> None:
    async with client(broker) as (oanda, _):
        await oanda.submit(order("short", -500, "USD_CAD"))
        broker.control("POST", "/reset")
        await oanda.close_position("USD_CAD", "short", Decimal(200))
        await oanda.close_position("USD_CAD", "short")
        with pytest.raises(OrderRefused) as raised:
            await oanda.close_position("USD_CAD", "short")
        assert raised.value.code == "CLOSEOUT_POSITION_DOESNT_EXIST"
        assert not [p for p in await oanda.open_positions() if p.short.units]
    bodies = [json.loads(request["body"]) for request in broker.requests("/close")]
    assert bodies[:2] == [
        {"shortUnits": "200", "longUnits": "NONE"},
        {"shortUnits": "ALL", "longUnits": "NONE"},
    ]


async def test_the_clocks_difference_is_measured() -> None:
    with V20Server(hours="always") as broker:
        broker.fault("clock_skew", seconds=-7200)
        await _measured_skew(broker)


async def _measured_skew(broker: Handle) -> None:
    async with client(broker) as (oanda, _):
        for _ in range(12):
            await oanda.account_summary()
            await asyncio.sleep(0.1)
        skew_ms, either_way_ms = oanda.clock.skew_ms, oanda.clock.uncertainty_ms
    assert skew_ms is not None
    assert either_way_ms is not None
    assert abs(skew_ms + 7_200_000) <= either_way_ms < 400


# ------------------------------------------------------------------------ a server of any bytes


@asynccontextmanager
async def serving(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[tuple[Oanda, list[bytes]]]:
    heads: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            await talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            return
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    made = Oanda.from_env(
        {
            "OANDA_API_KEY": TOKEN,
            "OANDA_ACCOUNT_ID": "101-001-1-001",
            "OANDA_BASE_URL": url,
            "OANDA_STREAM_URL": url,
            "OANDA_HTTP_RETRIES": "0",
            "OANDA_HTTP_TIMEOUT_SEC": "2",
            "OANDA_HTTP_BACKOFF": "1",
            "OANDA_STREAM_SILENCE_SEC": "0.4",
        }
    )
    try:
        yield made, heads
    finally:
        server.close()


def answering(*pieces: bytes, pause_s: float = 0.0, stay_s: float = 0.0) -> Any:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_s)
        await asyncio.sleep(stay_s)

    return talk


def page(body: bytes, status: str = "200 OK", head: str = "") -> bytes:
    return (
        f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nContent-Type: application/json\r\n"
        f"{head}\r\n"
    ).encode() + body


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (page(b"", "302 Found", "Location: http://127.0.0.1:9/\r\n"), RequestRefused),
        (page(b"<html>", "404 Not Found"), RequestRefused),
        (page(TOKEN.encode(), "400 Bad Request"), RequestRefused),
        (page(json.dumps({"errorMessage": f"x {TOKEN}"}).encode(), "400 Bad"), RequestRefused),
        (page(json.dumps({"errorMessage": TOKEN}).encode(), "500 Oh"), Unavailable),
        (b"SSH-2.0-OpenSSH\r\n", Unavailable),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", Unavailable),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", Unavailable),
        (page(b'{"account": {}}'), NotAsDescribed),
        (page(json.dumps({"account": {"id": TOKEN}}).encode()), NotAsDescribed),
        (page(b"null"), NotAsDescribed),
    ],
    ids=range(11),
)
async def test_any_bytes_become_one_of_our_errors_without_the_token(
    answer: bytes, error: type[Exception]
) -> None:
    async with serving(answering(answer)) as (made, heads), OandaClient(made) as oanda:
        with pytest.raises(error) as raised:
            await oanda.account_summary()
    assert len(heads) == 1
    assert f"Authorization: Bearer {TOKEN}".encode() in heads[0]
    assert TOKEN not in repr(raised.value) + str(raised.value)
    assert raised.value.__context__ is None


async def test_a_put_on_a_connection_that_is_gone_is_not_sent_again() -> None:
    """aiohttp would: it takes PUT for something that may be repeated."""
    requests: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(b"first")
        writer.write(page(json.dumps(CLOSED).encode()))
        await writer.drain()
        await reader.readuntil(b"\r\n\r\n")
        requests.append(b"second")

    async with serving(talk) as (made, heads), OandaClient(made) as oanda:
        await oanda.close_position("EUR_USD", "long")
        with pytest.raises(AnswerLost):
            await oanda.close_position("EUR_USD", "long", Decimal(1))
        await asyncio.sleep(0.1)
    assert requests == [b"first", b"second"]
    assert len(heads) == 1


CLOSED = {
    "lastTransactionID": "2",
    "longOrderFillTransaction": {
        "id": "2",
        "type": "ORDER_FILL",
        "time": "2024-03-04T12:00:00.000000000Z",
        "instrument": "EUR_USD",
        "units": "-1",
        "price": "1.1",
    },
}


def candle(**more: Any) -> dict[str, Any]:
    prices = dict.fromkeys("ohlc", "1.1")
    return {
        "time": "2024-03-04T12:00:00.000000000Z",
        "complete": True,
        "volume": 3,
        "mid": prices,
        "bid": prices,
        "ask": prices,
    } | more


@pytest.mark.parametrize(
    "wrong",
    [
        {"time": "2024-03-04T12:00:01Z"},
        {"time": "2024-02-30T12:00:00Z"},
        {"time": "1709553600"},
        {"time": None},
        {"complete": "true"},
        {"volume": "3"},
        {"volume": -1},
        {"volume": True},
        {"volume": 1.5},
        {"bid": None},
        {"ask": {"o": "1.1", "h": "1.1", "l": "1.1"}},
        {"mid": dict.fromkeys("ohlc", 1.1)},
        {"mid": dict.fromkeys("ohlc", "-1.1")},
        {"mid": dict.fromkeys("ohlc", "0")},
        {"mid": dict.fromkeys("ohlc", "nan")},
        {"mid": dict.fromkeys("ohlc", "1e5")},
        {"mid": dict.fromkeys("ohlc", "١.١")},
        {"mid": dict.fromkeys("ohlc", "1.1 ")},
    ],
    ids=str,
)
async def test_a_candle_that_is_not_as_described_is_refused_and_not_guessed(
    wrong: dict[str, Any],
) -> None:
    body = {"instrument": "EUR_USD", "granularity": "M1", "candles": [candle(), candle(**wrong)]}
    talk = answering(page(json.dumps(body).encode()))
    async with serving(talk) as (made, _), OandaClient(made) as oanda:
        with pytest.raises(NotAsDescribed, match=r"candles\[1\]") as raised:
            await oanda.candles("EUR_USD", "M1", START_MS)
    assert "candles of EUR_USD" in str(raised.value)


@pytest.mark.parametrize("wrong", [{"instrument": "USD_JPY"}, {"granularity": "S5"}])
async def test_candles_of_something_else_are_refused(wrong: dict[str, str]) -> None:
    body = {"instrument": "EUR_USD", "granularity": "M1", "candles": [candle()]} | wrong
    talk = answering(page(json.dumps(body).encode()))
    async with serving(talk) as (made, _), OandaClient(made) as oanda:
        with pytest.raises(NotAsDescribed):
            await oanda.candles("EUR_USD", "M1", START_MS)


# ----------------------------------------------------------------------------------- the streams

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
    async with asyncio.timeout(8):
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
    assert events == [Connected(0), price, Heartbeat(1_709_553_601_000), price]


@pytest.mark.parametrize(
    ("pieces", "pause", "stay", "trouble"),
    [
        ((chunk(line(LINE)[:40]),), 0.0, 0.0, "no answer"),
        ((chunk(line(LINE)[:40]), chunk(b"")), 0.0, 0.0, "ended"),
        ((chunk(b"<html>\n"),), 0.0, 0.9, "no JSON object"),
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


async def test_a_stream_that_may_not_be_opened_ends_the_program(broker: Handle) -> None:
    async with client(broker, OANDA_API_KEY="wrong") as (oanda, _):
        with pytest.raises(AccessRefused):
            await heard(price_stream(oanda, ["EUR_USD"]), lambda _: False)


async def test_prices_and_transactions_come_as_they_happen(broker: Handle) -> None:
    async with client(broker) as (oanda, _):
        prices, booked = price_stream(oanda, ["EUR_USD"]), transaction_stream(oanda)

        async def happen() -> None:
            await asyncio.sleep(0.3)
            await asyncio.to_thread(broker.price, "EUR_USD", "1.20000", "1.20010", False)
            await oanda.submit(order("streamed"))

        def is_there(events: list[Any]) -> bool:
            last = events[-1]
            return (isinstance(last, Price) and last.bid == 1.2) or (
                isinstance(last, TransactionState) and last.kind == "ORDER_FILL"
            )

        seen, entries, _ = await asyncio.gather(
            heard(prices, is_there), heard(booked, is_there), happen()
        )
    assert isinstance(seen[0], Connected)
    filled = entries[-1]
    assert filled.client_id == "streamed"
    beats = [e for e in entries if isinstance(e, Heartbeat)]
    assert beats
    assert beats[0].last_transaction_id is not None


# ---------------------------------------------------------------------------------------- limits


def test_instants_are_given_out_at_a_distance_after_a_burst() -> None:
    pace = Pace(0.1, burst=3)
    assert [round(pace.wait_s(100.0), 3) for _ in range(6)] == [0, 0, 0, 0.1, 0.2, 0.3]
    assert pace.wait_s(200.0) == 0
    pace.hold(210.0)
    assert round(pace.wait_s(201.0), 3) == 9


def test_pauses_grow_are_jittered_and_are_never_shorter_than_asked() -> None:
    for attempt in (1, 2, 3):
        pauses = [pause_s(1.5, attempt) for _ in range(200)]
        assert 1.5**attempt <= min(pauses) < max(pauses) <= 1.25 * 1.5**attempt
        assert len(set(pauses)) > 100
    assert pause_s(1.5, 1, 9.0) == 9.0
    assert pause_s(1.5, 10_000) <= 75


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [("3", 3, 3), (" 3 ", 3, 3), (None, None, None), ("soon", None, None), ("-1", None, None),
     ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0)],
)  # fmt: skip
def test_retry_after(header: str | None, least: float | None, most: float | None) -> None:
    found = retry_after_s(header)
    assert found == least == most


def test_the_breaker_lets_one_through_at_a_time() -> None:
    breaker = Breaker(2, 30.0)
    breaker.failed(0.0)
    assert breaker.left_s(0.0) == 0
    breaker.failed(1.0)
    assert breaker.left_s(2.0) == 29
    assert breaker.left_s(31.0) == 0
    assert breaker.left_s(31.0) == 30
    breaker.succeeded()
    assert breaker.left_s(31.0) == 0
    breaker.failed(32.0)
    assert not breaker.open


def test_the_clock_believes_the_last_when_a_clock_was_set() -> None:
    clock = BrokerClock()
    clock.note("Mon, 04 Mar 2024 12:00:00 GMT", START_MS, START_MS + 10)
    assert clock.theirs_ms(5) == 5 + round(clock.skew_ms or 0)
    assert abs((clock.skew_ms or 0) - 495) < 1
    clock.note("Mon, 04 Mar 2024 13:00:00 GMT", START_MS + 1_000, START_MS + 1_010)
    assert abs((clock.skew_ms or 0) - 3_599_495) < 2
    for date in ("", None, "yesterday", "Mon, 99 Mar 2024 12:00:00 GMT"):
        clock.note(date, START_MS, START_MS)
    assert abs((clock.skew_ms or 0) - 3_599_495) < 2


def test_heartbeats_tell_the_clock_more_closely() -> None:
    clock = BrokerClock()
    clock.note_beat(START_MS, START_MS)
    assert clock.skew_ms is None, "no answer has said anything yet"
    clock.note("Mon, 04 Mar 2024 12:00:00 GMT", START_MS + 500, START_MS + 510)
    clock.note_beat(START_MS + 2_390, START_MS + 2_100)
    assert (clock.skew_ms, clock.uncertainty_ms) == (290, 210)
    clock.note_beat(START_MS + 3_000, START_MS + 3_900)
    assert clock.skew_ms == 290, "one that was held up says nothing"
    clock.note_beat(START_MS + 90_000, START_MS)
    assert clock.skew_ms is None, "a clock was set: the next answer says more"


def test_times_are_written_as_oanda_does() -> None:
    assert rfc3339(START_MS + 7) == "2024-03-04T12:00:00.007000000Z"


# -------------------------------------------------------------------------------------- settings

ACCESS = {"OANDA_API_KEY": TOKEN, "OANDA_ACCOUNT_ID": "101-001-1-001"}


def test_practice_is_the_default_and_live_needs_two_words() -> None:
    made = Oanda.from_env(ACCESS)
    assert made.base_url == "https://api-fxpractice.oanda.com"
    assert made.stream_url == "https://stream-fxpractice.oanda.com"
    with pytest.raises(Fatal, match="LIVE_TRADING_ENABLED"):
        Oanda.from_env(ACCESS | {"OANDA_ENVIRONMENT": "live"})
    both = Oanda.from_env(ACCESS | {"OANDA_ENVIRONMENT": "live", "LIVE_TRADING_ENABLED": "1"})
    assert both.base_url == "https://api-fxtrade.oanda.com"


@pytest.mark.parametrize(
    "wrong",
    [
        {"OANDA_BASE_URL": "https://api-fxtrade.oanda.com"},
        {"OANDA_BASE_URL": "https://API-FXTRADE.oanda.com./v3"},
        {"OANDA_STREAM_URL": "https://stream-fxtrade.oanda.com:443"},
        {"OANDA_BASE_URL": "https://stream-fxtrade.oanda.com", "LIVE_TRADING_ENABLED": "1"},
        {
            "OANDA_BASE_URL": "https://api-fxpractice.oanda.com",
            "OANDA_ENVIRONMENT": "live",
            "LIVE_TRADING_ENABLED": "1",
        },
        {"OANDA_BASE_URL": "http://api-fxpractice.oanda.com"},
        {"OANDA_BASE_URL": "http://10.0.0.1:8080"},
        {"OANDA_BASE_URL": "http://127.0.0.1.example.com"},
        {"OANDA_BASE_URL": f"https://x:{TOKEN}@example.com"},
        {"OANDA_BASE_URL": f"https://example.com/?token={TOKEN}"},
        {"OANDA_BASE_URL": "ftp://example.com"},
        {"OANDA_BASE_URL": "https://"},
        {"OANDA_BASE_URL": "https://[::1"},
        {"OANDA_BASE_URL": "https://a:999999"},
        {"OANDA_API_KEY": f"{TOKEN}\nX-Header: 1"},
        {"OANDA_API_KEY": f"Bearer {TOKEN}"},
        {"OANDA_ACCOUNT_ID": "../../v3/accounts"},
        {"OANDA_ENVIRONMENT": "demo"},
    ],
    ids=str,
)
def test_settings_that_are_unsafe_are_refused_by_name_and_without_the_token(
    wrong: dict[str, str],
) -> None:
    with pytest.raises(Fatal, match="OANDA_") as raised:
        Oanda.from_env(ACCESS | wrong)
    assert TOKEN not in str(raised.value)
    assert raised.value.__context__ is None or TOKEN not in str(raised.value.__context__)


def test_the_token_is_in_no_repr_and_may_come_from_a_file(tmp_path: Any) -> None:
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    made = Oanda.from_env({"OANDA_API_KEY_FILE": str(path), "OANDA_ACCOUNT_ID": "1-2-3-4"})
    assert made.oanda_api_key == TOKEN
    assert TOKEN not in repr(made) + str(made.table())
    assert TOKEN not in repr(OandaClient(made))


@pytest.mark.parametrize("missing", ["OANDA_API_KEY", "OANDA_ACCOUNT_ID"])
def test_no_client_without_token_and_account(missing: str) -> None:
    made = Oanda.from_env(ACCESS | {missing: ""})
    with pytest.raises(Fatal, match=missing):
        OandaClient(made)


def test_the_errors_are_of_the_two_roots() -> None:
    for kind in (Unavailable, RateLimited, NotAsDescribed, NotSent, AnswerLost, OrderRefused):
        assert issubclass(kind, Recoverable)
    for kind in (RequestRefused, AccessRefused):
        assert issubclass(kind, Fatal)
