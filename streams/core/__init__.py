"""Python interface of the C++ core: bits, windows, signatures and manifolds of candles.

The core is compiled on first use (about a second), not on import of this package.
"""

from __future__ import annotations

from streams.core.batch import (
    BatchManifold,
    BitMetrics,
    WindowGrid,
    analyze_bits,
    build_manifold,
    window_grid,
)
from streams.core.layout import METRICS_DTYPE, SIGNALS_DTYPE
from streams.core.loader import ENGINE_VERSION, BuildInfo, build_info, cpp_dir
from streams.core.loader import core as load
from streams.core.status import check_candle
from streams.core.stream import BarMetrics, CandleStream, format_signature

__all__ = [
    "ENGINE_VERSION",
    "METRICS_DTYPE",
    "SIGNALS_DTYPE",
    "BarMetrics",
    "BatchManifold",
    "BitMetrics",
    "BuildInfo",
    "CandleStream",
    "WindowGrid",
    "analyze_bits",
    "build_info",
    "build_manifold",
    "check_candle",
    "cpp_dir",
    "format_signature",
    "load",
    "window_grid",
]
