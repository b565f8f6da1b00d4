"""The worst fill price of an order: the quote of its guards plus MAX_SLIPPAGE_BPS."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from streams.trading.brokers.broker import InstrumentTerms, Quote

BEYOND_BOUND = "BOUNDS_VIOLATION"
"""The venue's reason for a cancelled order whose price was beyond the bound."""


def reason_words(reason: str) -> str:
    """Return a venue's reason, with the setting behind it if there is one."""
    if reason == BEYOND_BOUND:
        return f"{reason}: the market was beyond the price bound, see MAX_SLIPPAGE_BPS"
    return reason


def price_bound(
    quote: Quote | None, terms: InstrumentTerms | None, direction: int, slippage_bps: float
) -> float | None:
    """Return the highest price to buy at, or the lowest to sell at; None for no bound.

    In the instrument's precision, never further away than the slippage allows.

    Parameters
    ----------
    quote
        The quote used for the guards and the price of the order.
    direction
        1 buys, -1 sells.
    slippage_bps
        MAX_SLIPPAGE_BPS; 0 sets no bound.
    """
    if quote is None or terms is None or slippage_bps <= 0.0:
        return None
    side = Decimal(repr(quote.ask if direction > 0 else quote.bid))
    if not side.is_finite() or side <= 0:
        return None
    worst = side * (1 + direction * Decimal(repr(slippage_bps)) / 10_000)
    step = Decimal(1).scaleb(-terms.price_digits)
    return float(worst.quantize(step, ROUND_FLOOR if direction > 0 else ROUND_CEILING))
