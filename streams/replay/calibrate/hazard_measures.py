"""Distribution of lambda, its rank correlations, and the volatility that follows it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.candles.columns import CandleColumns

Floats = NDArray[np.float64]

SHARES = (0.01, 0.05, 0.25, 0.50, 0.75, 0.95, 0.99)
"""The quantiles shown."""


class Bars(NamedTuple):
    """Lambda and the values compared with it, one element per bar with a signal.

    Attributes
    ----------
    as_of_ms
        Ends of the bars, ascending.
    lambda_, rupture, score
        Values of the bar's decision; the score without a hazard term.
    close
        Mid at the bar's end.
    """

    as_of_ms: NDArray[np.int64]
    lambda_: Floats
    rupture: Floats
    score: Floats
    close: Floats

    def where(self, chosen: Any) -> Bars:
        """Return some of the bars."""
        return Bars(*(column[chosen] for column in self))


class Following(NamedTuple):
    """Predictability of volatility ``bars`` ahead; rank correlations.

    Attributes
    ----------
    compared, apart
        Number of bars compared, and how many of them do not overlap.
    by_lambda, by_rupture, by_past
        With lambda, with the window's rupture, with the volatility of the same number of preceding
        bars.
    lambda_beyond_past
        With lambda, controlled for the preceding volatility (partial correlation).
    """

    bars: int
    compared: int
    apart: int
    by_lambda: float
    by_rupture: float
    by_past: float
    lambda_beyond_past: float


def measured_bars(decisions: NDArray[Any], candles: CandleColumns, length_ms: int) -> Bars:
    """Return the bars of an instrument with a candle and a signal."""
    own = decisions[(decisions["no_candle"] == 0) & (decisions["has_signal"] != 0)]
    at = np.searchsorted(candles.bar_ms, own["bar_ms"])
    return Bars(
        own["bar_ms"] + length_ms,
        own["lambda_"].copy(),
        own["rupture"].copy(),
        own["score"].copy(),
        candles.prices[3][at],
    )


def distribution(values: Floats) -> dict[str, float]:
    """Return quantiles, mean and standard deviation; empty without values."""
    if not len(values):
        return {}
    found = np.quantile(values, SHARES)
    made = {f"p{round(share * 100):02d}": float(x) for share, x in zip(SHARES, found, strict=True)}
    return made | {"mean": float(values.mean()), "sd": float(values.std())}


def ranks(values: Floats) -> Floats:
    """Return ranks from 0; equal values have their mean rank."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    means: Floats = (ends - (counts + 1) / 2)[places]
    return means


def correlation(one: Floats, other: Floats) -> float:
    """Return Pearson's correlation; NaN if one of the two is constant."""
    a, b = one - one.mean(), other - other.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size > 0.0 else float("nan")


def rank_correlation(one: Floats, other: Floats) -> float:
    """Return Spearman's correlation; NaN if one of the two is constant."""
    return correlation(ranks(one), ranks(other)) if len(one) > 1 else float("nan")


def beyond(xy: float, xz: float, yz: float) -> float:
    """Return the partial correlation of x and y given z."""
    left = (1.0 - xz * xz) * (1.0 - yz * yz)
    return float((xy - xz * yz) / np.sqrt(left)) if left > 0.0 else float("nan")


def following(bars: Bars, ahead: int) -> Following | None:
    """Compare with the volatility of the next ``ahead`` bars; None if there are too few.

    Volatility is the root mean square of log returns from close to close; returns across gaps in
    time count too.
    """
    count = len(bars.close) - 2 * ahead
    if count < 2:
        return None
    squares = np.concatenate([[0.0], np.cumsum(np.diff(np.log(bars.close)) ** 2)])
    sums = np.sqrt((squares[ahead:] - squares[:-ahead]) / ahead)
    past, future = sums[:count], sums[ahead : ahead + count]
    at = slice(ahead, ahead + count)
    by_lambda = rank_correlation(bars.lambda_[at], future)
    by_past = rank_correlation(past, future)
    return Following(
        ahead,
        count,
        max(1, count // ahead),
        by_lambda,
        rank_correlation(bars.rupture[at], future),
        by_past,
        beyond(by_lambda, rank_correlation(bars.lambda_[at], past), by_past),
    )
