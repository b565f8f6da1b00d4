"""Batch functions: metrics of a list of bits, signals and manifold of a list of candles."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streams.core.columns import address_of, columns
from streams.core.layout import SIGNALS_DTYPE
from streams.core.loader import core
from streams.core.status import OK, raise_for
from streams.errors import Fatal

MAX_WINDOW_BITS = 1024


class BitMetrics(NamedTuple):
    """Metrics of a list of bits (docs/spec/trading-loop.md 1.2 to 1.5)."""

    coherence: float
    stability: float
    entropy: float
    rupture: float
    flip_ratio: float
    lambda_hazard: float
    nulls: int
    flips: int
    ruptures: int
    ones: int
    collapsed: bool


class BatchManifold(NamedTuple):
    """The numbers of a manifold snapshot (docs/spec/trading-loop.md 1.8).

    Attributes
    ----------
    signals
        Rows of ``SIGNALS_DTYPE``, oldest first.
    count, t0_ms, t1_ms
        Number of candles, and the starts of the first and last one, epoch ms (None without any).
    sigma_eff, lambda_
        As in ``streams.core.Metrics``, by the original system's rules for a batch.
    precision
        Decimals of the signatures.
    """

    signals: NDArray[Any]
    count: int  # type: ignore[assignment]  # shadows tuple.count, which is not used here
    t0_ms: int | None
    t1_ms: int | None
    sigma_eff: float
    lambda_: float
    precision: int


class WindowGrid(NamedTuple):
    """Which windows a batch of N bits has (the table in docs/spec/trading-loop.md 1.7).

    Attributes
    ----------
    window_bits, first_end, step, windows
        Length, end of the first one, distance between ends (bits), number.
    """

    window_bits: int
    first_end: int
    step: int
    windows: int


def analyze_bits(bits: ArrayLike) -> BitMetrics:
    """Return the metrics of 1 to 1024 bits.

    Raises
    ------
    Fatal
        There are no bits or too many, or a value is neither 0 nor 1.
    """
    values = np.asarray(bits)
    if values.ndim != 1 or not 1 <= len(values) <= MAX_WINDOW_BITS:
        raise Fatal(f"1 to {MAX_WINDOW_BITS} bits can be analysed, not an array {values.shape}")
    if not all(value in (0, 1) for value in values.tolist()):
        raise Fatal("bits can only be 0 or 1")
    packed = np.ascontiguousarray(values, dtype=np.uint8)
    found = core().analyze(address_of(packed), len(packed))
    if found.status != OK:
        raise_for(found.status, "bits")
    return BitMetrics(*(getattr(found.metrics, name) for name in BitMetrics._fields))


def window_grid(bits: int) -> WindowGrid:
    """Return which windows a batch of ``bits`` bits has."""
    grid = core().batch_grid(bits)
    return WindowGrid(grid.window, grid.first, grid.step, grid.windows)


def build_manifold(
    bar_ms: ArrayLike,
    high: ArrayLike,
    low: ArrayLike,
    close: ArrayLike,
    volume: ArrayLike,
    *,
    precision: int,
    lookback_minutes: int,
) -> BatchManifold:
    """Return the signals and the manifold of candles, by the original system's rules for a batch.

    Parameters
    ----------
    bar_ms, high, low, close, volume
        Arrays [n]: starts (epoch ms, ascending), mid prices, ticks.
    precision
        Decimals of a signature, 0 to 6.
    lookback_minutes
        Lookback for repetitions, 1 to 1440 minutes.

    Raises
    ------
    Fatal
        A candle, an array or a parameter is invalid.
    """
    candles = columns(bar_ms, high, low, close, volume)
    length = len(candles.bar_ms)
    bindings = core()
    signals = np.zeros(int(bindings.batch_windows(length)), SIGNALS_DTYPE)
    found = bindings.batch(
        *candles.addresses(), length, precision, lookback_minutes, address_of(signals)
    )
    if found.status != OK:
        subject = f"candle {found.bad} of {length}" if found.status != 8 else "manifold"
        raise_for(found.status, subject)
    first, last = (int(candles.bar_ms[0]), int(candles.bar_ms[-1])) if length else (None, None)
    return BatchManifold(
        signals, length, first, last, float(found.sigma_eff), float(found.lambda_), precision
    )
