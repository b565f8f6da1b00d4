"""Meaning of the core's status codes, and the check of a candle."""

from __future__ import annotations

from typing import NoReturn

from streams.core.loader import core
from streams.errors import CARRY_OVER, Fatal

OK = 0
WARMING = 1
NOT_ASCENDING = 7

MEANING = {
    2: "a price is not a finite number",
    3: "a price is not positive",
    4: "a price is outside 1e-12 to 1e12",
    5: "high is below low",
    6: "volume is negative",
    7: "bar_ms is not after the previous candle",
    8: "a parameter is out of bounds (129 to 20000 candles, 1 to 1440 minutes, 0 to 6 decimals)",
    9: "out of memory",
    10: f"the stored engine state is too short or too long: {CARRY_OVER}",
    11: f"the stored engine state has another layout: {CARRY_OVER}",
    12: f"the stored engine state was written by another engine version: {CARRY_OVER}",
    13: f"the rows of the stored engine state are inconsistent: {CARRY_OVER}",
}
"""Status code of the core -> meaning, as part of a sentence."""


def raise_for(status: int, subject: str) -> NoReturn:
    """Raise ``Fatal`` with ``subject`` and the meaning of ``status``."""
    raise Fatal(f"{subject}: {MEANING.get(status, f'status {status} of the core')}")


def check_candle(
    bar_ms: int,
    high: float,
    low: float,
    close: float,
    volume: int,
    last_bar_ms: int | None = None,
) -> str | None:
    """Return why a stream would refuse a candle, None when it is valid.

    Parameters
    ----------
    bar_ms, last_bar_ms
        Start of the candle and of the stream's newest candle (None without one), epoch ms.
    high, low, close
        Mid prices.
    volume
        Ticks.
    """
    status = int(core().check(bar_ms, high, low, close, volume))
    if status == OK and last_bar_ms is not None and bar_ms <= last_bar_ms:
        status = NOT_ASCENDING
    return None if status == OK else MEANING[status]
