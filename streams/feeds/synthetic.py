"""A seeded synthetic market: the same candles for the same seed on every machine.

Prices are integer points, moved by an integer random generator, so the result does not depend on a
math library or a CPU. Activity depends on the hour, closed hours have no bar, quiet minutes have no
candle, and some candles arrive late or twice. Each instrument goes through regimes; in a coiling
regime few bars rise on expanding range or volume, so that windows pass calibrated gates.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import count
from typing import NamedTuple

from streams.candles.calendar import FX, Calendar
from streams.candles.mid_price import mid_of_points
from streams.instants import GRANULARITY_MS
from streams.records.events import Candle, Ohlc

PERMILLE = 1000
STEPS = 6
REGIME_BARS = (90, 480)
COILING_PERMILLE = 450

POINTS: dict[str, tuple[int, int]] = {
    "EUR_USD": (110_000, 12),
    "USD_JPY": (148_000, 14),
    "GBP_USD": (127_000, 16),
    "EUR_JPY": (162_000, 18),
    "USD_CAD": (136_000, 17),
    "NZD_USD": (60_000, 15),
    "AUD_USD": (65_000, 13),
    "USD_CHF": (88_000, 15),
}
"""Instrument -> (first price, spread), in points: 0.001 for yen pairs, 0.00001 for all others."""

HOUR_ACTIVITY = (4, 4, 4, 3, 3, 4, 6, 9, 10, 9, 8, 8, 10, 12, 12, 11, 9, 7, 5, 4, 3, 3, 3, 4)
"""Relative activity by UTC hour."""


@dataclass(frozen=True)
class MarketRates:
    """Frequency of quiet, late and duplicate candles, in permille of an instrument's bars."""

    quiet: int = 20
    late: int = 2
    duplicate: int = 2


class BarArrivals(NamedTuple):
    """The candles that arrive when a bar ends, in order: late candles of earlier bars first."""

    as_of_ms: int
    candles: tuple[Candle, ...]


class _Pair:
    """One instrument's random walk."""

    def __init__(self, seed: int, name: str) -> None:
        # a separate generator, so that an instrument does not depend on the other instruments
        mixed = blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
        self._random = random.Random(int.from_bytes(mixed, "little"))
        self.name = name
        self._scale = 1_000 if name.endswith("JPY") else 100_000
        default = (100 * self._scale, 20)
        self._price, self._spread = POINTS.get(name, default)
        self._regime_left = 0
        self._coiling = False
        self._range, self._volume = 10, 20

    def below(self, limit: int) -> int:
        """Return an integer in [0, limit)."""
        return self._random.getrandbits(32) * limit >> 32

    def candle(self, bar_ms: int, granularity: str) -> Candle:
        if self._regime_left == 0:
            low, high = REGIME_BARS
            self._regime_left = low + self.below(high - low)
            self._coiling = self.below(PERMILLE) < COILING_PERMILLE
        self._regime_left -= 1
        activity = HOUR_ACTIVITY[bar_ms // 3_600_000 % 24]
        opened = self._price
        path = [opened]
        for _ in range(STEPS):
            path.append(path[-1] + self.below(2 * activity + 1) - activity)
        closed, high, low = path[-1], max(path), min(path)
        volume = 1 + self.below(8 * activity)
        if self._coiling and closed >= opened and self.below(PERMILLE) < 850:
            # rises with a narrower range and fewer ticks than the previous bar
            room = max(self._range - 1, 1)
            low, high = opened - 0, opened + room
            closed = opened + self.below(room + 1)
            volume = max(self._volume - 1, 0)
        # mean reversion: without it the price would drift too far
        closed = max(closed, self._scale // 5)
        high, low = max(high, closed), min(low, closed)
        self._price, self._range, self._volume = closed, high - low, volume
        spread = self._spread + self.below(self._spread)
        return self._made(bar_ms, granularity, (opened, high, low, closed), spread, volume)

    def _made(
        self,
        bar_ms: int,
        granularity: str,
        mid: tuple[int, int, int, int],
        spread: int,
        volume: int,
    ) -> Candle:
        # bid and ask are integer points
        half = spread // 2
        bid = Ohlc(*((price - half) / self._scale for price in mid))
        ask = Ohlc(*((price - half + spread) / self._scale for price in mid))
        middle = Ohlc(
            *(mid_of_points(price - half, price - half + spread, self._scale) for price in mid)
        )
        end_ms = bar_ms + GRANULARITY_MS[granularity]
        return Candle(
            self.name, granularity, bar_ms, end_ms, middle, bid, ask, True, volume, "synthetic"
        )


def synthetic_market(
    seed: int,
    pairs: Sequence[str],
    start_ms: int,
    bars: int | None,
    granularity: str = "M1",
    rates: MarketRates | None = None,
    *,
    calendar: Calendar = FX,
) -> Iterator[BarArrivals]:
    """Yield the candles that arrive at the end of each bar.

    Parameters
    ----------
    seed
        Random seed; each instrument has a generator derived from it.
    pairs
        Instruments.
    start_ms
        Start of the first bar, epoch ms; on the grid of bars.
    bars
        Number of bars in market hours. None: unlimited.
    granularity
        Bar length.
    rates
        Frequency of quiet, late and duplicate candles.
    calendar
        The hours of the market.
    """
    rates = rates or MarketRates()
    length = GRANULARITY_MS[granularity]
    walks = [_Pair(seed, name) for name in sorted(pairs)]
    held: list[Candle] = []
    bar_ms = start_ms
    for _ in count() if bars is None else range(bars):
        bar_ms = calendar.first_bar_ms(bar_ms, length)
        arriving, held = held, []
        for walk in walks:
            candle = walk.candle(bar_ms, granularity)
            luck = walk.below(PERMILLE)
            if luck < rates.quiet:
                continue
            if luck < rates.quiet + rates.late:
                held.append(candle)
                continue
            arriving.append(candle)
            if luck >= PERMILLE - rates.duplicate:
                arriving.append(candle)
        yield BarArrivals(bar_ms + length, tuple(arriving))
        bar_ms += length
