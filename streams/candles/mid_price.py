"""The mid price: the exact decimal mean of bid and ask, to the nearest double.

Every source of candles takes its mid from here; ``docs/mid-price.md`` says why. The fast reader of
CSV files has the same rule in ``cpp/io/candle_lines.hpp``.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal, Inexact

from streams.records.events import Ohlc

WrittenPrice = str | int | float | Decimal
"""A price as a source gives it; a float stands for the shortest decimal that reads back to it."""

_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[Inexact])


def mid_of_points(bid: int, ask: int, scale: int) -> float:
    """Return the mid of two prices that are whole numbers of points.

    Parameters
    ----------
    bid, ask
        Prices in points.
    scale
        Points in one unit of price, such as 100,000.
    """
    # the quotient of two ints is the double nearest to it, however long they are
    return (bid + ask) / (2 * scale)


def mid_price(bid: WrittenPrice, ask: WrittenPrice) -> float:
    """Return the double nearest to the mean of two decimals.

    Parameters
    ----------
    bid, ask
        Prices within the bounds of ``candle_rules`` (1e-12 to 1e12), as the source gives them.
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
