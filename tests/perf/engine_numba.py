"""The metrics of every window as a compiled loop: what a Python programmer would write first."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

WINDOW_BITS = 128


def _entropy(nulls: int, flips: int, ruptures: int, pairs: int) -> float:
    total = 0.0
    for count in (nulls, flips, ruptures):
        if count > 0:
            p = count / pairs
            total -= p * math.log2(p)
    return min(max(total / 1.585, 0.05), 1.0)


def _cosine(dot: float, a: float, b: float) -> float:
    return dot / math.sqrt(a * b) if a > 0 and b > 0 else 0.0


@functools.cache
def _compiled() -> Any:
    import numba

    entropy, cosine = numba.njit(_entropy), numba.njit(_cosine)

    @numba.njit
    def similarity(
        path: NDArray[Any], fade: NDArray[Any], sine: NDArray[Any], first: float
    ) -> float:
        n, last = len(path), path[-1]
        pp = fe = ff = le = ll = we = ww = 0.0
        for i in range(n):
            f = first * fade[i]
            line = first + (last - first) * i / (n - 1)
            wave = (first + last) / 2 + (last - first) / 2 * sine[i]
            pp += path[i] * path[i]
            fe, ff = fe + path[i] * f, ff + f * f
            le, ll = le + path[i] * line, ll + line * line
            we, ww = we + path[i] * wave, ww + wave * wave
        best = max(0.0, cosine(fe, pp, ff), cosine(le, pp, ll), cosine(we, pp, ww))
        return min(best, 1.0)

    @numba.njit
    def coherence(
        b: NDArray[Any], h: float, rho: float, phi: float, path: Any, fade: Any, sine: Any
    ) -> float:
        plain = min(max(0.6 * (1 - h) + 0.3 * (1 - rho) + 0.1 * (1 - phi), 0.01), 0.99)
        flips = ruptures = 0
        for j in range(1, 20):
            flips += b[j] != b[j - 1]
            ruptures += b[j] & b[j - 1]
        rate = min(max(0.5 * entropy(19 - flips - ruptures, flips, ruptures, 19), 0.01), 1.0)
        first, factor = float(b[0]), math.exp(-rate)
        weight, value = 1.0, 0.0
        path[0] = first
        for j in range(1, len(b)):
            weight *= factor
            value += (b[j] - first) * weight
            path[j] = value
        blended = 0.3 * similarity(path, fade, sine, first) + 0.7 * plain
        if abs(value) < 2:
            blended /= 1 + 0.1 * abs(value)
        return min(max(blended, 0.0), 1.0)

    @numba.njit
    def run(high: Any, low: Any, close: Any, volume: Any, fade: Any, sine: Any, out: Any) -> None:
        bits = np.zeros(len(close) - 1, np.int64)
        for k in range(1, len(close)):
            wider = high[k] - low[k] >= high[k - 1] - low[k - 1] or volume[k] >= volume[k - 1]
            bits[k - 1] = 1 if close[k] >= close[k - 1] and wider else 0
        path = np.zeros(WINDOW_BITS)
        pairs = WINDOW_BITS - 1
        for begin in range(len(out)):
            b = bits[begin : begin + WINDOW_BITS]
            flips = ruptures = 0
            ones = b[0]
            for j in range(1, WINDOW_BITS):
                flips += b[j] != b[j - 1]
                ruptures += b[j] & b[j - 1]
                ones += b[j]
            rho, phi = ruptures / pairs, flips / pairs
            h = entropy(pairs - flips - ruptures, flips, ruptures, pairs)
            c = coherence(b, h, rho, phi, path, fade, sine)
            row = out[begin]
            row[0], row[1], row[2], row[3], row[4], row[5] = c, 1 - rho, h, rho, phi, ones
            row[6], row[7] = math.floor(c * 100 + 0.5), math.floor((1 - rho) * 100 + 0.5)
            row[8] = math.floor(h * 100 + 0.5)

    return run


def run_with_numba(candles: Any) -> NDArray[np.float64]:
    """Return coherence, stability, entropy, rupture, flip_ratio, ones and signature buckets."""
    index = np.arange(WINDOW_BITS)
    fade, sine = np.exp(-0.1 * index), np.sin(2 * np.pi * index / WINDOW_BITS)
    out = np.zeros((len(candles.close) - WINDOW_BITS, 9))
    _compiled()(candles.high, candles.low, candles.close, candles.volume, fade, sine, out)
    return out
