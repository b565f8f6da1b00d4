"""Conversion rates between currencies, through the pairs that have a price."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping


def home_rates(home: str, currencies: Iterable[str], mids: Mapping[str, float]) -> dict[str, float]:
    """Return the value of one unit of each currency in ``home``.

    The path with the fewest pairs is taken, the first by name among equals. A currency that no path
    reaches is left out.

    Parameters
    ----------
    mids
        Instrument such as ``EUR_USD`` -> units of its quote currency for one of its base currency.
        A price that is not a positive number is ignored.
    """
    roads: dict[str, list[tuple[str, float]]] = {}
    for name in sorted(mids):
        base, found, quote = name.partition("_")
        mid = mids[name]
        if found and math.isfinite(mid) and mid > 0.0:
            roads.setdefault(quote, []).append((base, mid))
            roads.setdefault(base, []).append((quote, 1.0 / mid))
    rates = {home: 1.0}
    waiting = deque([home])
    while waiting:
        known = waiting.popleft()
        for currency, worth in roads.get(known, ()):
            if currency not in rates:
                rates[currency] = worth * rates[known]
                waiting.append(currency)
    return {currency: rates[currency] for currency in currencies if currency in rates}


def base_currency(instrument: str) -> str:
    """Return the base currency of an instrument."""
    return instrument.partition("_")[0]


def quote_currency(instrument: str) -> str:
    """Return the quote currency of an instrument."""
    return instrument.partition("_")[2]
