"""The instruments of the test broker: the eight default pairs, and one with decimals of units."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, NamedTuple


class Instrument(NamedTuple):
    """One pair and how its price is made.

    Attributes
    ----------
    precision
        Decimal places of a price; a point is one unit of the last.
    first
        Price about which the walk is laid, in points.
    spread
        Usual distance of bid and ask, in points.
    sigma
        Typical move of a minute, in points.
    units_digits
        Decimal places of a number of units.
    """

    name: str
    precision: int
    margin_rate: Decimal
    first: int
    spread: int
    sigma: int
    units_digits: int = 0

    @property
    def base(self) -> str:
        """The currency that is bought and sold."""
        return self.name[:3]

    @property
    def quote(self) -> str:
        """The currency that prices are in."""
        return self.name[4:]

    def price(self, points: int) -> Decimal:
        """Return the price of so many points."""
        return Decimal(points).scaleb(-self.precision)

    def text(self, price: Decimal) -> str:
        """Write a price with the instrument's precision."""
        return str(price.quantize(Decimal(1).scaleb(-self.precision), ROUND_HALF_EVEN))

    def text_of(self, points: int) -> str:
        """Write the price of so many points."""
        whole, rest = divmod(points, 10**self.precision)
        return f"{whole}.{rest:0{self.precision}d}"

    def points(self, price: Decimal) -> int:
        """Return a price in whole points."""
        return int(price.scaleb(self.precision).to_integral_value())

    def description(self) -> dict[str, Any]:
        """Return what ``/instruments`` says."""
        pip = 1 - self.precision
        step = Decimal(1).scaleb(pip)
        return {
            "name": self.name,
            "type": "CFD" if self.units_digits else "CURRENCY",
            "displayName": self.name.replace("_", "/"),
            "pipLocation": pip,
            "displayPrecision": self.precision,
            "tradeUnitsPrecision": self.units_digits,
            "minimumTradeSize": str(Decimal(1).scaleb(-self.units_digits)),
            "maximumTrailingStopDistance": self.text(step * 10_000),
            "minimumTrailingStopDistance": self.text(step * 5),
            "maximumPositionSize": "0",
            "maximumOrderUnits": str(MAXIMUM_ORDER_UNITS),
            "marginRate": str(self.margin_rate),
        }


MAXIMUM_ORDER_UNITS = 100_000_000

_RATE, _WIDE = Decimal("0.02"), Decimal("0.05")

INSTRUMENTS: dict[str, Instrument] = {
    each.name: each
    for each in (
        Instrument("EUR_USD", 5, _RATE, 110_000, 12, 11),
        Instrument("USD_JPY", 3, _WIDE, 148_000, 14, 13),
        Instrument("GBP_USD", 5, _WIDE, 127_000, 16, 14),
        Instrument("EUR_JPY", 3, _WIDE, 162_000, 18, 16),
        Instrument("USD_CAD", 5, _RATE, 136_000, 17, 12),
        Instrument("NZD_USD", 5, Decimal("0.03"), 60_000, 15, 8),
        Instrument("AUD_USD", 5, Decimal("0.03"), 65_000, 13, 8),
        Instrument("USD_CHF", 5, _WIDE, 88_000, 15, 9),
        Instrument("BTC_USD", 1, Decimal("0.5"), 650_000, 400, 300, 2),
    )
}
"""Name -> instrument."""
