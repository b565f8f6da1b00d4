"""``sep.manifolds``: the manifold snapshot of an instrument at a bar."""

from __future__ import annotations

from streams.core import BarMetrics
from streams.records.events import Candle, CandlePrices, Manifold


def manifold(
    candle: Candle,
    prices: CandlePrices,
    metrics: BarMetrics,
    stamp: tuple[str, int],
    *,
    volume_missing: bool,
    gap_bars: int,
    late: bool,
) -> Manifold:
    """Return the manifold record of the bar (docs/spec/trading-loop.md 1.8, docs/spec/records.md).

    Parameters
    ----------
    candle, prices
        The candle and its prices.
    metrics
        The engine's metrics of the window and of the last ``CANDLE_COUNT`` candles ending here.
    stamp
        (config_id, control_offset) in force.
    volume_missing, gap_bars, late
        Fields of the record.
    """
    return Manifold(
        candle.instrument,
        candle.granularity,
        candle.bar_ms,
        candle.as_of_ms,
        stamp[0],
        stamp[1],
        metrics.count,
        metrics.t0_ms,
        metrics.t1_ms,
        metrics.coherence,
        metrics.stability,
        metrics.entropy,
        metrics.rupture,
        metrics.lambda_hazard,
        metrics.sigma_eff,
        metrics.lambda_,
        metrics.signature,
        metrics.count_1h,
        metrics.first_seen_ms,
        metrics.window_start_ms,
        candle.mid.close,
        prices,
        volume_missing,
        gap_bars,
        late,
    )
