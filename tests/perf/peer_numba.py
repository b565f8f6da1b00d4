"""The metrics of every window by numba, as somebody writes it who knows it well.

Counts roll; logarithms and decays come from tables of counts; sixteen windows go side by side, so
that the compiler has vectors of independent sums and needs no ``fastmath``. One core, compiled
beforehand and cached.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

WINDOW_BITS, START_BITS, LANES = 128, 20, 16
PAIRS = WINDOW_BITS - 1


def shares_table(pairs: int) -> NDArray[np.float64]:
    """Return -p log2 p / 1.585 for every count of ``pairs``."""
    shares = np.arange(1, pairs + 1) / pairs
    return np.concatenate([[0.0], -shares * np.log2(shares) / 1.585])


def decay_table() -> NDArray[np.float64]:
    """Return exp(-rate j) by flips and ruptures among the first 20 bits, and j."""
    table, pairs = shares_table(START_BITS - 1), START_BITS - 1
    decay = np.zeros((pairs + 1, pairs + 1, WINDOW_BITS))
    for flips in range(pairs + 1):
        for ruptures in range(pairs + 1 - flips):
            entropy = table[pairs - flips - ruptures] + table[flips] + table[ruptures]
            rate = min(max(0.5 * min(max(entropy, 0.05), 1.0), 0.01), 1.0)
            decay[flips, ruptures] = np.exp(-rate * np.arange(WINDOW_BITS))
    return decay


def basis() -> NDArray[np.float64]:
    """Return what a path is multiplied by: ones, ramp, fade, sine; a row each."""
    index = np.arange(WINDOW_BITS)
    fade, sine = np.exp(-0.1 * index), np.sin(2 * np.pi * index / WINDOW_BITS)
    return np.stack([np.ones(WINDOW_BITS), index / PAIRS, fade, sine])


@functools.cache
def _compiled() -> Any:
    import numba

    jit = numba.njit(cache=True, fastmath=False, boundscheck=False)

    @jit
    def cosine(dot: float, length: float, path: float) -> float:
        return dot / math.sqrt(length * path) if length > 0 and path > 0 else 0.0

    @jit
    def coherence(first: float, last: float, s: Any, b: Any, plain: float) -> float:
        # s: sums of path squared, path, path ramp, path fade, path sine; b: sums of the basis
        mean, swing = (first + last) / 2, (last - first) / 2
        best = cosine(first * s[3], first * first * b[2], s[0])
        line = first * s[1] + 2 * swing * s[2]
        flat = first * first * WINDOW_BITS + 4 * first * swing * b[0] + 4 * swing * swing * b[1]
        best = max(best, cosine(line, flat, s[0]))
        wave = mean * s[1] + swing * s[4]
        length = mean * mean * WINDOW_BITS + 2 * mean * swing * b[3] + swing * swing * b[4]
        best = min(max(best, cosine(wave, length, s[0]), 0.0), 1.0)
        blended = 0.3 * best + 0.7 * plain
        if abs(last) < 2:
            blended /= 1 + 0.1 * abs(last)
        return min(max(blended, 0.0), 1.0)

    @jit
    def run(
        high: Any, low: Any, close: Any, volume: Any, share: Any, decay: Any, basis: Any, out: Any
    ) -> None:
        count = len(close) - 1
        bits = np.zeros(count + LANES, np.int8)
        for k in range(1, count + 1):
            wider = high[k] - low[k] >= high[k - 1] - low[k - 1] or volume[k] >= volume[k - 1]
            bits[k - 1] = close[k] >= close[k - 1] and wider
        b = np.zeros(5)
        for j in range(WINDOW_BITS):
            b[0] += basis[1, j]
            b[1] += basis[1, j] * basis[1, j]
            b[2] += basis[2, j] * basis[2, j]
            b[3] += basis[3, j]
            b[4] += basis[3, j] * basis[3, j]
        flips = ruptures = start_flips = start_ruptures = ones = 0
        for j in range(WINDOW_BITS - 1):
            ones += bits[j]
        for j in range(1, WINDOW_BITS - 1):
            flips += bits[j] ^ bits[j - 1]
            ruptures += bits[j] & bits[j - 1]
        for j in range(1, START_BITS - 1):
            start_flips += bits[j] ^ bits[j - 1]
            start_ruptures += bits[j] & bits[j - 1]
        values = bits.astype(np.float64)
        plain, path, weight, factor = np.zeros((4, LANES))
        squares, total, by_ramp, by_fade, by_sine = np.zeros((5, LANES))
        for begin in range(0, len(out), LANES):
            width = min(LANES, len(out) - begin)
            for lane in range(width):
                at = begin + lane
                end, start = at + WINDOW_BITS - 1, at + START_BITS - 1
                ones += bits[end]
                flips += bits[end] ^ bits[end - 1]
                ruptures += bits[end] & bits[end - 1]
                start_flips += bits[start] ^ bits[start - 1]
                start_ruptures += bits[start] & bits[start - 1]
                rho, phi = ruptures / PAIRS, flips / PAIRS
                h = share[PAIRS - flips - ruptures] + share[flips] + share[ruptures]
                h = min(max(h, 0.05), 1.0)
                plain[lane] = min(
                    max(0.6 * (1 - h) + 0.3 * (1 - rho) + 0.1 * (1 - phi), 0.01), 0.99
                )
                factor[lane] = decay[start_flips, start_ruptures]
                row = out[at]
                row[1], row[2], row[3], row[4], row[5] = 1 - rho, h, rho, phi, ones
                ones -= bits[at]
                flips -= bits[at + 1] ^ bits[at]
                ruptures -= bits[at + 1] & bits[at]
                start_flips -= bits[at + 1] ^ bits[at]
                start_ruptures -= bits[at + 1] & bits[at]
            first = values[begin : begin + LANES]
            for lane in range(LANES):
                path[lane], weight[lane] = 0.0, 1.0
                squares[lane] = first[lane] * first[lane]
                total[lane] = by_fade[lane] = first[lane]
                by_ramp[lane] = by_sine[lane] = 0.0
            for j in range(1, WINDOW_BITS):
                ramp, fade, sine = basis[1, j], basis[2, j], basis[3, j]
                bit = values[begin + j : begin + j + LANES]
                for lane in range(LANES):
                    w = weight[lane] * factor[lane]
                    p = path[lane] + (bit[lane] - first[lane]) * w
                    weight[lane] = w
                    path[lane] = p
                    squares[lane] += p * p
                    total[lane] += p
                    by_ramp[lane] += p * ramp
                    by_fade[lane] += p * fade
                    by_sine[lane] += p * sine
            for lane in range(width):
                s = squares[lane], total[lane], by_ramp[lane], by_fade[lane], by_sine[lane]
                row = out[begin + lane]
                row[0] = coherence(first[lane], path[lane], s, b, plain[lane])
                row[6], row[7] = math.floor(row[0] * 100 + 0.5), math.floor(row[1] * 100 + 0.5)
                row[8] = math.floor(row[2] * 100 + 0.5)

    return run


def run_with_numba(candles: Any) -> NDArray[np.float64]:
    """Return coherence, stability, entropy, rupture, flip_ratio, ones and signature buckets."""
    out = np.zeros((len(candles.close) - WINDOW_BITS, 9))
    prices = candles.high, candles.low, candles.close, candles.volume
    _compiled()(*prices, shares_table(PAIRS), decay_table()[:, :, 1].copy(), basis(), out)
    return out
