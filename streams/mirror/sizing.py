"""How much memory the mirror takes in Valkey (docs/sizing.md has the table). Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

from streams.mirror.keys import HISTORY_MS
from streams.mirror.shapes import Retention

CANDLE_BYTES: Final = 350
SIGNAL_BYTES: Final = 940
MANIFOLD_BYTES: Final = 720
"""What one record takes, keys and index included, measured on Valkey 9.1 with synthetic candles of
bid, ask and mid; a test measures it again."""
BASE_BYTES: Final = 4 << 20
"""What an empty server takes, and last values, summaries and statuses of some dozens of pairs."""
YEAR_MS: Final = 260 * 86_400_000
"""Market days of a year."""


class Need(NamedTuple):
    """What the mirror takes.

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
    """Return what the mirror of so many pairs takes.

    Parameters
    ----------
    granularity_ms
        Length of a bar.
    retention
        ``VALKEY_CANDLE_RETENTION`` and ``VALKEY_SIGNAL_RETENTION``; 0 is no bound.
    """
    history = HISTORY_MS // granularity_ms
    each = retention.candles * CANDLE_BYTES + retention.signals * SIGNAL_BYTES
    each += history * MANIFOLD_BYTES
    unbounded = (not retention.candles) * CANDLE_BYTES + (not retention.signals) * SIGNAL_BYTES
    return Need(BASE_BYTES + pairs * each, pairs * (YEAR_MS // granularity_ms) * unbounded)
