"""What an account is worth: conversion to its currency, profit and loss, margin; all in Decimal."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

from tests.support.v20.account import Account, Trade
from tests.support.v20.amounts import ZERO, factor, rounded
from tests.support.v20.instruments import INSTRUMENTS, Instrument

TWO = Decimal(2)


class Quote(NamedTuple):
    """Bid and ask of an instrument."""

    bid: Decimal
    ask: Decimal

    @property
    def mid(self) -> Decimal:
        """The middle of the two."""
        return (self.bid + self.ask) / TWO


Quotes = Callable[[str], Quote]


class Factors(NamedTuple):
    """What one unit of a currency brings in the account's: a gain, a loss, at the middle."""

    gain: Decimal
    loss: Decimal
    mid: Decimal


@lru_cache(maxsize=256)
def _way(start: str, end: str) -> tuple[tuple[str, bool], ...]:
    """Return the instruments from one currency to another; True where it is the base."""
    ways: dict[str, tuple[tuple[str, bool], ...]] = {start: ()}
    queue = deque([start])
    while queue:
        currency = queue.popleft()
        if currency == end:
            return ways[end]
        for instrument in INSTRUMENTS.values():
            for here, there, base in (
                (instrument.base, instrument.quote, True),
                (instrument.quote, instrument.base, False),
            ):
                if here == currency and there not in ways:
                    ways[there] = (*ways[currency], (instrument.name, base))
                    queue.append(there)
    raise ValueError(f"no way from {start} to {end}")


def factors(currency: str, home: str, quotes: Quotes) -> Factors:
    """Return the factors from a currency to the account's, rounded as they are written."""
    gain = loss = mid = Decimal(1)
    for name, base in _way(currency, home):
        quote = quotes(name)
        if base:
            gain, loss, mid = gain * quote.bid, loss * quote.ask, mid * quote.mid
        else:
            gain, loss, mid = gain / quote.ask, loss / quote.bid, mid / quote.mid
    return Factors(Decimal(factor(gain)), Decimal(factor(loss)), Decimal(factor(mid)))


def profit(instrument: Instrument, home: str, change: Decimal, quotes: Quotes) -> Decimal:
    """Return a gain or loss in the quote currency as the account keeps it."""
    found = factors(instrument.quote, home, quotes)
    return rounded(change * (found.gain if change > 0 else found.loss))


def unrealized(trade: Trade, home: str, quotes: Quotes) -> Decimal:
    """Return what closing the trade now would bring, rounded to what an account keeps."""
    quote = quotes(trade.instrument)
    price = quote.bid if trade.units > 0 else quote.ask
    change = trade.units * (price - trade.price)
    return profit(INSTRUMENTS[trade.instrument], home, change, quotes)


def value(instrument: Instrument, units: Decimal, home: str, quotes: Quotes) -> Decimal:
    """Return what units are worth in the account's currency."""
    return rounded(abs(units) * factors(instrument.base, home, quotes).mid)


def margin_rate(account: Account, instrument: Instrument) -> Decimal:
    """Return the share of a position's value that is margin: the higher of the two rates."""
    return max(instrument.margin_rate, account.margin_rate or ZERO)


def margin(account: Account, instrument: Instrument, units: Decimal, quotes: Quotes) -> Decimal:
    """Return the margin that units of an instrument take."""
    worth = abs(units) * factors(instrument.base, account.currency, quotes).mid
    return rounded(worth * margin_rate(account, instrument))


class Figures(NamedTuple):
    """An account's calculated figures."""

    unrealized: Decimal
    nav: Decimal
    margin_used: Decimal
    margin_available: Decimal
    position_value: Decimal
    call_percent: Decimal
    closeout_percent: Decimal


def figures(account: Account, quotes: Quotes) -> Figures:
    """Return the calculated figures at these prices."""
    gain = used = worth = ZERO
    for trade in account.open.values():
        instrument = INSTRUMENTS[trade.instrument]
        gain += unrealized(trade, account.currency, quotes)
        used += margin(account, instrument, trade.units, quotes)
        worth += value(instrument, trade.units, account.currency, quotes)
    nav = account.balance + gain
    call = used / nav if nav > 0 else (Decimal(99) if used else ZERO)
    return Figures(gain, nav, used, max(nav - used, ZERO), worth, call, call / TWO)
