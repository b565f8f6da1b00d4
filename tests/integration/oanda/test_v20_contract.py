"""The test broker against OANDA's own description and recorded answers, and the validator itself.

OANDA's files are not part of the project: the description is put together from packages that OANDA
and others publish, and where the files are at hand everything is tested against them as well.
"""

from __future__ import annotations

import copy
import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.v20 import Handle, V20Process
from tests.support.v20.contract import EXCEPTIONS, UNDESCRIBED_PATHS, Contract
from tests.support.v20.recorded import form_faults, form_of
from tests.support.v20.rest import ROUTES
from tests.support.waiting import PATIENCE_S

A = "/accounts/{account}"
START = "2026-01-05T12:00:00Z"
Json = dict[str, Any]


AT_HAND = Contract.available()


@pytest.fixture(scope="module", params=["published", *(["at hand"] if AT_HAND else [])])
def source(request: pytest.FixtureRequest) -> str:
    """Where the description and the recorded answers come from."""
    return str(request.param)


@pytest.fixture(scope="module")
def contract(source: str) -> Contract:
    """OANDA's description with the recorded answers."""
    return AT_HAND if source == "at hand" and AT_HAND else Contract.published()


@pytest.fixture(scope="module")
def broker(source: str) -> Iterator[V20Process]:
    """A broker in which every kind of thing has happened once."""
    options = {"currency": "EUR", "heartbeat_sec": 0.1, "contract": source}
    with V20Process(speed=0, start=START, **options) as made:
        everything(made)
        yield made


def send(broker: Handle, **fields: Any) -> Json:
    usual = {"type": "MARKET", "instrument": "EUR_USD", "units": "1000"}
    answer: Json = broker.api("POST", f"{A}/orders", {"order": usual | fields})[1]
    return answer


def everything(broker: Handle) -> None:
    """Use every endpoint for good and for bad."""
    resting: Json = {"type": "LIMIT", "price": "1.00000", "timeInForce": "GTC"}
    broker.price("EUR_USD", "1.10000", "1.10010")
    send(
        broker,
        timeInForce="FOK",
        positionFill="DEFAULT",
        clientExtensions={"id": "a", "tag": "t", "comment": "c"},
        tradeClientExtensions={"id": "trade"},
        stopLossOnFill={"price": "1.05", "timeInForce": "GTC"},
        takeProfitOnFill={"price": "1.2"},
    )
    send(broker, **resting, clientExtensions={"id": "limit"}, stopLossOnFill={"distance": "0.01"})
    send(broker, **resting, clientExtensions={"id": "limit"})
    send(broker, type="STOP", price="1.15", timeInForce="GTD", gtdTime="2026-02-01T00:00:00Z")
    send(broker, type="MARKET_IF_TOUCHED", price="1.14", timeInForce="GFD")
    send(broker, units="-300")
    send(broker, units="-5000", instrument="USD_JPY")
    send(broker, units="90000000")
    send(broker, units="0")
    order = {"order": {"instrument": "EUR_USD", "units": "5"} | resting}
    for method, path, body in (
        ("PUT", f"{A}/orders/@limit", order),
        ("PUT", f"{A}/orders/@limit/clientExtensions", {"clientExtensions": {"tag": "new"}}),
        ("PUT", f"{A}/orders/@nobody/clientExtensions", {"clientExtensions": {"tag": "new"}}),
        ("PUT", f"{A}/orders/@limit/cancel", None),
        ("PUT", f"{A}/orders/@limit/cancel", None),
        ("PUT", f"{A}/orders/@limit", order),
        ("PUT", f"{A}/trades/@trade/orders", {"stopLoss": {"price": "1.06"}, "takeProfit": None}),
        ("PUT", f"{A}/trades/@trade/orders", {"takeProfit": {"price": "1.21"}}),
        ("PUT", f"{A}/trades/@trade/orders", {"stopLoss": {"price": "1.1234567"}}),
        ("PUT", f"{A}/trades/@nobody/orders", {"takeProfit": {"price": "1.21"}}),
        ("PUT", f"{A}/trades/@trade/clientExtensions", {"clientExtensions": {"comment": "x"}}),
        ("PUT", f"{A}/trades/99/clientExtensions", {"clientExtensions": {"comment": "x"}}),
        ("PUT", f"{A}/trades/@trade/close", {"units": "100"}),
        ("PUT", f"{A}/trades/@trade/close", {"units": "100000"}),
        ("PUT", f"{A}/trades/@nobody/close", {"units": "ALL"}),
        ("PUT", f"{A}/positions/USD_JPY/close", {"longUnits": "ALL"}),
        ("PUT", f"{A}/positions/USD_CHF/close", {"longUnits": "ALL"}),
        ("PUT", f"{A}/positions/USD_JPY/close", {"longUnits": "NONE", "shortUnits": "2000"}),
        ("PATCH", f"{A}/configuration", {"marginRate": "0.04", "alias": "name"}),
        ("PATCH", f"{A}/configuration", {"marginRate": "7"}),
    ):
        broker.api(method, path, body)
    broker.price("EUR_USD", "1.04000", "1.04010")
    broker.advance(3600)


READS = (
    "/accounts",
    A,
    f"{A}/summary",
    f"{A}/instruments",
    f"{A}/instruments?instruments=EUR_USD,USD_JPY",
    f"{A}/changes?sinceTransactionID=3",
    f"{A}/changes?sinceTransactionID=999999",
    "/instruments/USD_JPY/candles?granularity=M1&count=3&price=MBA",
    f"/instruments/USD_JPY/candles?granularity=H4&from={START}&price=M&smooth=false",
    f"{A}/instruments/USD_JPY/candles?granularity=S5&count=10&price=BA",
    "/instruments/USD_JPY/candles?granularity=M7",
    f"{A}/candles/latest?candleSpecifications=EUR_USD:M1:BM,USD_JPY:H1:M",
    "/instruments/XXX_YYY/candles",
    f"{A}/pricing?instruments=EUR_USD,USD_JPY&includeHomeConversions=true",
    f"{A}/pricing?instruments=XXX_YYY",
    f"{A}/orders",
    f"{A}/orders?state=ALL&count=500",
    f"{A}/pendingOrders",
    f"{A}/orders/999",
    f"{A}/trades?state=ALL",
    f"{A}/openTrades",
    f"{A}/trades/5",
    f"{A}/trades/999",
    f"{A}/positions",
    f"{A}/openPositions",
    f"{A}/positions/EUR_USD",
    f"{A}/positions/USD_CAD",
    f"{A}/transactions",
    f"{A}/transactions?pageSize=7&type=ORDER",
    f"{A}/transactions/5",
    f"{A}/transactions/999",
    f"{A}/transactions/idrange?from=1&to=20",
    f"{A}/transactions/idrange?from=20&to=1",
    f"{A}/transactions/sinceid?id=1",
    f"{A}/transactions/sinceid?id=999",
    "/accounts/101-001-1-001/summary",
)


@pytest.mark.parametrize("path", READS)
def test_every_answer_is_as_described(broker: V20Process, contract: Contract, path: str) -> None:
    status, answer = broker.api("GET", path)
    plain = path.split("?")[0].replace("{account}", broker.account_id)
    assert contract.response("GET", plain, status, answer) == []


def test_nothing_that_happened_broke_the_contract(broker: V20Process) -> None:
    assert broker.state()["validated"] is True
    kinds = {t["type"] for t in broker.account()["transactions"]}
    assert len(kinds) >= 18, "the scene does not make the transactions it should"
    assert [v["text"] for v in broker.violations() if v["of"] != "request"] == []
    asked = [v["text"] for v in broker.violations() if v["of"] == "request"]
    assert asked == []


@pytest.mark.parametrize(
    "stream", ["pricing/stream?instruments=EUR_USD,USD_JPY", "transactions/stream"]
)
def test_streams_are_as_described(broker: V20Process, contract: Contract, stream: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", broker.port, timeout=PATIENCE_S)
    path = f"/v3/accounts/{broker.account_id}/{stream}"
    connection.request("GET", path, headers={"Authorization": f"Bearer {broker.token}"})
    response = connection.getresponse()
    if stream.startswith("transactions"):
        send(broker, instrument="USD_CHF", units="10")
    lines = [json.loads(response.readline()) for _ in range(4)]
    connection.close()
    assert {line["type"] for line in lines} >= {"HEARTBEAT"} and len({x["type"] for x in lines}) > 1
    for line in lines:
        assert contract.line(path.split("?")[0], line) == []


def test_the_routes_are_described(contract: Contract) -> None:
    for method, path, _ in ROUTES:
        known = path.removeprefix("/v3").replace("{account}", "{accountID}") in UNDESCRIBED_PATHS
        described = contract.endpoint(path.replace("{", "").replace("}", ""))
        assert known or described is not None, f"{method} {path}"


# the validator: what it must notice

CREATE = ("POST", "/v3/accounts/101-001-1-001/orders")


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"order": {"type": "MARKET", "instrument": "EUR_USD", "units": 100}}, "units"),
        ({"order": {"type": "MARKET", "instrument": "EUR_USD"}}, "units"),
        ({"order": {"type": "MARKET", "instrument": "EURUSD", "units": "1"}}, "instrument"),
        ({"order": {"type": "NO", "instrument": "EUR_USD", "units": "1"}}, "NO"),
        (
            {"order": {"type": "MARKET", "instrument": "EUR_USD", "units": "1", "price": "1"}},
            "price",
        ),
        (
            {"order": {"type": "LIMIT", "instrument": "EUR_USD", "units": "1", "price": 1.1}},
            "price",
        ),
        (
            {
                "order": {
                    "type": "MARKET",
                    "instrument": "EUR_USD",
                    "units": "1",
                    "clientExtensions": {"ID": "x"},
                }
            },
            "ID",
        ),
        ({"orders": {}}, "orders"),
        (None, "body"),
    ],
)
def test_a_wrong_order_is_noticed(contract: Contract, body: Json | None, word: str) -> None:
    found = contract.request(*CREATE, {}, body)
    assert found and word in " ".join(found)


@pytest.mark.parametrize(
    ("method", "path", "query", "word"),
    [
        ("GET", "/v3/accounts/1/pricing", {}, "instruments"),
        ("GET", "/v3/accounts/1/summary", {"a": "b"}, "'a'"),
        ("GET", "/v3/instruments/EUR_USD/candles", {"count": "many"}, "count"),
        ("GET", "/v3/instruments/EUR_USD/candles", {"from": "yesterday"}, "from"),
        ("GET", "/v3/instruments/EUR_USD/candles", {"smooth": "no"}, "smooth"),
        ("GET", "/v3/nothing", {}, "no such endpoint"),
        ("DELETE", "/v3/accounts/1/orders", {}, "no such endpoint"),
    ],
)
def test_a_wrong_query_is_noticed(
    contract: Contract, method: str, path: str, query: dict[str, str], word: str
) -> None:
    found = contract.request(method, path, query, None)
    assert found and word in " ".join(found)


def test_right_requests_are_right(contract: Contract) -> None:
    order = {
        "type": "MARKET",
        "instrument": "USD_JPY",
        "units": "-100",
        "timeInForce": "FOK",
        "positionFill": "DEFAULT",
        "clientExtensions": {"id": "x"},
        "stopLossOnFill": {"price": "150.123", "timeInForce": "GTC"},
    }
    assert contract.request(*CREATE, {}, {"order": order}) == []
    candles = {"price": "MBA", "granularity": "M1", "from": "2026-01-05T12:00:00.000000000Z"}
    assert contract.request("GET", "/v3/instruments/EUR_USD/candles", candles, None) == []
    close = "/accounts/101-001-1-001/positions/EUR_USD/close"
    assert contract.request("PUT", close, {}, {"longUnits": "ALL"}) == []


def _set(body: Json, path: str, value: Any) -> Json:
    changed = copy.deepcopy(body)
    inner = changed
    *way, last = path.split(".")
    for step in way:
        inner = inner[step]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return changed


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("orderFillTransaction.price", 1.1),
        ("orderFillTransaction.price", "cheap"),
        ("orderFillTransaction.surprise", "x"),
        ("orderFillTransaction.type", "ORDER_FILLED"),
        ("orderFillTransaction.id", 5),
        ("orderFillTransaction.time", "noon"),
        ("orderCreateTransaction.timeInForce", "NOW"),
        ("orderCreateTransaction.type", None),
        ("lastTransactionID", 5),
        ("relatedTransactionIDs", "4"),
    ],
)
def test_a_wrong_answer_is_noticed(
    broker: V20Process, contract: Contract, path: str, value: Any
) -> None:
    answer = send(broker, instrument="USD_CHF", units="1")
    assert contract.response(*CREATE, 201, answer) == []
    assert contract.response(*CREATE, 201, _set(answer, path, value)) != []


def test_the_recorded_form_counts() -> None:
    recorded = form_of(
        {"a": [{"type": "X", "p": "1.5"}, {"type": "Y", "p": 3}], "t": "2016-01-01T00:00:00Z"}
    )
    good = form_of({"a": [{"type": "X", "p": "7", "new": True}], "t": "2026-01-01T00:00:00.5Z"})
    assert list(form_faults(recorded, good)) == []
    bad = form_of({"a": [{"type": "X", "p": 1.5}], "t": 12})
    assert len(list(form_faults(recorded, bad))) == 2


def test_every_exception_has_its_reason() -> None:
    assert len({(e.where, e.field) for e in EXCEPTIONS}) == len(EXCEPTIONS)
    assert all(len(e.reason) > 10 for e in EXCEPTIONS)
