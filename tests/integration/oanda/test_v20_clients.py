"""The two public Python clients of OANDA's API against the test broker: every call they have.

``oandapyV20`` raises where the status is not the expected one; ``v20`` reads answers into classes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import oandapyV20
import pytest
import v20
from oandapyV20.endpoints import (
    accounts,
    forexlabs,
    instruments,
    orders,
    positions,
    pricing,
    trades,
    transactions,
)

from tests.support.v20 import V20Process

START = "2026-01-05T12:00:00Z"
MODULES = (accounts, instruments, orders, positions, pricing, trades, transactions)
CLOSED_BY_OANDA = forexlabs
"""OANDA has taken the forexlabs endpoints away; the broker does not have them either."""
NOT_AT_THE_BROKER = {
    "instrument.price",
    "instrument.prices",
    "pricing.base_prices",
    "pricing.get_price_range",
    "pricing.candles",
    "user.get_info",
    "user.get_external_info",
}
"""Methods of ``v20`` for endpoints that OANDA's public description does not have, and one whose
path (``/accounts/{id}/instruments/{name}/candles``) is called by hand below."""
Json = dict[str, Any]


@pytest.fixture(scope="module")
def broker() -> Iterator[V20Process]:
    with V20Process(speed=0, start=START, heartbeat_sec=0.1, contract="published") as made:
        made.price("EUR_USD", "1.10000", "1.10010")
        yield made
        assert made.violations() == []


@pytest.fixture
def public(broker: V20Process) -> Iterator[Callable[[Any], Json]]:
    """Return what sends a request of ``oandapyV20``."""
    api = oandapyV20.API(access_token=broker.token)
    # its addresses stand in a table of the module
    environment = {"api": broker.url, "stream": broker.stream_url}
    oandapyV20.oandapyV20.TRADING_ENVIRONMENTS["test"] = environment
    api.environment = "test"
    yield api.request
    api.client.close()


def market_order(units: int = 100, **more: Any) -> Json:
    fields = {"type": "MARKET", "instrument": "EUR_USD", "units": str(units), **more}
    return {"order": fields}


def limit_order(price: str = "1.05000") -> Json:
    fields = {"type": "LIMIT", "instrument": "EUR_USD", "units": "10", "price": price}
    return {"order": {**fields, "timeInForce": "GTC"}}


def test_every_endpoint_of_oandapyv20(broker: V20Process, public: Callable[[Any], Json]) -> None:
    account, used = broker.account_id, set[str]()

    def ask(request: Any) -> Any:
        used.add(type(request).__name__)
        return public(request)

    assert ask(accounts.AccountList())["accounts"][0]["id"] == account
    assert ask(accounts.AccountDetails(account))["account"]["id"] == account
    assert ask(accounts.AccountSummary(account))["account"]["currency"] == "USD"
    names = ask(accounts.AccountInstruments(account))["instruments"]
    assert "EUR_USD" in {each["name"] for each in names}
    ask(accounts.AccountConfiguration(account, data={"alias": "a name"}))

    candles = ask(instruments.InstrumentsCandles("EUR_USD", params={"count": 5}))["candles"]
    assert len(candles) == 5
    book = ask(instruments.InstrumentsOrderBook("EUR_USD", params={}))["orderBook"]
    require_book(book)
    require_book(ask(instruments.InstrumentsPositionBook("EUR_USD", params={}))["positionBook"])

    filled = ask(orders.OrderCreate(account, data=market_order()))
    trade = filled["orderFillTransaction"]["tradeOpened"]["tradeID"]
    resting = ask(orders.OrderCreate(account, data=limit_order()))["orderCreateTransaction"]["id"]
    assert [o["id"] for o in ask(orders.OrderList(account))["orders"]] == [resting]
    assert [o["id"] for o in ask(orders.OrdersPending(account))["orders"]] == [resting]
    assert ask(orders.OrderDetails(account, orderID=resting))["order"]["price"] == "1.05000"
    tagged = {"clientExtensions": {"tag": "mine"}}
    ask(orders.OrderClientExtensions(account, orderID=resting, data=tagged))
    replaced = ask(orders.OrderReplace(account, orderID=resting, data=limit_order("1.04000")))
    newer = replaced["orderCreateTransaction"]["id"]
    ask(orders.OrderCancel(account, orderID=newer))
    assert ask(orders.OrdersPending(account))["orders"] == []

    assert [t["id"] for t in ask(trades.TradesList(account))["trades"]] == [trade]
    assert [t["id"] for t in ask(trades.OpenTrades(account))["trades"]] == [trade]
    ask(trades.TradeClientExtensions(account, tradeID=trade, data=tagged))
    ask(trades.TradeCRCDO(account, tradeID=trade, data={"stopLoss": {"price": "1.05000"}}))
    found = ask(trades.TradeDetails(account, tradeID=trade))["trade"]
    assert found["stopLossOrder"]["price"] == "1.05000"
    ask(trades.TradeClose(account, tradeID=trade, data={"units": "40"}))

    assert ask(positions.OpenPositions(account))["positions"][0]["long"]["units"] == "60"
    assert len(ask(positions.PositionList(account))["positions"]) == 1
    found = ask(positions.PositionDetails(account, instrument="EUR_USD"))["position"]
    assert found["long"]["units"] == "60"
    ask(positions.PositionClose(account, instrument="EUR_USD", data={"longUnits": "ALL"}))
    assert ask(positions.OpenPositions(account))["positions"] == []

    prices = ask(pricing.PricingInfo(account, params={"instruments": "EUR_USD"}))["prices"]
    assert prices[0]["bids"][0]["price"] == "1.10000"
    first = next(ask(pricing.PricingStream(account, params={"instruments": "EUR_USD"})))
    assert first["instrument"] == "EUR_USD"

    pages = ask(transactions.TransactionList(account))
    assert pages["count"] == int(pages["lastTransactionID"])
    assert ask(transactions.TransactionDetails(account, transactionID=trade))["transaction"]
    some = ask(transactions.TransactionIDRange(account, params={"from": 1, "to": 4}))
    assert [t["id"] for t in some["transactions"]] == ["1", "2", "3", "4"]
    rest = ask(transactions.TransactionsSinceID(account, params={"id": 4}))["transactions"]
    assert rest[0]["id"] == "5"
    assert next(ask(transactions.TransactionsStream(account)))["type"] == "HEARTBEAT"
    changed = ask(accounts.AccountChanges(account, params={"sinceTransactionID": 1}))["changes"]
    assert [t["id"] for t in changed["tradesClosed"]] == [trade]

    every = {
        name
        for module in MODULES
        for name, each in inspect.getmembers(module, inspect.isclass)
        if each.__module__ == module.__name__ and getattr(each, "ENDPOINT", "")
    }
    assert used == every


def require_book(book: Json) -> None:
    shares = [
        float(bucket[side])
        for bucket in book["buckets"]
        for side in ("longCountPercent", "shortCountPercent")
    ]
    assert sum(shares) == pytest.approx(100.0) and min(shares) > 0.0
    width = float(book["bucketWidth"])
    levels = [float(bucket["price"]) for bucket in book["buckets"]]
    assert levels == sorted(levels)
    assert min(levels) < float(book["price"]) < max(levels) + width


def test_a_refusal_is_an_error_of_oandapyv20(
    broker: V20Process, public: Callable[[Any], Json]
) -> None:
    with pytest.raises(oandapyV20.exceptions.V20Error) as refused:
        public(orders.OrderCreate(broker.account_id, data=market_order(0)))
    assert "UNITS_INVALID" in str(refused.value)


def test_every_method_of_v20(broker: V20Process) -> None:
    api = v20.Context(
        "127.0.0.1", port=broker.port, ssl=False, token=broker.token, datetime_format="UNIX"
    )
    account, used = broker.account_id, set[str]()

    def ask(method: Any, status: int, *given: Any, **more: Any) -> Any:
        used.add(f"{type(method.__self__).__module__.rpartition('.')[2]}.{method.__name__}")
        answer = method(*given, **more)
        assert answer.status == status, answer.raw_body
        return answer

    assert ask(api.account.list, 200).get("accounts")[0].id == account
    assert ask(api.account.get, 200, account).get("account").id == account
    assert ask(api.account.summary, 200, account).get("account").currency == "USD"
    assert ask(api.account.instruments, 200, account, instruments="EUR_USD").get("instruments")
    ask(api.account.configure, 200, account, alias="another name")
    assert ask(api.instrument.candles, 200, "EUR_USD", count=3).get("candles")[0].mid is not None
    book = ask(api.instrument.order_book, 200, "EUR_USD").get("orderBook", 200)
    assert book.buckets
    assert ask(api.instrument.position_book, 200, "EUR_USD").get("positionBook", 200).buckets

    usual: Json = {"instrument": "EUR_USD", "units": 10}
    filled = ask(api.order.market, 201, account, **usual).get("orderFillTransaction", 201)
    trade = filled.tradeOpened.tradeID
    second = ask(api.order.create, 201, account, order=market_order()["order"])
    other = second.get("orderFillTransaction", 201).tradeOpened.tradeID

    def created(answer: Any) -> str:
        made: str = answer.get("orderCreateTransaction", 201).id
        return made

    resting = usual | {"timeInForce": "GTC"}
    touched = created(ask(api.order.market_if_touched, 201, account, price="1.05", **resting))
    touched = created(
        ask(api.order.market_if_touched_replace, 201, account, touched, price="1.04", **resting)
    )
    stop = created(ask(api.order.stop, 201, account, price="1.20", **resting))
    stop = created(ask(api.order.stop_replace, 201, account, stop, price="1.21", **resting))
    limit = created(ask(api.order.limit, 201, account, price="1.05", **resting))
    limit = created(ask(api.order.limit_replace, 201, account, limit, price="1.04", **resting))
    limit = created(
        ask(api.order.replace, 201, account, limit, order=limit_order("1.03000")["order"])
    )
    mine = {"clientExtensions": {"id": "my limit"}}
    ask(api.order.set_client_extensions, 200, account, limit, **mine)
    assert ask(api.order.get, 200, account, "@my limit").get("order").id == limit
    listed = ask(api.order.list, 200, account).get("orders")
    assert {o.id for o in listed} == {touched, stop, limit}
    assert len(ask(api.order.list_pending, 200, account).get("orders")) == 3
    for each in (touched, stop, limit):
        ask(api.order.cancel, 200, account, each)

    gain = created(ask(api.order.take_profit, 201, account, tradeID=trade, price="1.20"))
    created(ask(api.order.take_profit_replace, 201, account, gain, tradeID=trade, price="1.21"))
    loss = created(ask(api.order.stop_loss, 201, account, tradeID=trade, price="1.01"))
    created(ask(api.order.stop_loss_replace, 201, account, loss, tradeID=trade, price="1.02"))
    trail = created(ask(api.order.trailing_stop_loss, 201, account, tradeID=other, distance="0.05"))
    created(
        ask(
            api.order.trailing_stop_loss_replace,
            201,
            *(account, trail),
            tradeID=other,
            distance="0.06",
        )
    )
    ask(api.trade.set_dependent_orders, 200, account, trade, takeProfit={"price": "1.22"})
    shown = ask(api.trade.get, 200, account, trade).get("trade")
    assert (shown.takeProfitOrder.price, shown.stopLossOrder.price) == (1.22, 1.02)
    assert ask(api.trade.get, 200, account, other).get("trade").trailingStopLossOrder is not None
    assert len(ask(api.trade.list, 200, account).get("trades")) == 2
    assert len(ask(api.trade.list_open, 200, account).get("trades")) == 2
    ask(api.trade.set_client_extensions, 200, account, trade, clientExtensions={"tag": "mine"})
    ask(api.trade.close, 200, account, trade, units="ALL")

    assert ask(api.position.list, 200, account).get("positions")
    assert len(ask(api.position.list_open, 200, account).get("positions")) == 1
    assert ask(api.position.get, 200, account, "EUR_USD").get("position").long.units == 100
    ask(api.position.close, 200, account, "EUR_USD", longUnits="ALL")

    priced = ask(api.pricing.get, 200, account, instruments="EUR_USD").get("prices")
    assert priced[0].bids[0].price == 1.1
    stream = ask(api.pricing.stream, 200, account, instruments="EUR_USD", snapshot=True)
    kind, price = next(stream.parts())
    assert (kind, price.instrument) == ("pricing.ClientPrice", "EUR_USD")
    ask(api.transaction.list, 200, account)
    assert ask(api.transaction.get, 200, account, "1").get("transaction").type == "CREATE"
    rows = ask(api.transaction.range, 200, account, fromID=1, toID=3).get("transactions")
    assert len(rows) == 3
    assert ask(api.transaction.since, 200, account, id=3).get("transactions")[0].id == "4"
    stream = ask(api.transaction.stream, 200, account)
    assert next(stream.parts())[0] == "transaction.TransactionHeartbeat"
    changes = ask(api.account.changes, 200, account, sinceTransactionID=1).get("changes")
    assert {t.id for t in changes.tradesClosed} >= {trade, other}

    every = {
        f"{name}.{method}"
        for name in (
            *("account", "instrument", "order", "position"),
            *("pricing", "trade", "transaction", "user"),
        )
        for method, _ in inspect.getmembers(type(getattr(api, name)), inspect.isfunction)
        if not method.startswith("_")
    }
    assert used == every - NOT_AT_THE_BROKER
    status, answer = broker.api("GET", "/accounts/{account}/instruments/EUR_USD/candles?count=2")
    assert status == 200 and len(answer["candles"]) == 2
