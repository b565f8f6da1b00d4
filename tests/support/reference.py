"""An independent plain-Python reading of the metrics (docs/spec/trading-loop.md 1.1 to 1.8).

Written from the formulas alone and slow on purpose: no tables, no running sums, ``math`` for every
function. Nothing here is imported by the product.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

WINDOW_BITS = 128
STEP_BITS = 4
REACH_BITS = 512


class RefCandle(NamedTuple):
    """Start (epoch ms), mid prices, ticks."""

    bar_ms: int
    high: float
    low: float
    close: float
    volume: int


def clamp(x: float, low: float, high: float) -> float:
    return min(max(x, low), high)


def bits_of(candles: Sequence[RefCandle]) -> list[int]:
    """Return the n-1 bits of n candles (1.1)."""
    bits = []
    for before, now in itertools.pairwise(candles):
        up = now.close >= before.close
        expand = now.high - now.low >= before.high - before.low
        vol = now.volume >= before.volume
        bits.append(1 if up and (expand or vol) else 0)
    return bits


def pair_counts(bits: Sequence[int]) -> tuple[int, int, int]:
    """Return how many adjacent pairs are null, flip, rupture (1.2)."""
    pairs = list(itertools.pairwise(bits))
    return pairs.count((0, 0)), pairs.count((0, 1)) + pairs.count((1, 0)), pairs.count((1, 1))


def entropy(counts: Sequence[int]) -> float:
    total = sum(counts)
    shares = [count / total for count in counts if count] if total else []
    return clamp(-sum(p * math.log2(p) for p in shares) / 1.585, 0.05, 1.0)


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    norm = math.sqrt(math.fsum(x * x for x in a)) * math.sqrt(math.fsum(y * y for y in b))
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / norm if norm else 0.0


def trajectory(bits: Sequence[int]) -> tuple[float, float]:
    """Return (tau, V) of the damped path (1.5)."""
    n = len(bits)
    local = bits[:20]
    h, c = 0.5, 0.5
    if len(local) > 1:
        h = entropy(pair_counts(local))
        c = 1 - h
    decay = clamp(0.30 * h + 0.20 * (1 - c), 0.01, 1.0)
    value, path = 0.0, [float(bits[0])]
    for j in range(1, n):
        value += (bits[j] - bits[0]) * math.exp(-decay * j)
        path.append(value)
    if n < 3:
        return 0.5, value
    first, last = path[0], path[-1]
    fade = [first * math.exp(-0.1 * i) for i in range(n)]
    line = [first + (last - first) * i / (n - 1) for i in range(n)]
    mean, swing = (first + last) / 2, (last - first) / 2
    wave = [mean + swing * math.sin(2 * math.pi * i / n) for i in range(n)]
    best = max(0.0, cosine(path, fade), cosine(path, line), cosine(path, wave))
    return clamp(best, 0.0, 1.0), value


def analyze(bits: Sequence[int]) -> dict[str, Any]:
    """Return the metrics of a window (1.3, 1.4)."""
    counts = pair_counts(bits)
    m = max(len(bits) - 1, 1)
    flip, rupture = counts[1] / m, counts[2] / m
    h = entropy(counts)
    coherence = clamp(0.6 * (1 - h) + 0.3 * (1 - rupture) + 0.1 * (1 - flip), 0.01, 0.99)
    if len(bits) > 10:
        tau, value = trajectory(bits)
        coherence = 0.3 * tau + 0.7 * coherence
        if abs(value) < 2:
            coherence *= 1 / (1 + 0.1 * abs(value))
        coherence = clamp(coherence, 0.0, 1.0)
    return {
        "coherence": coherence,
        "stability": 1 - rupture,
        "entropy": h,
        "rupture": rupture,
        "flip_ratio": flip,
        "lambda_hazard": clamp(rupture, 0.0, 1.0),
        "collapsed": rupture >= 0.5,
        "ones": sum(bits),
    }


def rounded(value: float, precision: int) -> str:
    """Return ``value`` in 0..1 rounded half away from zero, in fixed notation."""
    scaled = clamp(value, 0.0, 1.0) * 10**precision
    whole = math.floor(scaled)
    whole += scaled - whole >= 0.5
    digits = f"{whole:0{precision + 1}d}"
    return f"{digits[:-precision]}.{digits[-precision:]}" if precision else digits


def signature(metrics: dict[str, Any], precision: int) -> str:
    """Return ``c<C>_s<S>_e<H>`` (1.7)."""
    names = (("c", "coherence"), ("s", "stability"), ("e", "entropy"))
    return "_".join(letter + rounded(metrics[name], precision) for letter, name in names)


def grid(n_bits: int) -> tuple[int, int, int, int]:
    """Return (W, first end, step, number of windows) of a batch (1.7)."""
    w = min(n_bits, WINDOW_BITS)
    if w >= n_bits:
        if n_bits > 24:
            w = n_bits - min(8, n_bits // 4)
        elif n_bits > 12:
            w = 12
        elif n_bits > 8:
            w = 9
        else:
            w = n_bits
    step = max(1, w // 32)
    first = n_bits - REACH_BITS if n_bits - w > REACH_BITS else w
    ends = range(first, n_bits + 1, step) if w >= 8 and n_bits >= 2 else range(0)
    return w, first, step, len(ends)


def signals_at(
    candles: Sequence[RefCandle], w: int, ends: Sequence[int], precision: int, lookback_minutes: int
) -> list[dict[str, Any]]:
    """Return the signals of the windows that end at these bits, with repetitions (1.7)."""
    bits = bits_of(candles)
    kept: dict[str, list[int]] = {}
    signals = []
    for end in ends:
        begin = end - w
        found = analyze(bits[begin:end])
        stamp = candles[begin + 1].bar_ms
        found["window_start_ms"], found["window_end_ms"] = stamp, candles[end].bar_ms
        found["price"], found["window_end_price"] = candles[begin + 1].close, candles[end].close
        found["signature"] = signature(found, precision)
        stamps = kept.setdefault(found["signature"], [])
        while stamps and stamp - stamps[0] > lookback_minutes * 60_000:
            stamps.pop(0)
        stamps.append(stamp)
        found["count_1h"], found["first_seen_ms"] = len(stamps), stamps[0]
        signals.append(found)
    return signals


def sigma_eff(candles: Sequence[RefCandle]) -> float:
    """Return the sample standard deviation of the log returns (1.8)."""
    if len(candles) < 3:
        return 0.0
    returns = [math.log(b.close / a.close) for a, b in itertools.pairwise(candles)]
    mean = math.fsum(returns) / len(returns)
    return math.sqrt(math.fsum((r - mean) ** 2 for r in returns) / (len(returns) - 1))


def hazard(signals: Sequence[dict[str, Any]]) -> float:
    """Return lambda (1.8)."""
    if len(signals) < 2:
        return 0.0
    stamps = [signal["window_start_ms"] for signal in signals]
    seconds = math.fsum(max((b - a) / 1000, 1e-6) for a, b in itertools.pairwise(stamps))
    rate = math.fsum(signal["rupture"] for signal in signals[1:]) / seconds
    return clamp(1 - math.exp(-60 * rate), 0.0, 1.0)


def build_manifold(
    candles: Sequence[RefCandle], *, precision: int, lookback_minutes: int
) -> dict[str, Any]:
    """Return signals, sigma_eff and lambda of a batch, by the original's window rules."""
    n_bits = max(len(candles) - 1, 0)
    w, first, step, number = grid(n_bits)
    ends = range(first, first + number * step, step)
    signals = signals_at(candles, w, ends, precision, lookback_minutes)
    return {
        "signals": signals,
        "count": len(candles),
        "sigma_eff": sigma_eff(candles),
        "lambda_": hazard(signals),
    }


def stream_record(
    candles: Sequence[RefCandle], candle_count: int, lookback_minutes: int, precision: int
) -> dict[str, Any] | None:
    """Return the record of the last candle (docs/spec/records.md), None before the 129th.

    The batch over the last ``candle_count`` candles, its windows counted back from the last bit.
    """
    recent = candles[-candle_count:]
    n_bits = len(recent) - 1
    if n_bits < WINDOW_BITS:
        return None
    ends = [
        end for end in range(n_bits, WINDOW_BITS - 1, -STEP_BITS) if n_bits - end <= REACH_BITS
    ][::-1]
    signals = signals_at(recent, WINDOW_BITS, ends, precision, lookback_minutes)
    return signals[-1] | {
        "sigma_eff": sigma_eff(recent),
        "lambda_": hazard(signals),
        "count": len(recent),
        "t0_ms": recent[0].bar_ms,
        "t1_ms": recent[-1].bar_ms,
    }
