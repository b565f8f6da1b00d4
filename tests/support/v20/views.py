"""Orders, trades, positions, accounts and prices as the API shows them."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from tests.support.v20.account import Account, SideTotals, Trade
from tests.support.v20.amounts import ZERO, factor, money, ratio, rfc3339, units_text
from tests.support.v20.instruments import INSTRUMENTS
from tests.support.v20.market import Tick
from tests.support.v20.valuation import Quotes, factors, figures, margin, unrealized

Json = dict[str, Any]

LADDER = ((0, 1_000_000), (1, 2_000_000), (2, 5_000_000), (4, 10_000_000))
"""Liquidity: points beyond the best price, units there."""

CLOSEOUT_POINTS = 4
DEPENDENT = {
    "TAKE_PROFIT": "takeProfitOrder",
    "STOP_LOSS": "stopLossOrder",
    "TRAILING_STOP_LOSS": "trailingStopLossOrder",
}


def trade_json(account: Account, trade: Trade, quotes: Quotes, full: bool) -> Json:
    """Return a trade; ``full`` with its dependent orders instead of their ids."""
    instrument = INSTRUMENTS[trade.instrument]
    made: Json = {
        "id": trade.id,
        "instrument": trade.instrument,
        "price": instrument.text(trade.price),
        "openTime": trade.open_time,
        "initialUnits": units_text(trade.initial_units),
        "initialMarginRequired": money(trade.initial_margin),
        "state": trade.state,
        "currentUnits": units_text(trade.units),
        "realizedPL": money(trade.realized),
        "financing": money(ZERO),
    }
    if trade.state == "OPEN":
        made["unrealizedPL"] = money(unrealized(trade, account.currency, quotes))
        made["marginUsed"] = money(margin(account, instrument, trade.units, quotes))
    else:
        made["closeTime"] = trade.close_time
    if trade.closing_ids:
        closed = abs(trade.initial_units) - abs(trade.units)
        made["averageClosePrice"] = instrument.text(trade.closed_value / closed)
        made["closingTransactionIDs"] = trade.closing_ids
    if trade.extensions:
        made["clientExtensions"] = trade.extensions
    for kind, order_id in trade.orders.items():
        if full:
            made[DEPENDENT[kind]] = account.orders[order_id]
        else:
            made[f"{DEPENDENT[kind]}ID"] = order_id
    return made


def position_json(account: Account, name: str, quotes: Quotes) -> Json:
    """Return an instrument's position, both sides."""
    totals = account.sides.get(name, {"long": SideTotals(), "short": SideTotals()})
    open_trades = [t for t in account.open.values() if t.instrument == name]
    sides: dict[str, Json] = {}
    for side, sign in (("long", 1), ("short", -1)):
        trades = [t for t in open_trades if t.units * sign > 0]
        sides[side] = _side(account, trades, totals[side].realized, quotes)
    realized = totals["long"].realized + totals["short"].realized
    gain = sum((unrealized(t, account.currency, quotes) for t in open_trades), ZERO)
    made = {
        "instrument": name,
        "long": sides["long"],
        "short": sides["short"],
        "pl": money(realized),
        "resettablePL": money(realized),
        "financing": money(ZERO),
        "commission": money(ZERO),
        "guaranteedExecutionFees": money(ZERO),
        "unrealizedPL": money(gain),
    }
    if open_trades:
        instrument = INSTRUMENTS[name]
        used = (margin(account, instrument, t.units, quotes) for t in open_trades)
        made["marginUsed"] = money(sum(used, ZERO))
    return made


def _side(account: Account, trades: list[Trade], realized: Decimal, quotes: Quotes) -> Json:
    units = sum((t.units for t in trades), ZERO)
    gain = sum((unrealized(t, account.currency, quotes) for t in trades), ZERO)
    made: Json = {
        "units": units_text(units),
        "pl": money(realized),
        "resettablePL": money(realized),
        "financing": money(ZERO),
        "guaranteedExecutionFees": money(ZERO),
        "unrealizedPL": money(gain),
    }
    if trades:
        value = sum((t.units * t.price for t in trades), ZERO)
        made["averagePrice"] = INSTRUMENTS[trades[0].instrument].text(value / units)
        made["tradeIDs"] = [t.id for t in trades]
    return made


def state_json(account: Account, quotes: Quotes) -> Json:
    """Return the calculated figures that summary, account and changes share."""
    found = figures(account, quotes)
    return {
        "unrealizedPL": money(found.unrealized),
        "NAV": money(found.nav),
        "marginUsed": money(found.margin_used),
        "marginAvailable": money(found.margin_available),
        "positionValue": money(found.position_value),
        "marginCloseoutUnrealizedPL": money(found.unrealized),
        "marginCloseoutNAV": money(found.nav),
        "marginCloseoutMarginUsed": money(found.margin_used),
        "marginCloseoutPercent": ratio(found.closeout_percent),
        "marginCloseoutPositionValue": money(found.position_value),
        "withdrawalLimit": money(max(min(found.margin_available, account.balance), ZERO)),
        "marginCallMarginUsed": money(found.margin_used),
        "marginCallPercent": ratio(found.call_percent),
    }


def summary_json(account: Account, quotes: Quotes) -> Json:
    """Return an account's summary."""
    made = {
        "id": account.id,
        "alias": account.alias or "Primary",
        "currency": account.currency,
        "balance": money(account.balance),
        "createdByUserID": account.user_id,
        "createdTime": account.created,
        "guaranteedStopLossOrderMode": "ALLOWED" if account.guaranteed_stops else "DISABLED",
        "pl": money(account.realized),
        "resettablePL": money(account.realized),
        "financing": money(ZERO),
        "commission": money(ZERO),
        "guaranteedExecutionFees": money(ZERO),
        "marginRate": str(account.margin_rate or "0.02"),
        "openTradeCount": len(account.open),
        "openPositionCount": len({t.instrument for t in account.open.values()}),
        "pendingOrderCount": len(account.pending),
        "hedgingEnabled": False,
        "lastTransactionID": account.last_id,
        **state_json(account, quotes),
    }
    if account.last_fill_time:
        made["lastOrderFillTimestamp"] = account.last_fill_time
    return made


def account_json(account: Account, quotes: Quotes) -> Json:
    """Return an account with its pending orders, open trades and positions."""
    trades = [trade_json(account, t, quotes, full=False) for t in account.open.values()]
    return summary_json(account, quotes) | {
        "orders": list(account.pending.values()),
        "trades": trades,
        "positions": [position_json(account, name, quotes) for name in account.sides],
    }


def price_json(
    account: Account | None, name: str, tick: Tick, tradeable: bool, quotes: Quotes
) -> Json:
    """Return a price; with an account also what it means to it."""
    instrument = INSTRUMENTS[name]

    def ladder(best: int, step: int) -> list[Json]:
        return [
            {"price": instrument.text_of(best + step * away), "liquidity": units}
            for away, units in LADDER
        ]

    closeout = (tick.bid - CLOSEOUT_POINTS, tick.ask + CLOSEOUT_POINTS)
    made: Json = {
        "type": "PRICE",
        "time": rfc3339(tick.time_ms * 1_000_000),
        "bids": ladder(tick.bid, -1),
        "asks": ladder(tick.ask, 1),
        "closeoutBid": instrument.text_of(closeout[0]),
        "closeoutAsk": instrument.text_of(closeout[1]),
        "status": "tradeable" if tradeable else "non-tradeable",
        "tradeable": tradeable,
        "instrument": name,
    }
    if account is not None:
        found = factors(instrument.quote, account.currency, quotes)
        made["quoteHomeConversionFactors"] = {
            "positiveUnits": factor(found.gain),
            "negativeUnits": factor(found.loss),
        }
    return made


def units_available(account: Account, name: str, quotes: Quotes) -> Json:
    """Return how many units could be traded, by the way an order fills a position."""
    instrument, held = INSTRUMENTS[name], account.units(name)
    one = margin(account, instrument, Decimal(1_000_000), quotes) / 1_000_000
    free = figures(account, quotes).margin_available
    more = Decimal(int(free / one)) if one else ZERO
    reduce = {"long": max(-held, ZERO), "short": max(held, ZERO)}

    def sides(give: Iterable[Decimal]) -> Json:
        return dict(zip(("long", "short"), map(units_text, give), strict=True))

    both = [more + 2 * reduce["long"], more + 2 * reduce["short"]]
    return {
        "default": sides(both),
        "reduceFirst": sides(both),
        "reduceOnly": sides((reduce["long"], reduce["short"])),
        "openOnly": sides((ZERO if held < 0 else more, ZERO if held > 0 else more)),
    }


def home_conversions(account: Account, names: Iterable[str], quotes: Quotes) -> list[Json]:
    """Return what each currency of the instruments means to the account."""
    currencies = sorted({c for n in names for c in (INSTRUMENTS[n].base, INSTRUMENTS[n].quote)})
    made = []
    for currency in currencies:
        found = factors(currency, account.currency, quotes)
        made.append(
            {
                "currency": currency,
                "accountGain": factor(found.gain),
                "accountLoss": factor(found.loss),
                "positionValue": factor(found.mid),
            }
        )
    return made
