"""Seeded synthetic candles for the tests of the engine, as columns and as plain tuples."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tests.support.reference import RefCandle

MINUTE_MS = 60_000
FIRST_BAR_MS = 1_699_999_980_000


class Columns(NamedTuple):
    """What ``CandleStream.run`` takes, in its order."""

    bar_ms: NDArray[np.int64]
    high: NDArray[np.float64]
    low: NDArray[np.float64]
    close: NDArray[np.float64]
    volume: NDArray[np.int64]

    def part(self, begin: int, end: int | None = None) -> Columns:
        return Columns(*(column[begin:end] for column in self))


def candles(number: int, seed: int) -> list[RefCandle]:
    """Return candles with ties, gaps of up to a weekend and stretches in which nothing moves."""
    rng = random.Random(seed)
    bar, price, frozen = FIRST_BAR_MS, 110_000, 0
    made: list[RefCandle] = []
    while len(made) < number:
        bar += MINUTE_MS * (rng.choice((2, 7, 95, 2880)) if rng.random() < 0.02 else 1)
        if frozen and made:
            frozen -= 1
            made.append(made[-1]._replace(bar_ms=bar))
            continue
        frozen = rng.randrange(1, 200) if rng.random() < 0.003 else 0
        price += rng.randrange(-8, 9)
        high, low = price + rng.randrange(10), price - rng.randrange(10)
        made.append(RefCandle(bar, high / 1e5, low / 1e5, price / 1e5, rng.randrange(40)))
    return made


def columns(rows: list[RefCandle]) -> Columns:
    bar_ms, high, low, close, volume = zip(*rows, strict=True)
    return Columns(
        np.array(bar_ms, np.int64),
        np.array(high, np.float64),
        np.array(low, np.float64),
        np.array(close, np.float64),
        np.array(volume, np.int64),
    )


def market(number: int, seed: int) -> Columns:
    return columns(candles(number, seed))


def same_bits(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Return whether all fields of all rows have the same bytes (unlike ==, -0.0 is not 0.0)."""
    names = a.dtype.names or ()
    return len(a) == len(b) and all(a[n].tobytes() == b[n].tobytes() for n in names)
