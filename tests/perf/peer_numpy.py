"""The metrics of every window by numpy: rolling counts, tables, and the path by matrix products."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from tests.perf.peer_numba import START_BITS, WINDOW_BITS, basis, decay_table, shares_table

PAIRS = WINDOW_BITS - 1
BLOCK = 512
"""Windows at a time: what they need stays in the cache of a core."""
Array = NDArray[np.float64]
Counts = NDArray[np.int64]


def bits_of(candles: Any) -> NDArray[np.bool_]:
    """Return the bit of every candle but the first."""
    spread = candles.high - candles.low
    wider = (spread[1:] >= spread[:-1]) | (candles.volume[1:] >= candles.volume[:-1])
    bits: NDArray[np.bool_] = (candles.close[1:] >= candles.close[:-1]) & wider
    return bits


def rolling(of: NDArray[np.bool_], width: int) -> Counts:
    """Return the count of True in every window."""
    sums = np.concatenate(([0], np.cumsum(of)))
    counts: Counts = sums[width:] - sums[:-width]
    return counts


def path_coherence(bits: NDArray[np.bool_], plain: Array) -> Array:
    """Return coherence: ``plain`` blended with the damped path of every window."""
    view = sliding_window_view(bits, WINDOW_BITS)
    flip, both = bits[1:] ^ bits[:-1], bits[1:] & bits[:-1]
    flips, ruptures = (rolling(of, START_BITS - 1)[: len(view)] for of in (flip, both))
    decay, shapes = decay_table(), basis()
    ramp_sum, ramp_squares = shapes[1].sum(), shapes[1] @ shapes[1]
    fade_squares, sine_sum, sine_squares = (
        shapes[2] @ shapes[2],
        shapes[3].sum(),
        shapes[3] @ shapes[3],
    )
    out = np.empty_like(plain)
    for begin in range(0, len(view), BLOCK):
        here = np.s_[begin : begin + BLOCK]
        window = view[here].astype(np.float64)
        first = window[:, 0].copy()
        path = np.cumsum((window - first[:, None]) * decay[flips[here], ruptures[here]], axis=1)
        path[:, 0] = first
        last, squares = path[:, -1], np.einsum("ij,ij->i", path, path)
        total, by_ramp, by_fade, by_sine = shapes @ path.T
        mean, swing = (first + last) / 2, last - first
        best = np.zeros(len(window))
        for dot, length in (
            (first * by_fade, first * first * fade_squares),
            (
                first * total + swing * by_ramp,
                first * first * WINDOW_BITS + swing * (2 * first * ramp_sum + swing * ramp_squares),
            ),
            (
                mean * total + swing / 2 * by_sine,
                mean * mean * WINDOW_BITS + swing * (mean * sine_sum + swing / 4 * sine_squares),
            ),
        ):
            norm = np.sqrt(np.maximum(length, 0.0) * squares)
            cosine = np.divide(dot, norm, np.zeros_like(dot), where=norm > 0)
            best = np.maximum(best, cosine)
        blended = 0.3 * np.minimum(best, 1.0) + 0.7 * plain[here]
        reach = np.abs(last)
        out[here] = np.where(reach < 2, blended / (1 + 0.1 * reach), blended)
    return np.clip(out, 0.0, 1.0)


def metrics_of(ones: Any, flips: Any, ruptures: Any, bits: NDArray[np.bool_]) -> Array:
    """Return the metrics of every window from its counts, a row each, as ``run_with_numba``."""
    share = shares_table(PAIRS)
    rupture, flip = ruptures / PAIRS, flips / PAIRS
    entropy = np.clip(share[PAIRS - flips - ruptures] + share[flips] + share[ruptures], 0.05, 1.0)
    plain = np.clip(0.6 * (1 - entropy) + 0.3 * (1 - rupture) + 0.1 * (1 - flip), 0.01, 0.99)
    coherence = path_coherence(bits, plain)
    figures = (coherence, 1 - rupture, entropy)
    buckets = [np.floor(figure * 100 + 0.5) for figure in figures]
    return np.stack([*figures, rupture, flip, ones, *buckets])


def run_with_numpy(candles: Any) -> Array:
    """Return the metrics of every window, a row each."""
    bits = bits_of(candles)
    flips = rolling(bits[1:] ^ bits[:-1], PAIRS)
    ruptures = rolling(bits[1:] & bits[:-1], PAIRS)
    return metrics_of(rolling(bits, WINDOW_BITS), flips, ruptures, bits)
