"""The manifold of a batch of candles in the original's JSON (docs/spec/trading-loop.md 1.8)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streams.config.settings import Config
from streams.core import build_manifold, format_signature
from streams.errors import Fatal
from streams.records.events import Candle

NS_PER_MS = 1_000_000
SHARED = ("coherence", "stability", "entropy", "rupture")


def manifold_snapshot(instrument: str, candles: Sequence[Candle], config: Config) -> dict[str, Any]:
    """Return the JSON object of all candles, with the original's windows and timestamps.

    ``timestamp_ns`` and ``price`` are those of a window's start, as in the original;
    ``window_end_ns`` and ``window_end_price`` are those of its end, when its metrics are first
    known.

    Parameters
    ----------
    candles
        One instrument and bar length, ascending by ``bar_ms``.
    config
        For ``ECHO_SIGNATURE_PRECISION``, ``ECHO_LOOKBACK_MINUTES`` and ``ALLOW_MISSING_VOLUME``.

    Raises
    ------
    Fatal
        A candle has no volume and ALLOW_MISSING_VOLUME is not set.
    """
    if not candles:
        return {"instrument": instrument, "count": 0, "signals": []}
    without = [candle for candle in candles if candle.volume is None]
    if without and not config.allow_missing_volume:
        raise Fatal(
            f"{instrument}: {len(without):,} candles have no volume, the first at "
            f"{without[0].bar_ms}; ALLOW_MISSING_VOLUME=1 counts them as 0"
        )
    found = build_manifold(
        [c.bar_ms for c in candles],
        [c.mid.high for c in candles],
        [c.mid.low for c in candles],
        [c.mid.close for c in candles],
        [c.volume or 0 for c in candles],
        precision=config.echo_signature_precision,
        lookback_minutes=config.echo_lookback_minutes,
    )
    signals = [_signal(row, found.precision) for row in found.signals]
    last = signals[-1]["metrics"] if signals else dict.fromkeys(SHARED, 0.0)
    shown: dict[str, Any] = {
        "instrument": instrument,
        "granularity": candles[0].granularity,
        "count": found.count,
        "t0_ms": found.t0_ms,
        "t1_ms": found.t1_ms,
        "signals": signals,
        "metrics": dict(last),
        "coeffs": {"sigma_eff": found.sigma_eff, "lambda": found.lambda_},
    }
    if without:
        shown["volume_missing"] = len(without)
    return shown


def _signal(row: Any, precision: int) -> dict[str, Any]:
    metrics = {name: float(row[name]) for name in SHARED}
    hazard = float(row["lambda_hazard"])
    buckets = (int(row["sig_c"]), int(row["sig_s"]), int(row["sig_e"]))
    return {
        "timestamp_ns": int(row["window_start_ms"]) * NS_PER_MS,
        "price": float(row["price"]),
        "window_end_ns": int(row["window_end_ms"]) * NS_PER_MS,
        "window_end_price": float(row["window_end_price"]),
        "state": "collapsed" if row["collapsed"] else "live",
        "metrics": metrics,
        "coeffs": {"lambda_hazard": hazard},
        "repetition": {
            "signature": format_signature(*buckets, precision),
            "count_1h": int(row["count_1h"]),
            "first_seen_ms": int(row["first_seen_ms"]),
        },
        **metrics,
        "lambda_hazard": hazard,
    }
