"""Effect of a hazard term on selection, turnover and P&L of the weights."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.replay.calibrate.hazard_runs import ChainRun, GranularityCandles

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
DAY_MS = 86_400_000
BPS = 1e4


class Effect(NamedTuple):
    """Results of the weights over a range of epochs.

    Attributes
    ----------
    epochs, days
        Number of epochs; number of UTC days with an epoch.
    weighted
        Share of the epochs in which any instrument has weight.
    lost
        Share of the epochs with weight without the term that have no weight with it, because no
        score is positive.
    selection_changed
        Share of the epochs with weight in both runs that select other instruments.
    turnover
        Weight traded per day: half the sum of the absolute changes.
    gross_bps, cost_bps, pnl_bps
        P&L before costs, costs, and P&L after costs; sums, bps of the account.
    day_sd_bps
        Standard deviation of the daily P&L, bps.
    drawdown_bps
        Largest drawdown of the P&L from a peak, bps.
    gross_t, t
        t statistic of the mean daily difference to the run without the term, before and after
        costs; NaN without a difference.
    """

    epochs: int
    days: int
    weighted: float
    lost: float
    selection_changed: float
    turnover: float
    gross_bps: float
    cost_bps: float
    pnl_bps: float
    day_sd_bps: float
    drawdown_bps: float
    gross_t: float
    t: float


class EpochPnl(NamedTuple):
    """P&L per epoch, as fractions of the account; ``pnl`` is after ``cost``."""

    epoch_ms: Ints
    pnl: Floats
    cost: Floats


def ledger_of(run: ChainRun, candles: GranularityCandles) -> EpochPnl:
    """Return the P&L of exposures times the runs' positions.

    The exposure of an instrument is that of the epoch, its sign the position of its backtest run at
    the epoch; both are held until the next epoch, valued from mid to mid. A change of the signed
    exposure costs half the spread at the epoch, or BACKTEST_COST_BPS if the candles have no bid and
    ask.
    """
    shape = run.exposure.shape
    close, spread, position = np.empty(shape), np.empty(shape), np.zeros(shape)
    length_ms, assumed = candles.config.granularity_ms, candles.config.backtest_cost_bps / BPS
    for column, name in enumerate(run.names):
        series, rows = candles.series[name], run.decisions[name]
        ends = series.bar_ms + length_ms
        at = np.searchsorted(ends, run.epoch_ms, "right") - 1
        mid, bid, ask = (series.prices[place] for place in (3, 7, 11))
        half = np.where(series.quoted, (ask - bid) / 2 / mid, assumed)
        close[:, column] = np.where(at >= 0, mid[at], mid[0])
        spread[:, column] = np.where(at >= 0, half[at], half[0])
        decided = np.searchsorted(rows["as_of_ms"], run.epoch_ms, "right") - 1
        position[:, column] = np.where(decided >= 0, rows["position"][decided], 0)
    signed = run.exposure * position
    moves = np.zeros(shape)
    moves[:-1] = close[1:] / close[:-1] - 1.0
    changes = np.abs(np.diff(signed, axis=0, prepend=np.zeros((1, shape[1]))))
    cost = (changes * spread).sum(axis=1)
    return EpochPnl(run.epoch_ms, (signed * moves).sum(axis=1) - cost, cost)


def effect(
    run: ChainRun,
    ledger: EpochPnl,
    base: ChainRun,
    base_ledger: EpochPnl,
    chosen: NDArray[np.bool_],
) -> Effect:
    """Return the results of the chosen epochs, compared with a run over the same epochs."""
    selected, before = run.weights[chosen] > 0, base.weights[chosen] > 0
    weighted: NDArray[np.bool_] = np.asarray(selected.any(axis=1))
    known: NDArray[np.bool_] = np.asarray(before.any(axis=1))
    changed = (selected != before).any(axis=1)
    shares = run.weights[chosen]
    turnover = np.abs(np.diff(shares, axis=0)).sum() / 2 if len(shares) > 1 else 0.0
    days = ledger.epoch_ms[chosen] // DAY_MS
    pnl, cost = ledger.pnl[chosen], ledger.cost[chosen]
    base_pnl, base_cost = base_ledger.pnl[chosen], base_ledger.cost[chosen]
    daily = _daily(days, pnl)
    wealth = np.concatenate([[0.0], np.cumsum(pnl)])
    return Effect(
        len(days),
        len(daily),
        _share(weighted),
        _share(~weighted[known]),
        _share(changed[weighted & known]),
        float(turnover / max(1, len(daily))),
        float((pnl + cost).sum() * BPS),
        float(cost.sum() * BPS),
        float(pnl.sum() * BPS),
        float(daily.std() * BPS) if len(daily) else 0.0,
        float((np.maximum.accumulate(wealth) - wealth).max() * BPS),
        _t(_daily(days, pnl + cost - base_pnl - base_cost)),
        _t(_daily(days, pnl - base_pnl)),
    )


def _share(found: NDArray[np.bool_]) -> float:
    return float(found.mean()) if len(found) else 0.0


def _daily(days: Ints, values: Floats) -> Floats:
    _, places = np.unique(days, return_inverse=True)
    return np.bincount(places, values).astype(np.float64)


def _t(differences: Floats) -> float:
    n = len(differences)
    if n < 2 or not differences.any():
        return float("nan")
    sd = float(differences.std(ddof=1))
    return float(differences.mean() / sd * np.sqrt(n)) if sd > 0.0 else float("nan")
