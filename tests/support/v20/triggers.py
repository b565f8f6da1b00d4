"""When a pending order is filled, and when it ends by itself."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from tests.support.v20.account import Account
from tests.support.v20.amounts import NS, parse_time
from tests.support.v20.candles import Alignment, span
from tests.support.v20.instruments import INSTRUMENTS
from tests.support.v20.market import Market, Tick

Json = dict[str, Any]


def order_instrument(account: Account, order: Json) -> str:
    """Return the instrument that decides about an order."""
    if "instrument" in order:
        return str(order["instrument"])
    return account.trades[order["tradeID"]].instrument


def triggered(account: Account, order: Json, tick: Tick, market: Market) -> bool:
    """Return whether a pending order is filled at this tick.

    Parameters
    ----------
    account
        Of the order.
    order
        The pending order.
    tick
        The price now.
    market
        For the price when it was placed: on which side of it an if-touched order waits.
    """
    name = order_instrument(account, order)
    instrument = INSTRUMENTS[name]
    if order["type"] == "TRAILING_STOP_LOSS":
        return _trailed(account, order, tick)
    price = instrument.points(Decimal(order["price"]))
    if order["type"] in ("TAKE_PROFIT", "STOP_LOSS"):
        long = account.open[order["tradeID"]].units > 0
        now = _side_price(order, tick, buying=not long)
        above = long == (order["type"] == "TAKE_PROFIT")
        return now >= price if above else now <= price
    buying = Decimal(order["units"]) > 0
    now = _side_price(order, tick, buying)
    if order["type"] == "LIMIT":
        return now <= price if buying else now >= price
    if order["type"] == "STOP":
        return now >= price if buying else now <= price
    placed = market.at(name, parse_time(order["createTime"]) // (NS // 1000))
    then = _side_price(order, placed, buying)
    return now <= price if then > price else now >= price


def _trailed(account: Account, order: Json, tick: Tick) -> bool:
    """Let a trailing stop follow a tick; return whether the tick fills it.

    Where it has come to is kept with the order and stands in no transaction: a broker that starts
    again begins anew at the price then.
    """
    trade = account.open[order["tradeID"]]
    instrument, long = INSTRUMENTS[trade.instrument], trade.units > 0
    now, away = _side_price(order, tick, not long), instrument.points(Decimal(order["distance"]))
    stop = now - away if long else now + away
    if "trailingStopValue" in order:
        before = instrument.points(Decimal(order["trailingStopValue"]))
        stop = max(stop, before) if long else min(stop, before)
    order["trailingStopValue"] = instrument.text(instrument.price(stop))
    return now <= stop if long else now >= stop


def _side_price(order: Json, tick: Tick, buying: bool) -> int:
    condition = order.get("triggerCondition", "DEFAULT")
    if condition == "MID":
        return (tick.bid + tick.ask) // 2
    if condition in ("BID", "ASK"):
        return tick.bid if condition == "BID" else tick.ask
    return tick.ask if buying != (condition == "INVERSE") else tick.bid


def expiry_ns(order: Json) -> int | None:
    """Return when a pending order ends by itself."""
    if order.get("timeInForce") == "GTD":
        return parse_time(order["gtdTime"])
    if order.get("timeInForce") == "GFD":
        created = parse_time(order["createTime"]) // 1_000_000
        return span("D", created, Alignment())[1] * (NS // 1000)
    return None
