"""Net exposure per currency: both legs of every position, long against short. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

from streams.trading.brokers.conversion import base_currency, quote_currency


class CurrencyShare(NamedTuple):
    """A currency's net value before and after an order, as fractions of the account base."""

    currency: str
    before: float
    after: float


def net_values(units: Mapping[str, Decimal], values: Mapping[str, float]) -> dict[str, float]:
    """Return the net value of each currency, in the account's currency.

    Parameters
    ----------
    units
        Instrument -> signed units.
    values
        Instrument -> value of one unit in the account's currency.
    """
    found: dict[str, float] = {}
    for name, count in sorted(units.items()):
        value = float(count) * values[name]
        for currency, share in ((base_currency(name), value), (quote_currency(name), -value)):
            found[currency] = found.get(currency, 0.0) + share
    return found


def shares(
    held: Mapping[str, float], instrument: str, signed_value: float, base: float
) -> tuple[CurrencyShare, ...]:
    """Return both currencies of an order, before and after it.

    Parameters
    ----------
    held
        Net value of each currency.
    signed_value
        Of the order, positive when it buys.
    base
        The account base.
    """
    found = []
    for currency, change in (
        (base_currency(instrument), signed_value),
        (quote_currency(instrument), -signed_value),
    ):
        before = held.get(currency, 0.0)
        after = before + change
        found.append(
            CurrencyShare(currency, before / base, after / base)
            if base > 0.0
            else CurrencyShare(currency, math.nan, math.nan)
        )
    return tuple(found)


def within(share: CurrencyShare, limit: float) -> bool:
    """Return whether a currency stays within the cap, or moves towards it."""
    return abs(share.after) <= limit or abs(share.after) < abs(share.before)
