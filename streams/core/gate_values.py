"""Inputs and outputs of a gate: bars, events, trades, decisions, evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class BarInput(NamedTuple):
    """One input bar of a gate, in the field order of its C++ structure.

    Attributes
    ----------
    bar_ms, as_of_ms
        Start and end of the bar, epoch ms.
    prices
        Open, high, low, close of mid, bid and ask: 12 numbers; bid and ask are used only with
        ``QUOTED``.
    metrics
        Coherence, stability, entropy, rupture, lambda_hazard, lambda, sigma_eff.
    count_1h
        Repetitions of the signature.
    next_change_ms, flags
        Calendar values at ``as_of_ms``.
    """

    bar_ms: int
    as_of_ms: int
    prices: tuple[float, ...]
    metrics: tuple[float, ...]
    count_1h: int
    next_change_ms: int
    flags: int


class BarColumns(NamedTuple):
    """Many bars as contiguous arrays [n].

    Attributes
    ----------
    bar_ms
        Starts, epoch ms.
    prices
        12 arrays, in the order of ``BarInput.prices``.
    metrics
        Rows of ``METRICS_DTYPE`` for the same bars.
    flags, next_change_ms
        As in ``BarInput``; when events are given only ``QUOTED`` is used.
    granularity_ms
        Length of a bar.
    """

    bar_ms: NDArray[np.int64]
    prices: Sequence[NDArray[np.float64]]
    metrics: NDArray[Any]
    flags: NDArray[np.int32]
    next_change_ms: NDArray[np.int64]
    granularity_ms: int


class GateEvents(NamedTuple):
    """Events of a gate in order, as contiguous arrays [events].

    Attributes
    ----------
    places
        Index of the bar, -1 for a bar without a candle.
    as_of_ms
        Time of the event, epoch ms.
    late
        1 for a bar that is older than the last decision.
    flags, next_change_ms
        Calendar values at that time.
    """

    places: NDArray[np.int64]
    as_of_ms: NDArray[np.int64]
    late: NDArray[np.uint8]
    flags: NDArray[np.int32]
    next_change_ms: NDArray[np.int64]


class Trade(NamedTuple):
    """A closed trade; fields as in ``TRADES_DTYPE``."""

    entry_bar_ms: int
    exit_bar_ms: int
    exit_as_of_ms: int
    bars_held: int
    entry_price: float
    exit_price: float
    cost_bps: float
    pnl_bps: float
    mae_bps: float
    mfe_bps: float
    direction: int
    exit: int
    cost_assumed: int


class Decision(NamedTuple):
    """A gate decision; fields as in ``DECISION_DTYPE``, floors one by one."""

    bar_ms: int
    as_of_ms: int
    signal_bar_ms: int
    cooldown_until_ms: int
    next_change_ms: int
    session_change_ms: int
    evaluated_ms: int
    evaluated_trades: int
    evaluated_calmar: float
    evaluated_pnl: float
    min_trades: float
    calmar_min: float
    pnl_min: float
    score: float
    coherence: float
    stability: float
    entropy: float
    rupture: float
    lambda_hazard: float
    lambda_: float
    sigma_eff: float
    count_1h: int
    reasons: int
    passes: int
    fails: int
    misses: int
    direction: int
    position: int
    has_signal: int
    has_evaluation: int
    integrity_ok: int
    session_flags: int
    no_candle: int
    unused: int


class Evaluation(NamedTuple):
    """An evaluation of the run; a slice is days, trades, and the figures of ``SLICE_DTYPE``."""

    bar_ms: int
    as_of_ms: int
    floor_samples: int
    floors: tuple[float, float, float]
    slices: tuple[tuple[Any, ...], ...]
    integrity_ok: bool
