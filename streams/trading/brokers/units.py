"""Units as decimals of the instrument's precision, from the intent to the broker.

The records of the log hold doubles. A double of at most fifteen significant digits is the shortest
decimal that reads back to it, so nothing is lost there; and sums are made of decimals, so that
0.09 + 0.09 + 0.09 + 0.08 is 0.35, which a broker with two decimals accepts.
"""

from __future__ import annotations

from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal
from typing import Final

MOST_DIGITS: Final = 8
"""Maximum number of decimals of units; an instrument with more is traded in steps of this size."""

ZERO: Final = Decimal(0)
_WIDE: Final = Context(prec=60)
_STEPS: Final = tuple(Decimal(1).scaleb(-digits) for digits in range(MOST_DIGITS + 1))


def units_of(number: float) -> Decimal:
    """Return the units of a double in the log, with at most ``MOST_DIGITS`` decimals.

    Sums that earlier releases made in doubles (0.35000000000000003) are rounded.
    """
    exact = Decimal(repr(number))
    return plain_units(exact.quantize(_STEPS[MOST_DIGITS], ROUND_HALF_EVEN, _WIDE))


def floored(units: Decimal | float, digits: int) -> Decimal:
    """Return the largest number of units with ``digits`` decimals that is not above ``units``."""
    exact = units if isinstance(units, Decimal) else Decimal(repr(units))
    return plain_units(exact.quantize(_STEPS[min(digits, MOST_DIGITS)], ROUND_FLOOR, _WIDE))


def plain_units(units: Decimal) -> Decimal:
    """Return the same number without trailing zeros and without an exponent."""
    short = units.normalize(_WIDE)
    exponent = short.as_tuple().exponent
    whole = isinstance(exponent, int) and exponent > 0
    return short.quantize(_STEPS[0], context=_WIDE) if whole else short


def units_text(units: Decimal) -> str:
    """Format units for OANDA: no exponent, no trailing zeros."""
    return f"{plain_units(units):f}"
