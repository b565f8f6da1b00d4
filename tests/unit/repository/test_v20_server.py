"""The test broker itself: what it answers is what OANDA would, and its faults do what they say."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from random import Random
from threading import Thread
from typing import Any

import pytest

from tests.support.v20 import Handle, V20Process, V20Server
from tests.support.v20.account import Account
from tests.support.v20.amounts import parse_time, rfc3339, unix
from tests.support.v20.candles import Alignment, span
from tests.support.v20.market import Market, is_open
from tests.support.waiting import PATIENCE_S, until

MONDAY = "2026-01-05T12:00:00Z"
ACCOUNT = "/accounts/{account}"
Json = dict[str, Any]


@pytest.fixture
def new_broker() -> Iterator[Callable[..., V20Server]]:
    """Brokers whose clock stands unless told otherwise."""
    made: list[V20Server] = []

    def start(**options: Any) -> V20Server:
        made.append(V20Server(**({"speed": 0, "start": MONDAY} | options)).start())
        return made[-1]

    yield start
    for each in made:
        found = each.violations()
        each.stop()
        assert [v["text"] for v in found if v["of"] != "request"] == []


@pytest.fixture
def broker(new_broker: Callable[..., V20Server]) -> V20Server:
    """One with EUR_USD at 1.10000 / 1.10010."""
    made = new_broker()
    made.price("EUR_USD", "1.10000", "1.10010")
    return made


def order(broker: Handle, **fields: Any) -> tuple[int, Json]:
    """Send an order: buy 1,000 EUR_USD at the market unless told otherwise."""
    usual = {"type": "MARKET", "instrument": "EUR_USD", "units": "1000"}
    return broker.api("POST", f"{ACCOUNT}/orders", {"order": usual | fields})


def lines(broker: Handle, path: str, count: int) -> Iterator[Json]:
    """Yield the first lines of a stream."""
    connection = http.client.HTTPConnection("127.0.0.1", broker.port, timeout=PATIENCE_S)
    where = "/v3" + path.replace("{account}", broker.account_id)
    connection.request("GET", where, headers={"Authorization": f"Bearer {broker.token}"})
    response = connection.getresponse()
    assert response.status == 200
    try:
        for _ in range(count):
            yield json.loads(response.readline())
    finally:
        connection.close()


# the market


def test_a_market_is_the_same_for_the_same_seed_wherever_reading_begins() -> None:
    old, now = 1_400_000_040_000, 1_767_614_400_000
    first, second = Market(3), Market(3)
    a = list(first.ticks("EUR_USD", old, old + 600_000))
    list(second.ticks("EUR_USD", now, now + 600_000))
    assert a == list(second.ticks("EUR_USD", old, old + 600_000)) != []
    assert a != list(Market(4).ticks("EUR_USD", old, old + 600_000))
    assert a != list(first.ticks("GBP_USD", old, old + 600_000))


@pytest.mark.parametrize(
    ("instant", "opened"),
    [
        ("2026-01-04T22:04:00Z", False),
        ("2026-01-04T22:05:00Z", True),
        ("2026-01-05T21:58:00Z", True),
        ("2026-01-05T21:59:00Z", False),
        ("2026-01-05T22:05:00Z", True),
        ("2026-01-09T21:58:00Z", True),
        ("2026-01-09T21:59:00Z", False),
        ("2026-01-10T12:00:00Z", False),
        ("2026-07-10T20:58:00Z", True),
        ("2026-07-10T20:59:00Z", False),
    ],
)
def test_the_market_week_is_that_of_new_york(instant: str, opened: bool) -> None:
    assert is_open(parse_time(instant) // 1_000_000) is opened


@pytest.mark.parametrize(
    ("granularity", "start", "end"),
    [
        ("M5", "2026-01-05T12:30:00Z", "2026-01-05T12:35:00Z"),
        ("H1", "2026-01-05T12:00:00Z", "2026-01-05T13:00:00Z"),
        ("H4", "2026-01-05T10:00:00Z", "2026-01-05T14:00:00Z"),
        ("D", "2026-01-04T22:00:00Z", "2026-01-05T22:00:00Z"),
        ("W", "2026-01-02T22:00:00Z", "2026-01-09T22:00:00Z"),
        ("M", "2025-12-31T22:00:00Z", "2026-01-31T22:00:00Z"),
    ],
)
def test_candles_are_aligned_to_new_york(granularity: str, start: str, end: str) -> None:
    at = parse_time("2026-01-05T12:34:00Z") // 1_000_000
    expected = (parse_time(start) // 1_000_000, parse_time(end) // 1_000_000)
    assert span(granularity, at, Alignment()) == expected


def test_candles_are_exactly_what_the_stream_said(new_broker: Callable[..., V20Server]) -> None:
    broker = new_broker(heartbeat_sec=0.3)
    stream = lines(broker, f"{ACCOUNT}/pricing/stream?instruments=EUR_USD&snapshot=false", 10_000)
    assert next(stream)["type"] == "HEARTBEAT"
    broker.advance(600)
    said: dict[str, list[tuple[str, str]]] = {}
    end = parse_time(MONDAY) + 600 * 1_000_000_000
    quiet = 0
    for line in stream:
        quiet = quiet + 1 if line["type"] == "HEARTBEAT" else 0
        if line["type"] == "PRICE":
            prices = (line["bids"][0]["price"], line["asks"][0]["price"])
            said.setdefault(line["time"][:16], []).append(prices)
        elif said and quiet == 2:
            break
    stream.close()
    query = f"granularity=M1&price=BA&from={MONDAY}&to={rfc3339(end)}"
    _, answer = broker.api("GET", f"/instruments/EUR_USD/candles?{query}")
    candles = {c["time"][:16]: c for c in answer["candles"]}
    assert sorted(candles) == sorted(said) and len(said) >= 8
    for minute, prices in said.items():
        candle = candles[minute]
        assert candle["volume"] == len(prices) and candle["complete"]
        for side, index in (("bid", 0), ("ask", 1)):
            of_side = [p[index] for p in prices]
            expected = (of_side[0], max(of_side), min(of_side), of_side[-1])
            assert tuple(candle[side][k] for k in "ohlc") == expected


def test_only_quiet_minutes_lack_candles(new_broker: Callable[..., V20Server]) -> None:
    _, answer = new_broker().api("GET", "/instruments/USD_JPY/candles?granularity=M1&count=2000")
    times = [parse_time(c["time"]) // 60_000_000_000 for c in answer["candles"]]
    assert len(times) == 2000 == len(set(times)) and times == sorted(times)
    market = Market(1)
    inside = [m for m in range(times[0], times[-1]) if is_open(m * 60_000) and m not in times]
    assert 0 < len(inside) < 120
    for minute in inside:
        assert not list(market.ticks("USD_JPY", minute * 60_000 - 1, minute * 60_000 + 59_999))
    assert answer["candles"][0]["mid"]["o"].split(".")[1].__len__() == 3


CANDLES = "/instruments/EUR_USD/candles"


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("count=5&from=2026-01-05T10:00:00Z&to=2026-01-05T11:00:00Z", "'count' cannot be"),
        ("count=5001", "Maximum value for 'count' exceeded"),
        ("count=0", "Invalid value specified for 'count'"),
        ("granularity=M3", "Invalid value specified for 'granularity'"),
        ("price=X", "Invalid value specified for 'price'"),
        ("from=yesterday", "Invalid value specified for 'from'"),
        ("to=2026-02-05T10:00:00Z", "Time is in the future"),
        ("granularity=S5&from=2026-01-01T00:00:00Z&to=2026-01-05T00:00:00Z", "exceeded"),
    ],
)
def test_wrong_candle_queries_are_400(broker: V20Server, query: str, message: str) -> None:
    status, answer = broker.api("GET", f"{CANDLES}?{query}")
    assert status == 400 and message in answer["errorMessage"] and answer["errorCode"]


def test_candle_ranges(broker: V20Server) -> None:
    def times(query: str) -> list[str]:
        _, answer = broker.api("GET", f"{CANDLES}?granularity=M1&price=MBA&{query}")
        return [c["time"][11:16] for c in answer["candles"]]

    every = times("from=2026-01-05T10:00:00Z&to=2026-01-05T10:05:00Z")
    assert every[0] == "10:00" and every[-1] == "10:04"
    assert (
        times("from=2026-01-05T10:00:00Z&to=2026-01-05T10:05:00Z&includeFirst=false") == every[1:]
    )
    assert times("from=2026-01-05T10:00:00Z&count=3") == every[:3]
    assert times("to=2026-01-05T10:05:00Z&count=2") == every[-2:]
    assert times("from=1767607200&to=1767607500.000000000") == every


def test_the_candle_of_now_is_incomplete(broker: V20Server) -> None:
    broker.advance(30)
    broker.price("EUR_USD", "1.20000", "1.20010")
    _, answer = broker.api("GET", f"{CANDLES}?granularity=M1&count=1&price=B")
    assert answer["candles"][0]["complete"] is False
    broker.advance(60)
    _, answer = broker.api("GET", f"{CANDLES}?granularity=M1&count=1&price=B")
    last = answer["candles"][0]
    # held prices: no tick since, so this minute has no candle and that one is whole
    assert last["complete"] and last["bid"]["c"] == "1.20000" and last["volume"] == 2
    broker.release("EUR_USD")
    broker.advance(600)
    _, answer = broker.api("GET", f"{CANDLES}?granularity=M1&count=5&price=B")
    assert answer["candles"][-1]["time"] > last["time"]


# orders


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"units": "0"}, "UNITS_INVALID"),
        ({"units": "1.5"}, "UNITS_PRECISION_EXCEEDED"),
        ({"units": "100000001"}, "UNITS_LIMIT_EXCEEDED"),
        ({"units": None}, "UNITS_MISSING"),
        ({"timeInForce": "GTC"}, "TIME_IN_FORCE_INVALID"),
        ({"type": "LIMIT"}, "PRICE_MISSING"),
        ({"type": "LIMIT", "price": "1.100001"}, "PRICE_PRECISION_EXCEEDED"),
        (
            {"instrument": "USD_JPY", "type": "LIMIT", "price": "100.1234"},
            "PRICE_PRECISION_EXCEEDED",
        ),
        ({"type": "LIMIT", "price": "-1"}, "PRICE_INVALID"),
        (
            {"type": "LIMIT", "price": "1", "timeInForce": "GTD"},
            "TIME_IN_FORCE_GTD_TIMESTAMP_MISSING",
        ),
        ({"stopLossOnFill": {}}, "STOP_LOSS_ON_FILL_PRICE_MISSING"),
        (
            {"stopLossOnFill": {"price": "1.000001"}},
            "STOP_LOSS_ON_FILL_PRICE_PRECISION_EXCEEDED",
        ),
        (
            {"takeProfitOnFill": {"price": "1.200001"}},
            "TAKE_PROFIT_ON_FILL_PRICE_PRECISION_EXCEEDED",
        ),
        (
            {"stopLossOnFill": {"price": "1.0", "distance": "0.1"}},
            "STOP_LOSS_ON_FILL_PRICE_AND_DISTANCE_BOTH_SPECIFIED",
        ),
        ({"clientExtensions": {"id": "x" * 129}}, "CLIENT_ORDER_ID_INVALID"),
    ],
)
def test_a_refused_order_is_400_with_a_reject_transaction(
    broker: V20Server, fields: Json, reason: str
) -> None:
    status, answer = order(broker, **fields)
    assert status == 400
    rejected = answer["orderRejectTransaction"]
    assert rejected["rejectReason"] == answer["errorCode"] == reason and answer["errorMessage"]
    assert rejected["type"] == fields.get("type", "MARKET") + "_ORDER_REJECT"
    assert answer["relatedTransactionIDs"] == [rejected["id"]] == [answer["lastTransactionID"]]
    assert broker.account()["positions"] == {}


@pytest.mark.parametrize(
    "fields",
    [
        {"instrument": "XXX_YYY"},
        {"units": "many"},
        {"timeInForce": "NOW"},
        {"positionFill": "X"},
        {"type": "ICEBERG"},
    ],
)
def test_what_cannot_be_read_is_400_without_a_transaction(broker: V20Server, fields: Json) -> None:
    before = broker.account()["summary"]["lastTransactionID"]
    status, answer = order(broker, **fields)
    assert status == 400 and answer["errorCode"] and answer["errorMessage"]
    assert "orderRejectTransaction" not in answer
    assert broker.account()["summary"]["lastTransactionID"] == before


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"units": "9000000"}, "INSUFFICIENT_MARGIN"),
        ({"units": "50000000"}, "INSUFFICIENT_LIQUIDITY"),
        ({"priceBound": "1.10009"}, "BOUNDS_VIOLATION"),
        ({"stopLossOnFill": {"price": "1.10000"}}, "STOP_LOSS_ON_FILL_LOSS"),
        ({"takeProfitOnFill": {"price": "1.10010"}}, "TAKE_PROFIT_ON_FILL_LOSS"),
        ({"positionFill": "REDUCE_ONLY"}, "POSITION_CLOSEOUT_FAILED"),
    ],
)
def test_an_order_that_cannot_be_filled_is_201_and_cancelled(
    broker: V20Server, fields: Json, reason: str
) -> None:
    status, answer = order(broker, clientExtensions={"id": "c"}, **fields)
    assert status == 201 and "orderFillTransaction" not in answer
    assert answer["orderCancelTransaction"]["reason"] == reason
    assert answer["orderCancelTransaction"]["clientOrderID"] == "c"
    assert broker.account()["positions"] == {}


def test_a_halted_market_cancels(broker: V20Server) -> None:
    broker.halt("EUR_USD")
    _, answer = order(broker)
    assert answer["orderCancelTransaction"]["reason"] == "MARKET_HALTED"
    _, prices = broker.api("GET", f"{ACCOUNT}/pricing?instruments=EUR_USD,USD_JPY")
    assert [p["tradeable"] for p in prices["prices"]] == [False, True]
    broker.halt("EUR_USD", halted=False)
    assert order(broker)[1]["orderFillTransaction"]["price"] == "1.10010"


def test_the_weekend_is_halted(new_broker: Callable[..., V20Server]) -> None:
    broker = new_broker(start="2026-01-10T12:00:00Z")
    assert order(broker)[1]["orderCancelTransaction"]["reason"] == "MARKET_HALTED"
    always = new_broker(start="2026-01-10T12:00:00Z", hours="always")
    assert "orderFillTransaction" in order(always)[1]


def test_the_price_of_a_large_order_is_worse(new_broker: Callable[..., V20Server]) -> None:
    broker = new_broker(balance="10000000")
    broker.price("EUR_USD", "1.10000", "1.10010")
    # 1M at 1.10010, 2M at 1.10011, 2M at 1.10012: the mean is 1.100112
    _, answer = order(broker, units="5000000")
    assert answer["orderFillTransaction"]["fullVWAP"] == "1.10011"
    _, answer = order(broker, units="-5000000")
    assert answer["orderFillTransaction"]["price"] == "1.09999"


def test_one_client_id_is_refused_only_while_pending(broker: V20Server) -> None:
    named = {"clientExtensions": {"id": "twin"}}
    resting = named | {"type": "LIMIT", "price": "1.00000", "timeInForce": "GTC"}
    assert order(broker, **resting)[0] == 201
    status, answer = order(broker, **named)
    assert status == 400 and answer["errorCode"] == "CLIENT_ORDER_ID_ALREADY_EXISTS"
    assert broker.api("GET", f"{ACCOUNT}/orders/@twin")[1]["order"]["state"] == "PENDING"
    assert broker.api("PUT", f"{ACCOUNT}/orders/@twin/cancel")[0] == 200
    # measured on practice accounts: finished orders are neither found nor protect from anything
    status, answer = broker.api("GET", f"{ACCOUNT}/orders/@twin")
    assert status == 404 and answer["errorCode"] == "NO_SUCH_ORDER"
    assert order(broker, **named)[0] == 201 == order(broker, **named)[0]
    told = broker.account()["clientOrders"]["twin"]
    assert (told["submitted"], told["rejected"], told["filled"]) == (4, 1, 2)
    assert told["units"] == "2000"
    status, answer = broker.api("PUT", f"{ACCOUNT}/orders/@twin/cancel")
    assert status == 404 and answer["errorCode"] == "ORDER_DOESNT_EXIST"
    assert answer["orderCancelRejectTransaction"]["clientOrderID"] == "twin"


def test_a_kinder_broker_knows_every_client_id(new_broker: Callable[..., V20Server]) -> None:
    broker = new_broker(unique_ids=True, show_finished=True)
    named = {"clientExtensions": {"id": "one"}}
    assert order(broker, **named)[0] == 201
    assert order(broker, **named)[1]["errorCode"] == "CLIENT_ORDER_ID_ALREADY_EXISTS"
    found = broker.api("GET", f"{ACCOUNT}/orders/@one")[1]["order"]
    assert found["state"] == "FILLED"
    assert [o["id"] for o in broker.api("GET", f"{ACCOUNT}/orders?state=ALL")[1]["orders"]] == ["4"]


def kinds(broker: V20Server, after: int) -> list[tuple[str, str | None]]:
    made = broker.account()["transactions"][after:]
    return [(t["type"], t.get("reason")) for t in made]


@pytest.mark.parametrize(
    ("units", "bid", "fired", "other", "gain"),
    [
        ("1000", "1.09000", "STOP_LOSS", "TAKE_PROFIT", "-10.1000"),
        ("1000", "1.12000", "TAKE_PROFIT", "STOP_LOSS", "19.9000"),
        ("-1000", "1.11990", "STOP_LOSS", "TAKE_PROFIT", "-20.0000"),
        ("-1000", "1.08990", "TAKE_PROFIT", "STOP_LOSS", "10.0000"),
    ],
)
def test_brackets_fire_as_the_market_moves(
    broker: V20Server, units: str, bid: str, fired: str, other: str, gain: str
) -> None:
    low, high = {"price": "1.09"}, {"price": "1.12"}
    long = units[0] != "-"
    stop, take = (low, high) if long else (high, low)
    status, answer = order(broker, units=units, stopLossOnFill=stop, takeProfitOnFill=take)
    assert status == 201
    assert answer["relatedTransactionIDs"] == ["4", "5", "6", "7"]
    assert kinds(broker, 5) == [("TAKE_PROFIT_ORDER", "ON_FILL"), ("STOP_LOSS_ORDER", "ON_FILL")]
    ask = str(Decimal(bid) + Decimal("0.0001"))
    broker.price("EUR_USD", "1.09500", "1.09510")
    assert len(kinds(broker, 7)) == 0
    broker.price("EUR_USD", bid, ask)
    assert kinds(broker, 7) == [
        ("ORDER_FILL", f"{fired}_ORDER"),
        ("ORDER_CANCEL", "LINKED_TRADE_CLOSED"),
    ]
    filled, cancelled = broker.account()["transactions"][7:]
    assert filled["batchID"] == cancelled["batchID"] == filled["id"]
    assert filled["pl"] == gain and filled["tradesClosed"][0]["realizedPL"] == gain
    assert broker.account()["summary"]["balance"] == f"{100000 + Decimal(gain)}"
    assert broker.account()["pending"] == []


def test_resting_orders_fire_and_expire(broker: V20Server) -> None:
    resting = {"timeInForce": "GTC"}
    order(broker, type="LIMIT", price="1.09000", clientExtensions={"id": "limit"}, **resting)
    order(broker, type="STOP", price="1.11000", clientExtensions={"id": "stop"}, **resting)
    order(broker, type="MARKET_IF_TOUCHED", price="1.11500", units="-10", **resting)
    until = rfc3339(parse_time(MONDAY) + 90 * 1_000_000_000)
    order(broker, type="LIMIT", price="1.00000", timeInForce="GTD", gtdTime=until)
    assert len(broker.account()["pending"]) == 4
    broker.price("EUR_USD", "1.08990", "1.09000")
    broker.price("EUR_USD", "1.10990", "1.11000")
    broker.price("EUR_USD", "1.11500", "1.11510")
    fills = [t for t in broker.account()["transactions"] if t["type"] == "ORDER_FILL"]
    reasons = [f["reason"] for f in fills]
    assert reasons == ["LIMIT_ORDER", "STOP_ORDER", "MARKET_IF_TOUCHED_ORDER"]
    assert [f["price"] for f in fills] == ["1.09000", "1.11000", "1.11500"]
    broker.advance(91)
    assert kinds(broker, -1)[0] == ("ORDER_CANCEL", "TIME_IN_FORCE_EXPIRED")
    assert broker.account()["transactions"][-1]["time"] == until


def test_replacing_and_extending_an_order(broker: V20Server) -> None:
    resting = {"type": "LIMIT", "price": "1.00000", "timeInForce": "GTC"}
    order(broker, clientExtensions={"id": "a"}, **resting)
    body = {"order": {"instrument": "EUR_USD", "units": "5"} | resting | {"price": "1.01"}}
    status, answer = broker.api("PUT", f"{ACCOUNT}/orders/@a", body)
    assert status == 201
    assert answer["orderCancelTransaction"]["reason"] == "CLIENT_REQUEST_REPLACED"
    new = answer["orderCreateTransaction"]
    assert answer["orderCancelTransaction"]["replacedByOrderID"] == new["id"]
    assert new["reason"] == "REPLACEMENT" and new["clientExtensions"] == {"id": "a"}
    path = f"{ACCOUNT}/orders/{new['id']}/clientExtensions"
    status, _ = broker.api("PUT", path, {"clientExtensions": {"id": "b", "tag": "t"}})
    assert status == 200
    found = broker.api("GET", f"{ACCOUNT}/orders/@b")[1]["order"]
    assert found["clientExtensions"] == {"id": "b", "tag": "t"} and found["price"] == "1.01000"


# positions and trades


def test_opposite_orders_net_oldest_first(broker: V20Server) -> None:
    for units in ("100", "200", "300"):
        order(broker, units=units)
    _, answer = order(broker, units="-250")
    filled = answer["orderFillTransaction"]
    assert [(r["tradeID"], r["units"]) for r in filled["tradesClosed"]] == [("5", "-100")]
    assert (filled["tradeReduced"]["tradeID"], filled["tradeReduced"]["units"]) == ("7", "-150")
    assert "tradeOpened" not in filled
    _, answer = order(broker, units="-1000")
    assert answer["orderFillTransaction"]["tradeOpened"]["units"] == "-650"
    assert broker.account()["positions"] == {"EUR_USD": "-650"}
    _, answer = order(broker, units="2000", positionFill="REDUCE_ONLY")
    assert answer["orderFillTransaction"]["units"] == "650"
    assert broker.account()["positions"] == {}


def test_closing_a_side_without_units(broker: V20Server) -> None:
    path = f"{ACCOUNT}/positions/EUR_USD/close"
    status, answer = broker.api("PUT", path, {"longUnits": "ALL"})
    assert status == 404 and answer["errorCode"] == "CLOSEOUT_POSITION_DOESNT_EXIST"
    order(broker)
    status, answer = broker.api("PUT", path, {"longUnits": "ALL", "shortUnits": "ALL"})
    assert status == 400
    rejected = answer["shortOrderRejectTransaction"]
    assert rejected["rejectReason"] == "CLOSEOUT_POSITION_DOESNT_EXIST"
    assert broker.account()["positions"] == {"EUR_USD": "1000"}
    status, answer = broker.api("PUT", path, {"longUnits": "2000"})
    assert answer["errorCode"] == "CLOSEOUT_POSITION_UNITS_EXCEED_POSITION_SIZE"
    status, answer = broker.api("PUT", path, {"longUnits": "0.5"})
    assert status == 400 and answer["errorCode"] == "UNITS_PRECISION_EXCEEDED"
    long_id = {"longUnits": "1", "longClientExtensions": {"id": "x" * 129}}
    status, answer = broker.api("PUT", path, long_id)
    assert status == 400 and answer["errorCode"] == "CLIENT_ORDER_ID_INVALID"
    broker.fault("reject_order", reason="ACCOUNT_LOCKED", count=1, path="/close$")
    assert broker.api("PUT", path, {"longUnits": "1"})[1]["errorCode"] == "ACCOUNT_LOCKED"
    status, answer = broker.api(
        "PUT", path, {"longUnits": "400", "longClientExtensions": {"id": "out"}}
    )
    assert status == 200 and answer["longOrderFillTransaction"]["clientOrderID"] == "out"
    status, answer = broker.api("PUT", path, {"longUnits": "ALL", "shortUnits": "NONE"})
    assert status == 200 and answer["longOrderFillTransaction"]["units"] == "-600"
    assert answer["longOrderFillTransaction"]["reason"] == "MARKET_ORDER_POSITION_CLOSEOUT"
    # measured: once traded an instrument stays listed, flat; one never traded is not found
    assert broker.api("GET", f"{ACCOUNT}/openPositions")[1]["positions"] == []
    flat = broker.api("GET", f"{ACCOUNT}/positions")[1]["positions"]
    assert [(p["instrument"], p["long"]["units"]) for p in flat] == [("EUR_USD", "0")]
    assert broker.api("GET", f"{ACCOUNT}/positions/GBP_USD")[0] == 404


def test_trades_are_closed_and_their_brackets_changed(broker: V20Server) -> None:
    order(broker, tradeClientExtensions={"id": "t"}, stopLossOnFill={"distance": "0.01000"})
    trade = broker.api("GET", f"{ACCOUNT}/trades/@t")[1]["trade"]
    assert trade["stopLossOrder"]["price"] == "1.09010"
    path = f"{ACCOUNT}/trades/@t/orders"
    body = {"stopLoss": {"price": "1.095"}, "takeProfit": {"price": "1.12"}}
    status, answer = broker.api("PUT", path, body)
    assert status == 200
    assert answer["stopLossOrderTransaction"]["reason"] == "REPLACEMENT"
    assert answer["takeProfitOrderTransaction"]["reason"] == "CLIENT_ORDER"
    status, answer = broker.api("PUT", path, {"takeProfit": None})
    assert answer["takeProfitOrderCancelTransaction"]["reason"] == "CLIENT_REQUEST"
    status, answer = broker.api("PUT", f"{ACCOUNT}/trades/@t/close", {"units": "400"})
    assert answer["orderFillTransaction"]["tradeReduced"]["units"] == "-400"
    status, answer = broker.api("PUT", f"{ACCOUNT}/trades/@t/close", {"units": "601"})
    assert status == 400 and answer["errorCode"] == "CLOSE_TRADE_UNITS_EXCEED_TRADE_SIZE"
    status, answer = broker.api("PUT", f"{ACCOUNT}/trades/@t/close", {"units": "ALL"})
    assert answer["orderFillTransaction"]["reason"] == "MARKET_ORDER_TRADE_CLOSE"
    assert broker.account()["pending"] == [] == broker.account()["openTrades"]
    closed = broker.api("GET", f"{ACCOUNT}/trades?state=CLOSED")[1]["trades"]
    assert closed[0]["averageClosePrice"] == "1.10000" and closed[0]["realizedPL"] == "-0.1000"
    assert broker.api("PUT", f"{ACCOUNT}/trades/@t/close", {"units": "ALL"})[0] == 404


# money


def test_figures_in_another_currency_are_exact(new_broker: Callable[..., V20Server]) -> None:
    broker = new_broker(currency="EUR", balance="50000", margin_rate="0.05")
    broker.price("EUR_USD", "1.25000", "1.25010")
    broker.price("USD_JPY", "150.000", "150.010")
    broker.price("EUR_JPY", "188.000", "188.020")
    broker.price("GBP_USD", "1.30000", "1.30020")
    order(broker, instrument="GBP_USD", units="10000")
    broker.price("GBP_USD", "1.31020", "1.31040")
    _, answer = broker.api("GET", f"{ACCOUNT}/summary")
    # 10,000 x (1.31020 - 1.30020) = 100 USD gained, at the ask: 100 / 1.25010
    assert answer["account"]["unrealizedPL"] == "79.9936"
    assert answer["account"]["NAV"] == "50079.9936"
    # 10,000 GBP at 1.31030 USD at 1.25005 EUR, 5 %
    assert answer["account"]["marginUsed"] == "524.0990"
    assert answer["account"]["marginAvailable"] == "49555.8946"
    _, answer = broker.api("PUT", f"{ACCOUNT}/positions/GBP_USD/close", {"longUnits": "ALL"})
    assert answer["longOrderFillTransaction"]["pl"] == "79.9936"
    assert answer["longOrderFillTransaction"]["accountBalance"] == "50079.9936"
    order(broker, instrument="USD_JPY", units="-1000")
    broker.price("USD_JPY", "151.000", "151.010")
    _, answer = broker.api("GET", f"{ACCOUNT}/summary")
    # 1,000 x 1.010 JPY lost, at the bid: / 188.000
    assert answer["account"]["unrealizedPL"] == "-5.3723"
    _, answer = broker.api("GET", f"{ACCOUNT}/pricing?instruments=USD_JPY")
    factors = answer["prices"][0]["quoteHomeConversionFactors"]
    assert factors == {"positiveUnits": "0.005318583129", "negativeUnits": "0.005319148936"}


def test_random_trading_adds_up(new_broker: Callable[..., V20Server]) -> None:
    broker, random = new_broker(currency="JPY", balance="10000000"), Random(7)
    for _ in range(60):
        name = random.choice(("EUR_USD", "USD_JPY", "USD_CHF"))
        units = str(random.choice((-1, 1)) * random.randrange(1, 20_000))
        more: Json = {}
        if random.random() < 0.3:
            more["stopLossOnFill"] = {"distance": "0.050" if "JPY" in name else "0.00050"}
        order(broker, instrument=name, units=units, **more)
        broker.advance(random.randrange(1, 900))
    told = broker.account()
    fills = [t for t in told["transactions"] if t["type"] == "ORDER_FILL"]
    assert len(fills) >= 55
    held: dict[str, Decimal] = {}
    balance = Decimal(10_000_000)
    for fill in fills:
        name = fill["instrument"]
        held[name] = held.get(name, Decimal(0)) + Decimal(fill["units"])
        balance += Decimal(fill["pl"])
        assert Decimal(fill["accountBalance"]) == balance
    assert {n: f"{u}" for n, u in held.items() if u} == told["positions"]
    summary = told["summary"]
    assert Decimal(summary["balance"]) == balance
    assert Decimal(summary["NAV"]) == balance + Decimal(summary["unrealizedPL"])
    ids = [t["id"] for t in told["transactions"]]
    assert ids == [str(i) for i in range(1, len(ids) + 1)]
    again = Account(broker.account_id)
    for transaction in told["transactions"]:
        again.apply(transaction)
    assert sorted(again.open) == sorted(told["openTrades"]) and again.balance == balance


def test_a_margin_closeout_closes_everything(new_broker: Callable[..., V20Server]) -> None:
    broker = new_broker(balance="1000")
    broker.price("EUR_USD", "1.10000", "1.10010")
    assert (
        "orderFillTransaction" in order(broker, units="40000", stopLossOnFill={"price": "1.0"})[1]
    )
    broker.price("EUR_USD", "1.08500", "1.08510")
    account = broker.account()
    assert account["positions"] == {} and account["pending"] == []
    assert ("MARKET_ORDER", "MARGIN_CLOSEOUT") in kinds(broker, 6)
    assert ("ORDER_FILL", "MARKET_ORDER_MARGIN_CLOSEOUT") in kinds(broker, 6)


# around the API


def test_who_may_do_what(broker: V20Server) -> None:
    path = f"/v3/accounts/{broker.account_id}/summary"
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": broker.token}):
        status, answer = broker.call("GET", path, headers=headers)
        assert status == 401 and "Insufficient authorization" in answer["errorMessage"]
    assert broker.api("GET", "/accounts/101-001-9999999-001/summary")[0] == 403
    assert broker.api("GET", "/nothing")[0] == 404
    assert broker.api("DELETE", f"{ACCOUNT}/orders")[0] == 405
    assert broker.token not in json.dumps(broker.requests())


def test_the_log_says_what_was_sent_but_no_token(broker: V20Server) -> None:
    order(broker, clientExtensions={"id": "logged"})
    entry = broker.requests("/orders")[-1]
    assert entry["method"] == "POST" and entry["status"] == 201
    assert json.loads(entry["body"])["order"]["clientExtensions"]["id"] == "logged"
    assert entry["headers"]["Authorization"] == "***"


def test_times_in_either_form(broker: V20Server) -> None:
    headers = {"Accept_Datetime_Format": "UNIX"}
    _, answer = broker.api("GET", f"{CANDLES}?count=1&granularity=M1", **headers)
    assert answer["candles"][0]["time"].endswith(".000000000")
    _, answer = broker.api("GET", f"{ACCOUNT}/transactions/1", **headers)
    assert answer["transaction"]["time"] == unix(parse_time(MONDAY))
    assert parse_time(unix(parse_time(MONDAY) + 7)) == parse_time(MONDAY) + 7
    assert parse_time("2026-01-05T14:00:00.5+02:00") == parse_time("2026-01-05T12:00:00.500000000Z")


def test_transactions_by_page_range_and_id(broker: V20Server) -> None:
    for _ in range(4):
        order(broker)
    _, answer = broker.api("GET", f"{ACCOUNT}/transactions?pageSize=5")
    assert answer["count"] == 11 and len(answer["pages"]) == 3
    got: list[str] = []
    for page in answer["pages"]:
        path = page.removeprefix(broker.url).removeprefix("/v3")
        got += [t["id"] for t in broker.api("GET", path)[1]["transactions"]]
    assert got == [str(i) for i in range(1, 12)]
    _, answer = broker.api("GET", f"{ACCOUNT}/transactions/sinceid?id=9&type=ORDER_FILL")
    assert [t["id"] for t in answer["transactions"]] == ["11"] and answer[
        "lastTransactionID"
    ] == "11"
    assert broker.api("GET", f"{ACCOUNT}/transactions/sinceid?id=12")[0] == 416
    assert broker.api("GET", f"{ACCOUNT}/transactions/idrange?from=3&to=2")[0] == 416
    assert broker.api("GET", f"{ACCOUNT}/transactions/12")[1]["errorCode"] == "NO_SUCH_TRANSACTION"


def test_changes_say_what_became_of_things(broker: V20Server) -> None:
    order(broker, stopLossOnFill={"price": "1.09"})
    order(broker, units="-400")
    since = broker.api("GET", f"{ACCOUNT}/summary")[1]["lastTransactionID"]
    order(broker, units="-600")
    _, answer = broker.api("GET", f"{ACCOUNT}/changes?sinceTransactionID={since}")
    changes = answer["changes"]
    assert [t["id"] for t in changes["tradesClosed"]] == ["5"]
    assert [o["type"] for o in changes["ordersCancelled"]] == ["STOP_LOSS"]
    assert [o["state"] for o in changes["ordersFilled"]] == ["FILLED"]
    assert answer["state"]["NAV"] == broker.account()["summary"]["NAV"]


def test_transactions_are_streamed(new_broker: Callable[..., V20Server]) -> None:
    broker = new_broker(heartbeat_sec=0.2)
    stream = lines(broker, f"{ACCOUNT}/transactions/stream", 50)
    first = next(stream)
    assert first["type"] == "HEARTBEAT" and first["lastTransactionID"] == "3"
    _, answer = order(broker)
    got = [line for line in (next(stream) for _ in range(4)) if line["type"] != "HEARTBEAT"]
    assert got[:2] == [answer["orderCreateTransaction"], answer["orderFillTransaction"]]
    stream.close()


def test_a_halt_is_streamed(new_broker: Callable[..., V20Server]) -> None:
    broker = new_broker()
    stream = lines(broker, f"{ACCOUNT}/pricing/stream?instruments=EUR_USD", 3)
    assert next(stream)["tradeable"] is True and next(stream)["type"] == "HEARTBEAT"
    broker.halt()
    assert next(stream)["status"] == "non-tradeable"
    stream.close()


def test_the_newest_candles_of_several(broker: V20Server) -> None:
    path = f"{ACCOUNT}/candles/latest?candleSpecifications=EUR_USD:M1:BM,USD_JPY:H1:A"
    status, answer = broker.api("GET", path)
    first, second = answer["latestCandles"]
    assert status == 200 and len(first["candles"]) == 2 == len(second["candles"])
    assert set(first["candles"][0]) == {"bid", "mid", "time", "volume", "complete"}
    path = f"{ACCOUNT}/candles/latest?candleSpecifications=EUR_USD"
    assert broker.api("GET", path)[0] == 400


def test_accounts_are_apart(new_broker: Callable[..., V20Server]) -> None:
    other = "101-001-1234567-002"
    broker = new_broker(more_accounts=(other,))
    order(broker)
    _, answer = broker.api("GET", "/accounts")
    assert [a["id"] for a in answer["accounts"]] == [broker.account_id, other]
    _, answer = broker.api("GET", f"/accounts/{other}/summary")
    assert answer["account"]["openTradeCount"] == 0 and answer["lastTransactionID"] == "3"


def test_the_clock_can_run_faster() -> None:
    with V20Server(speed=600, start=MONDAY, heartbeat_sec=0.1) as broker:
        stream = lines(broker, f"{ACCOUNT}/pricing/stream?instruments=EUR_USD,GBP_USD", 40)
        times = [line["time"] for line in stream if line["type"] == "PRICE"]
        assert len(times) > 10 and times[2:] == sorted(times[2:])
        assert parse_time(times[-1]) - parse_time(times[2]) > 60 * 1_000_000_000
        assert broker.violations() == []


# faults


def test_every_connection_can_be_dropped(new_broker: Callable[..., V20Server]) -> None:
    broker = new_broker(heartbeat_sec=0.1)
    stream = lines(broker, STREAM, 100)
    next(stream)
    assert broker.drop(reset=True) >= 1
    with pytest.raises((ValueError, http.client.HTTPException, OSError)):
        list(stream)
    assert broker.api("GET", f"{ACCOUNT}/summary")[0] == 200


def test_an_answer_can_be_lost_after_the_order_was_taken(broker: V20Server) -> None:
    broker.fault("lost_answer", count=1)
    assert order(broker, units="0")[0] == 400  # refused: nothing was accepted, nothing is lost
    with pytest.raises((http.client.HTTPException, OSError)):
        order(broker, clientExtensions={"id": "lost"})
    assert broker.account()["clientOrders"]["lost"]["filled"] == 1
    assert broker.requests("/orders")[-1]["fault"] == "lost_answer"
    assert order(broker)[0] == 201


def test_a_connection_can_end_before_anything_happened(broker: V20Server) -> None:
    broker.fault("cut_before", count=1, method="POST", path="/orders$", reset=True)
    with pytest.raises((http.client.HTTPException, OSError)):
        order(broker, clientExtensions={"id": "never"})
    assert broker.account()["clientOrders"] == {}


@pytest.mark.parametrize("kind", ["cut_after", "cut_middle", "wrong_json"])
def test_an_answer_can_come_to_harm(broker: V20Server, kind: str) -> None:
    broker.fault(kind, count=1)
    with pytest.raises((http.client.HTTPException, OSError, ValueError)):
        order(broker, clientExtensions={"id": "x"})
    assert broker.account()["clientOrders"]["x"]["filled"] == 1


def test_errors_of_the_server(broker: V20Server) -> None:
    broker.fault("status", code=429, retry_after=2, count=1)
    broker.fault("status", code=503, processed=True, count=1)
    connection = http.client.HTTPConnection("127.0.0.1", broker.port, timeout=PATIENCE_S)
    path = f"/v3/accounts/{broker.account_id}/summary"
    connection.request("GET", path, headers={"Authorization": f"Bearer {broker.token}"})
    response = connection.getresponse()
    response.read()
    assert response.status == 429 and response.headers["Retry-After"] == "2"
    connection.close()
    assert order(broker, clientExtensions={"id": "y"})[0] == 503
    assert broker.account()["clientOrders"]["y"]["filled"] == 1
    assert [f["struck"] for f in broker.faults()] == [1, 1]


def test_a_limit_of_requests(new_broker: Callable[..., V20Server]) -> None:
    broker = new_broker(requests_per_sec=5)
    statuses = [broker.api("GET", f"{ACCOUNT}/summary")[0] for _ in range(8)]
    assert statuses[:5] == [200] * 5 and statuses[5:] == [429] * 3


def test_orders_can_be_refused_or_cancelled_at_will(broker: V20Server) -> None:
    number = broker.fault("reject_order", reason="ACCOUNT_ORDER_CREATION_LOCKED", skip=1)
    assert order(broker)[0] == 201
    assert order(broker)[1]["errorCode"] == "ACCOUNT_ORDER_CREATION_LOCKED"
    broker.control("DELETE", f"/faults/{number}")
    broker.fault("cancel_order", reason="INSUFFICIENT_LIQUIDITY")
    assert order(broker)[1]["orderCancelTransaction"]["reason"] == "INSUFFICIENT_LIQUIDITY"
    broker.clear_faults()
    assert "orderFillTransaction" in order(broker)[1]


def test_chance_is_seeded(broker: V20Server) -> None:
    def run() -> list[int]:
        broker.clear_faults()
        broker.fault("status", code=500, probability=0.5, seed=11)
        return [broker.api("GET", f"{ACCOUNT}/summary")[0] for _ in range(12)]

    assert run() == run() and set(run()) == {200, 500}


def candle_times(broker: V20Server, count: int = 4) -> list[str]:
    _, answer = broker.api("GET", f"{CANDLES}?granularity=M1&count={count}&price=B")
    return [c["time"] for c in answer["candles"] if c["complete"]]


def test_candles_can_be_late_missing_or_double(new_broker: Callable[..., V20Server]) -> None:
    broker = new_broker()
    whole = candle_times(broker)
    one = {"instrument": "EUR_USD", "granularity": "M1", "time": whole[-1]}
    broker.fault("late_candle", delay_sec=300, **one)
    assert candle_times(broker) == whole[:-1]
    broker.advance(301)
    assert whole[-1] in candle_times(broker, 12)
    broker.clear_faults()
    broker.fault("missing_candle", **one)
    assert whole[-1] not in candle_times(broker, 12)
    broker.clear_faults()
    broker.fault("duplicate_candle", **one)
    assert candle_times(broker, 12).count(whole[-1]) == 2


def test_a_complete_candle_can_change_afterwards(new_broker: Callable[..., V20Server]) -> None:
    broker = new_broker()

    def last() -> Json:
        path = f"{CANDLES}?granularity=M1&price=MBA&from=2026-01-05T11:50:00Z&to={MONDAY}"
        return dict(broker.api("GET", path)[1]["candles"][-1])

    broker.fault("revised_candle", count=1, points=5, time=last()["time"])
    first = last()
    assert first == last()  # what was served before the fault was set is revised at once
    broker.clear_faults()
    assert first == last()
    whole = new_broker().api("GET", f"{CANDLES}?granularity=M1&price=MBA&to={MONDAY}&count=1")[1]
    before = whole["candles"][-1]
    moved = Decimal(first["bid"]["c"]) - Decimal(before["bid"]["c"])
    assert moved == Decimal("0.00005") and first["volume"] == before["volume"] + 1


STREAM = f"{ACCOUNT}/pricing/stream?instruments=EUR_USD,USD_JPY"


@pytest.mark.parametrize("kind", ["half_line", "end_stream"])
def test_a_stream_can_end(new_broker: Callable[..., V20Server], kind: str) -> None:
    broker = new_broker(heartbeat_sec=0.1)
    broker.fault(kind, count=1, skip=2)
    got = []
    with pytest.raises((ValueError, http.client.HTTPException, OSError)):
        for line in lines(broker, STREAM, 10):
            got.append(line)
    assert [line["type"] for line in got] == ["PRICE", "PRICE"]
    assert [line["type"] for line in lines(broker, STREAM, 3)] == ["PRICE", "PRICE", "HEARTBEAT"]


def test_a_stream_can_be_silent_or_split(new_broker: Callable[..., V20Server]) -> None:
    broker = new_broker(heartbeat_sec=0.1)
    broker.fault("split_line", count=2, delay_sec=0.05)
    assert [line["type"] for line in lines(broker, STREAM, 2)] == ["PRICE", "PRICE"]
    broker.fault("silent", count=1, skip=2, delay_sec=0.6)
    begun = time.monotonic()
    assert len(list(lines(broker, STREAM, 4))) == 4
    assert time.monotonic() - begun > 0.6
    broker.fault("no_heartbeat", count=3)
    begun = time.monotonic()
    assert [line["type"] for line in lines(broker, STREAM, 3)][2] == "HEARTBEAT"
    assert time.monotonic() - begun > 0.15


def test_the_clock_of_the_broker_can_be_wrong(broker: V20Server) -> None:
    broker.fault("clock_skew", seconds=-90)
    connection = http.client.HTTPConnection("127.0.0.1", broker.port, timeout=PATIENCE_S)
    path = f"/v3/accounts/{broker.account_id}/summary"
    connection.request("GET", path, headers={"Authorization": f"Bearer {broker.token}"})
    response = connection.getresponse()
    response.read()
    assert response.headers["Date"] == "Mon, 05 Jan 2026 11:58:30 GMT"
    assert response.headers["RequestID"]
    connection.close()


def test_an_unknown_fault_is_refused(broker: V20Server) -> None:
    with pytest.raises(ValueError, match="unknown fault"):
        broker.fault("earthquake")
    with pytest.raises(ValueError, match="unknown parameter"):
        broker.fault("slow", delay=3)
    with pytest.raises(ValueError, match="above the ask"):
        broker.price("EUR_USD", "1.2", "1.1")


# the process


def test_a_broker_that_was_killed_comes_back_the_same(tmp_path: Path) -> None:
    broker = V20Process(state=tmp_path / "state", speed=0, start=MONDAY, token="a-token")
    with broker:
        broker.price("EUR_USD", "1.10000", "1.10010")
        order(broker, clientExtensions={"id": "first"}, stopLossOnFill={"price": "1.09"})
        order(broker, type="LIMIT", price="1.05", timeInForce="GTC")
        broker.advance(90)
        before, port = broker.state(), broker.port
        broker.kill()
        with (tmp_path / "state").open("ab") as file:
            file.write(b'{"account": "101-001-1234567-001", "batch": [{"id": "9"')
        broker.start()
        assert broker.port == port and broker.token == "a-token"
        assert broker.state() == before
        broker.price("EUR_USD", "1.08000", "1.08010")
        assert broker.account()["positions"] == {}


def test_no_acknowledged_order_is_forgotten_by_a_kill(tmp_path: Path) -> None:
    with V20Process(state=tmp_path / "state", hours="always") as broker:
        acknowledged: list[str] = []

        def trade(name: str) -> None:
            for number in range(100_000):
                client_id = f"{name}-{number}"
                try:
                    status, _ = order(broker, units="1", clientExtensions={"id": client_id})
                except (OSError, http.client.HTTPException):
                    return
                if status == 201:
                    acknowledged.append(client_id)

        for attempt in range(3):
            threads = [Thread(target=trade, args=(f"{attempt}-{i}",)) for i in range(2)]
            for thread in threads:
                thread.start()
            before = len(acknowledged)
            until(lambda before=before: len(acknowledged) > before + 7, "orders are acknowledged")
            broker.kill()
            for thread in threads:
                thread.join()
            broker.start()
        told = broker.account()
        assert len(acknowledged) > 20
        assert all(told["clientOrders"][i]["filled"] == 1 for i in acknowledged)
        filled = sum(entry["filled"] for entry in told["clientOrders"].values())
        assert told["positions"] == {"EUR_USD": str(filled)}
        # at most the one order of each thread that was under way is there without an answer
        assert filled - len(acknowledged) <= 6


def opened(broker: Handle, **fields: Any) -> str:
    """Open a trade and return its id."""
    trade: str = order(broker, **fields)[1]["orderFillTransaction"]["tradeOpened"]["tradeID"]
    return trade


def test_a_trailing_stop_of_a_trade_follows_the_price_and_closes_it(broker: V20Server) -> None:
    trade = opened(broker)
    body = {"trailingStopLoss": {"distance": "0.00100"}}
    status, answer = broker.api("PUT", f"/accounts/{{account}}/trades/{trade}/orders", body)
    assert status == 200, answer
    assert answer["trailingStopLossOrderTransaction"]["distance"] == "0.00100"
    broker.price("EUR_USD", "1.10500", "1.10510")
    broker.price("EUR_USD", "1.10450", "1.10460")
    shown = broker.api("GET", f"/accounts/{{account}}/trades/{trade}")[1]["trade"]
    assert shown["trailingStopLossOrder"]["trailingStopValue"] == "1.10400"
    broker.price("EUR_USD", "1.10390", "1.10400")
    shown = broker.api("GET", f"/accounts/{{account}}/trades/{trade}")[1]["trade"]
    assert shown["state"] == "CLOSED"


def test_a_guaranteed_stop_is_filled_at_its_price(new_broker: Callable[..., V20Server]) -> None:
    broker = new_broker(guaranteed_stops=True)
    broker.price("EUR_USD", "1.10000", "1.10010")
    trade = opened(broker)
    body = {"stopLoss": {"price": "1.09000", "guaranteed": True}}
    status, answer = broker.api("PUT", f"/accounts/{{account}}/trades/{trade}/orders", body)
    assert status == 200 and answer["stopLossOrderTransaction"]["guaranteed"] is True
    broker.price("EUR_USD", "1.05000", "1.05010")
    shown = broker.api("GET", f"/accounts/{{account}}/trades/{trade}")[1]["trade"]
    assert (shown["state"], shown["averageClosePrice"]) == ("CLOSED", "1.09000")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            {"stopLoss": {"price": "1.09", "guaranteed": True}},
            "STOP_LOSS_ORDER_GUARANTEED_NOT_ALLOWED",
        ),
        ({"trailingStopLoss": {}}, "PRICE_DISTANCE_MISSING"),
        ({"guaranteedStopLoss": {"price": "1.09"}}, "guaranteedStopLoss"),
    ],
)
def test_a_stop_that_the_account_cannot_have_is_refused(
    broker: V20Server, body: Json, said: str
) -> None:
    trade = opened(broker)
    status, answer = broker.api("PUT", f"/accounts/{{account}}/trades/{trade}/orders", body)
    assert status == 400 and said in json.dumps(answer)
    shown = broker.api("GET", f"/accounts/{{account}}/trades/{trade}")[1]["trade"]
    assert "stopLossOrder" not in shown and "trailingStopLossOrder" not in shown


def test_with_next_tick_a_candle_is_complete_with_the_first_tick_after_its_end(
    new_broker: Callable[..., V20Server],
) -> None:
    broker = new_broker(next_tick=True)
    broker.price("EUR_USD", "1.10000", "1.10010")
    where = "/instruments/EUR_USD/candles?granularity=S5&count=1"

    def newest() -> Json:
        candle: Json = broker.api("GET", where)[1]["candles"][-1]
        return candle

    first = newest()
    broker.advance(30)
    assert newest() | {"complete": first["complete"]} == first and not newest()["complete"]
    broker.price("EUR_USD", "1.20000", "1.20010")
    status, answer = broker.api("GET", where.replace("count=1", "count=2"))
    assert status == 200
    assert [candle["complete"] for candle in answer["candles"]] == [True, False]


@pytest.mark.parametrize(
    ("instant", "name", "traded"),
    [
        ("2026-01-05T17:58:00Z", "NZD_USD", True),
        ("2026-01-05T18:00:00Z", "NZD_USD", False),
        ("2026-01-05T18:00:00Z", "EUR_USD", True),
        ("2026-01-05T18:05:00Z", "NZD_USD", True),
        ("2026-07-06T18:59:30Z", "NZD_USD", False),
    ],
)
def test_nzd_pauses_by_the_clock_of_auckland(
    new_broker: Callable[..., V20Server], instant: str, name: str, traded: bool
) -> None:
    broker = new_broker(nzd_pause=True, start=instant)
    prices = broker.api("GET", f"/accounts/{{account}}/pricing?instruments={name}")[1]["prices"]
    assert prices[0]["tradeable"] is traded
    without = new_broker(start=instant)
    prices = without.api("GET", f"/accounts/{{account}}/pricing?instruments={name}")[1]["prices"]
    assert prices[0]["tradeable"]
