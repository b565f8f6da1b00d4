"""Estimates the memory the mirror takes in Valkey (table in docs/sizing.md). Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

from streams.mirror.keys import HISTORY_MS
from streams.mirror.shapes import Retention

CANDLE_BYTES: Final = 350
SIGNAL_BYTES: Final = 940
MANIFOLD_BYTES: Final = 720
"""Bytes of one record, keys and index included, measured on Valkey 9.1 with synthetic candles of
bid, ask and mid; a test measures it again."""
BASE_BYTES: Final = 4 << 20
"""Bytes of an empty server with last values, summaries and statuses of some dozens of pairs."""
YEAR_MS: Final = 260 * 86_400_000
"""Milliseconds of the market days of a year."""


class Need(NamedTuple):
    """Memory that the mirror takes.

    Attributes
    ----------
    size
        Bytes when every bounded series is full, the mirror's own keys included.
    yearly
        Bytes that a year of bars adds where a series has no bound; 0 where all have.
    """

    size: int
    yearly: int


def memory_need(pairs: int, granularity_ms: int, retention: Retention) -> Need:
    """Return the memory that the mirror takes for a number of pairs.

    Parameters
    ----------
    granularity_ms
        Bar length in ms.
    retention
        ``VALKEY_CANDLE_RETENTION`` and ``VALKEY_SIGNAL_RETENTION``; 0 for no limit.
    """
    history = HISTORY_MS // granularity_ms
    each = retention.candles * CANDLE_BYTES + retention.signals * SIGNAL_BYTES
    each += history * MANIFOLD_BYTES
    unbounded = (not retention.candles) * CANDLE_BYTES + (not retention.signals) * SIGNAL_BYTES
    return Need(BASE_BYTES + pairs * each, pairs * (YEAR_MS // granularity_ms) * unbounded)
