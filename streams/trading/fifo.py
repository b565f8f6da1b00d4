"""Sizes on accounts under the FIFO rule (United States, NFA 2-43b). Pure.

Of several trades of one size in an instrument the oldest must be closed first. OANDA enforces it by
refusing two trades of the same size when one of them has a stop or a target (``FIFO violation
safeguard``). So on such an account every trade has a different size.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from decimal import Decimal

from streams.trading.brokers.broker import InstrumentTerms
from streams.trading.brokers.units import ZERO

WORD = "FIFO_VIOLATION"


def refused_by_fifo(reason: str | None) -> bool:
    """Return whether a venue's reason shows that the account is under the FIFO rule."""
    return reason is not None and WORD in reason


def distinct_increase(units: Decimal, held: Collection[Decimal], terms: InstrumentTerms) -> Decimal:
    """Return the largest size up to ``units`` that no trade has; 0 when there is none.

    Parameters
    ----------
    units
        Unsigned units of the order.
    held
        Sizes of the open trades in the instrument.
    """
    step, taken = _step(terms), set(held)
    for _ in range(len(taken) + 1):
        if units < terms.min_units:
            return ZERO
        if units not in taken:
            return units
        units -= step
    return ZERO


def distinct_reduction(units: Decimal, held: Sequence[Decimal], terms: InstrumentTerms) -> Decimal:
    """Return the largest reduction up to ``units`` after which all sizes differ; 0 for none.

    The venue reduces the oldest trades first.

    Parameters
    ----------
    held
        Sizes of the open trades in the instrument, oldest first.
    """
    step = _step(terms)
    for _ in range(len(held) + 1):
        if units < terms.min_units:
            return ZERO
        left = after_reduction(units, held)
        if len(set(left)) == len(left):
            return units
        units -= step
    return ZERO


def after_reduction(units: Decimal, held: Sequence[Decimal]) -> list[Decimal]:
    """Return the sizes left when ``units`` are closed from the oldest trades first."""
    left = []
    for size in held:
        taken = min(size, units)
        units -= taken
        if size > taken:
            left.append(size - taken)
    return left


def _step(terms: InstrumentTerms) -> Decimal:
    return Decimal(1).scaleb(-terms.units_digits)
