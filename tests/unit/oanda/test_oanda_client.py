"""The OANDA client against a broker of our own, and against one that answers anything at all."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from streams.candles.calendar import FX
from streams.errors import Fatal
from streams.feeds.oanda_instrument import InstrumentFeed, Resume
from streams.instants import GRANULARITY_MS
from streams.oanda.client import LONGEST_PAGE, OandaClient
from streams.oanda.errors import (
    AccessRefused,
    AccessSuspended,
    AnswerLost,
    NotAsDescribed,
    NotSent,
    OrderRefused,
    RateLimited,
    RequestRefused,
    Unavailable,
)
from streams.process.child import free_port
from streams.records.events import Ohlc
from tests.support.oanda_clients import client, order, settings
from tests.support.oanda_raw import TOKEN, answering, page, serving
from tests.support.oanda_venue import candles_of
from tests.support.v20 import Handle, V20Server

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
        await oanda.set_brackets(trade.trade_id, {"takeProfit": Decimal("1.90000")})
        (trade,) = await oanda.open_trades()
        assert (trade.stop_loss, trade.take_profit) == (0.9, 1.9)
        assert sorted(o.kind for o in await oanda.pending_orders()) == ["STOP_LOSS", "TAKE_PROFIT"]
        await oanda.set_brackets(trade.trade_id, {"stopLoss": None, "takeProfit": None})
        assert await oanda.pending_orders() == ()
        await oanda.close_trade(trade.trade_id, Decimal(400))
        closed = await oanda.close_position("EUR_USD", "long")
        assert closed.filled is not None
        assert closed.filled.units == Decimal(-600)
        booked = await oanda.transactions_since(before)
        assert [int(t.transaction_id) for t in booked] == list(
            range(int(before) + 1, int(booked[-1].transaction_id) + 1)
        )
        assert (await oanda.transaction(booked[0].transaction_id)) == booked[0]
        for part in ("account", "summary", "positions", "openPositions", "openTrades"):
            assert "lastTransactionID" in await oanda.raw(part)
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
    lane = InstrumentFeed(
        "USD_CHF", "M1", resume, FX, settle_ms=500, absent_after_ms=5_000, reread_bars=3
    )
    pages = 0
    async with client(broker) as (oanda, _):
        while lane.frontier_ms < START_MS - 60_000:
            asked_ms, pages = START_MS, pages + 1
            assert lane.ask_ms <= asked_ms
            answer = await oanda.candles("USD_CHF", "M1", lane.from_ms)
            assert lane.take(answer, asked_ms, LONGEST_PAGE) == []
    assert pages == 2
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
    lane = InstrumentFeed(
        "EUR_USD",
        granularity,
        Resume(begun_ms),
        FX,
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
    more = {"OANDA_HTTP_RETRIES": "0", "OANDA_CB_FAILURES": "3", "OANDA_CB_RESET_SEC": "1.5"}
    async with client(broker, **more) as (oanda, _):
        for _ in range(6):
            with pytest.raises(Unavailable):
                await oanda.account_summary()
        assert len(broker.requests("/summary")) == 3
        with pytest.raises(NotSent, match="not sent"):
            await oanda.submit(order())
        assert broker.requests("/orders") == []
        await asyncio.sleep(1.6)
        for _ in range(3):  # one is let through, and fails
            with pytest.raises(Unavailable):
                await oanda.account_summary()
        assert len(broker.requests("/summary")) == 4
        broker.clear_faults()
        await asyncio.sleep(1.6)
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
        ({"kind": "status", "code": 401}, AccessSuspended, 0),
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


async def test_an_order_that_could_only_leave_late_is_not_sent(broker: Handle) -> None:
    broker.fault("status", code=429, retry_after=7, count=1)
    async with client(broker) as (oanda, naps):
        with pytest.raises(RateLimited):
            await oanda.submit(order("late-1"))
        with pytest.raises(NotSent, match="no request for"):
            await oanda.submit(order("late-2"))
        assert not naps.taken and not oanda.breaker.open
    async with OandaClient(settings(broker)) as oanda:
        oanda._connection_pace.hold(time.monotonic() + 60.0)
        with pytest.raises(NotSent):
            await oanda.submit(order("late-3"))
    assert not {"late-1", "late-2", "late-3"} & set(broker.account()["clientOrders"])


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
        either_way_ms = None
        while either_way_ms is None or either_way_ms >= 400:
            await oanda.account_summary()
            await asyncio.sleep(0.1)
            skew_ms, either_way_ms = oanda.clock.skew_ms, oanda.clock.uncertainty_ms
    assert skew_ms is not None
    assert abs(skew_ms + 7_200_000) <= either_way_ms


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
        {"bid": None, "mid": None},
        {"ask": None, "mid": None},
        {"bid": None, "ask": None, "mid": None},
        {"ask": {"o": "1.1", "h": "1.1", "l": "1.1"}},
        {"bid": dict.fromkeys("ohlc", 1.1)},
        {"bid": dict.fromkeys("ohlc", "-1.1")},
        {"bid": dict.fromkeys("ohlc", "0")},
        {"bid": dict.fromkeys("ohlc", "nan")},
        {"bid": dict.fromkeys("ohlc", "1e5")},
        {"bid": dict.fromkeys("ohlc", "١.١")},
        {"bid": dict.fromkeys("ohlc", "1.1 ")},
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


@pytest.mark.parametrize("mid", [{}, {"mid": None}, {"mid": dict.fromkeys("ohlc", "1.100000")}])
async def test_the_mid_of_a_candle_is_that_of_bid_and_ask(mid: dict[str, Any]) -> None:
    sides = {"bid": dict.fromkeys("ohlc", "1.10000"), "ask": dict.fromkeys("ohlc", "1.10011")}
    body = {"instrument": "EUR_USD", "granularity": "M1", "candles": [candle(**sides) | mid]}
    talk = answering(page(json.dumps(body).encode()))
    async with serving(talk) as (made, _), OandaClient(made) as oanda:
        [found] = await oanda.candles("EUR_USD", "M1", START_MS)
    assert (found.mid, found.mid_derived) == (Ohlc(*4 * (1.100055,)), True)


@pytest.mark.parametrize("missing", ["bid", "ask"])
async def test_where_a_side_is_missing_the_mid_is_oanda_s(missing: str) -> None:
    body = {
        "instrument": "EUR_USD",
        "granularity": "M1",
        "candles": [candle(mid=dict.fromkeys("ohlc", "1.2"), **{missing: None})],
    }
    talk = answering(page(json.dumps(body).encode()))
    async with serving(talk) as (made, _), OandaClient(made) as oanda:
        [found] = await oanda.candles("EUR_USD", "M1", START_MS)
    assert (found.mid, found.mid_derived) == (Ohlc(*4 * (1.2,)), False)
    assert getattr(found, missing) is None


@pytest.mark.parametrize("wrong", [{"instrument": "USD_JPY"}, {"granularity": "S5"}])
async def test_candles_of_something_else_are_refused(wrong: dict[str, str]) -> None:
    body = {"instrument": "EUR_USD", "granularity": "M1", "candles": [candle()]} | wrong
    talk = answering(page(json.dumps(body).encode()))
    async with serving(talk) as (made, _), OandaClient(made) as oanda:
        with pytest.raises(NotAsDescribed):
            await oanda.candles("EUR_USD", "M1", START_MS)
