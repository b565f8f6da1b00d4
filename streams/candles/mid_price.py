"""The mid price: the exact decimal mean of bid and ask, rounded to the nearest double.

Used by every candle source; ``docs/mid-price.md`` explains why. The fast CSV parser implements the
same rule in ``cpp/io/candle_lines.hpp``.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal, Inexact

from streams.records.events import Ohlc

WrittenPrice = str | int | float | Decimal
"""A price from a source; a float means its shortest decimal representation."""

_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[Inexact])


def mid_of_points(bid: int, ask: int, scale: int) -> float:
    """Return the mid of two prices in integer points.

    Parameters
    ----------
    bid, ask
        Prices in points.
    scale
        Points per unit of price, such as 100,000.
    """
    # int / int is correctly rounded for integers of any size
    return (bid + ask) / (2 * scale)


def mid_price(bid: WrittenPrice, ask: WrittenPrice) -> float:
    """Return the mean of two decimals, rounded to the nearest double.

    Parameters
    ----------
    bid, ask
        Prices within the bounds of ``candles.rules`` (1e-12 to 1e12), as the source gives them.
    """
    points, scale = _EXACT.add(_decimal(bid), _decimal(ask)).as_integer_ratio()
    return mid_of_points(points, 0, scale)


def mid_prices(bid: Sequence[WrittenPrice], ask: Sequence[WrittenPrice]) -> Ohlc:
    """Return the mid of each of open, high, low and close.

    Parameters
    ----------
    bid, ask
        Open, high, low and close; else as in ``mid_price``.
    """
    return Ohlc(*(mid_price(b, a) for b, a in zip(bid, ask, strict=True)))


def _decimal(price: WrittenPrice) -> Decimal:
    return Decimal(float.__repr__(price) if isinstance(price, float) else price)
