"""Stop and target of a joined trade: those of its run (docs/spec/strict-backtest.md 1).

A bracket at the broker is the run's level, computed from the fill price by the formula of
``cpp/backtest/backtest.hpp``. Where the run has none there is none: any other stop would trade a
strategy that was not tested.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from streams.config.settings import Config
from streams.records.events import Ohlc
from streams.trading.brokers.broker import InstrumentTerms, LevelRule
from streams.trading.brokers.sizing import SizingRefused


def level_rule(config: Config, average_range: float | None) -> LevelRule | None:
    """Return the stop and target rule of a run under ``config``; None when it has none.

    Parameters
    ----------
    config
        The configuration with the instrument's parameters.
    average_range
        Average true range at the bar that decided the entry; used in atr mode only.

    Raises
    ------
    SizingRefused
        Atr mode without an average true range.
    """
    if config.auto_tp_mode == "atr":
        if average_range is None or not (math.isfinite(average_range) and average_range > 0.0):
            raise SizingRefused(f"the average true range is {average_range!r}: no levels from it")
        risk = config.atr_stop_mult * average_range
        return LevelRule("distance", risk, config.auto_tp_rr * risk)
    if config.exit_pnl_enabled:
        return LevelRule("pct", config.exit_pnl_stop_pct, config.exit_pnl_target_pct)
    return None


def levels(rule: LevelRule, entry: float, direction: int) -> tuple[float, float]:
    """Return (stop, target) of a trade filled at ``entry``, bit for bit as the core computes them.

    Raises
    ------
    SizingRefused
        A level is not a valid price.
    """
    if rule.kind == "pct":
        stop = entry * (1.0 - direction * rule.stop / 100.0)
        target = entry * (1.0 + direction * rule.target / 100.0)
    else:
        stop = entry - direction * rule.stop
        target = entry + direction * rule.target
    if not (math.isfinite(stop) and math.isfinite(target) and min(stop, target) > 0.0):
        raise SizingRefused(f"stop {stop!r} and target {target!r} of {entry!r} are no prices")
    return stop, target


def in_precision(price: float, terms: InstrumentTerms) -> float:
    """Return the nearest price that the venue accepts."""
    return round(price, terms.price_digits)


def average_true_range(mids: Sequence[Ohlc], bars: int) -> float | None:
    """Return Wilder's average true range after the last of ``mids``; None for fewer than ``bars``.

    Seeded with the mean of the first true ranges, as in the run.
    """
    total, previous = 0.0, 0.0
    for place, mid in enumerate(mids):
        true_range = mid.high - mid.low
        if place:
            true_range = max(true_range, abs(mid.high - previous), abs(mid.low - previous))
        previous = mid.close
        if place < bars:
            total += true_range
            if place + 1 == bars:
                total /= bars
        else:
            total = (total * (bars - 1) + true_range) / bars
    return total if len(mids) >= bars else None
