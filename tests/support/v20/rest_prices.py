"""Candles and prices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.support.v20.amounts import parse_time, rfc3339
from tests.support.v20.call import Call
from tests.support.v20.candles import bars, candle_json, parse_query
from tests.support.v20.desk import Answer
from tests.support.v20.instruments import INSTRUMENTS
from tests.support.v20.orders import BadParameter
from tests.support.v20.views import home_conversions, price_json, units_available

Json = dict[str, Any]
MS = 1_000_000


def candles(call: Call) -> Answer:
    """GET /instruments/{instrument}/candles, with and without an account."""
    return Answer(200, _candles(call, call.match["instrument"], call.query))


def _candles(call: Call, name: str, given: Mapping[str, str]) -> Json:
    instrument = INSTRUMENTS.get(name)
    if name in call.exchange.delisted:
        instrument = None
    if instrument is None:
        raise BadParameter("instrument")
    now_ms = call.exchange.now_ns() // MS
    query = parse_query(name, given, now_ms)
    found = bars(call.exchange.market, query, now_ms)
    shown = call.broker.faults.candles(name, query.granularity, found, now_ms)

    made = [candle_json(bar, query.sides, instrument.text_of) for bar in shown]
    return {"instrument": name, "granularity": query.granularity, "candles": made}


def pricing(call: Call) -> Answer:
    """GET /accounts/{account}/pricing."""
    names, exchange = call.names(required=True), call.exchange
    now_ns = exchange.now_ns()
    since = call.query.get("since")
    since_ns = parse_time(since) if since else None
    prices = []
    for name in dict.fromkeys(names):
        tick = exchange.market.at(name, now_ns // MS)
        if since_ns is not None and tick.time_ms * MS <= since_ns:
            continue
        tradeable = exchange.market.trading(name, now_ns // MS)
        price = price_json(call.account, name, tick, tradeable, exchange.quotes)
        if call.query.get("includeUnitsAvailable", "true").lower() == "true":
            price["unitsAvailable"] = units_available(call.account, name, exchange.quotes)
        prices.append(price)
    body: Json = {"time": rfc3339(now_ns), "prices": prices}
    if call.query.get("includeHomeConversions", "false").lower() == "true":
        body["homeConversions"] = home_conversions(call.account, names, exchange.quotes)
    return Answer(200, body)


def latest_candles(call: Call) -> Answer:
    """GET /accounts/{account}/candles/latest: the newest candle and the one before."""
    specifications = [s for s in call.query.get("candleSpecifications", "").split(",") if s]
    if not specifications:
        raise BadParameter("candleSpecifications")
    made = []
    for text in specifications:
        parts = text.split(":")
        if len(parts) != 3:
            raise BadParameter("candleSpecifications")
        name, granularity, sides = parts
        given = {"granularity": granularity, "price": sides, "count": "2"}
        made.append(_candles(call, name, given))
    return Answer(200, {"latestCandles": made})
