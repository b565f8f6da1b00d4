"""Study of lambda as a term of the allocator's score, per bar length."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np

from streams.config.settings import Config
from streams.errors import Fatal
from streams.replay.calibrate.hazard_effect import Effect, EpochPnl, effect, ledger_of
from streams.replay.calibrate.hazard_measures import (
    Bars,
    Following,
    correlation,
    distribution,
    following,
    measured_bars,
    rank_correlation,
)
from streams.replay.calibrate.hazard_runs import (
    ChainRun,
    GranularityCandles,
    guards_open,
    run_chain,
)

LEAST_BARS: Final = 100
HALVES: Final = ("in", "out")
"""In sample: the first half of the time, which scales the strengths; out of sample: the rest."""


class Lambda(NamedTuple):
    """Lambda of one instrument over a half.

    Attributes
    ----------
    distribution
        Quantiles, mean and standard deviation.
    pearson, spearman
        Correlation with the window's rupture, by value and by rank.
    following
        The following volatility, for each horizon.
    """

    bars: int
    distribution: dict[str, float]
    pearson: float
    spearman: float
    following: tuple[Following, ...]


class Strength(NamedTuple):
    """A term at one strength.

    Attributes
    ----------
    term
        ALLOC_SCORE_HAZARD; empty for no term.
    strength
        Standard deviations of the score subtracted per standard deviation of the term.
    weight
        ALLOC_SCORE_WEIGHT_HAZARD.
    level
        Mean of the subtracted amount as a fraction of the mean score, in sample.
    halves
        In and out of sample.
    """

    term: str
    strength: float
    weight: float
    level: float
    halves: dict[str, Effect]


class Study(NamedTuple):
    """The findings for one bar length.

    Attributes
    ----------
    from_ms, split_ms, to_ms
        Ends of the first bar, the last one in sample, and the last one.
    lambdas
        Half -> instrument -> lambda.
    score_sd, term_sd
        In sample, over all instruments: of the score, and of each term.
    gates
        ``as configured`` and ``guards open`` -> every strength, the first without a term.
    """

    granularity: str
    config: Config
    notes: tuple[str, ...]
    from_ms: int
    split_ms: int
    to_ms: int
    lambdas: dict[str, dict[str, Lambda]]
    score_sd: float
    term_sd: dict[str, float]
    gates: dict[str, list[Strength]]

    def as_dict(self) -> dict[str, Any]:
        """Return the study for ``--json``; null for an undefined figure."""
        made = {
            "granularity": self.granularity,
            "from_ms": self.from_ms,
            "split_ms": self.split_ms,
            "to_ms": self.to_ms,
            "top_k": self.config.alloc_top_k,
            "gate_mode": self.config.gate_mode,
            "notes": list(self.notes),
            "lambda": {
                half: {
                    name: one._asdict() | {"following": [f._asdict() for f in one.following]}
                    for name, one in found.items()
                }
                for half, found in self.lambdas.items()
            },
            "score_sd": self.score_sd,
            "term_sd": self.term_sd,
            "effect": {
                gate: [
                    one._asdict() | {"halves": {h: e._asdict() for h, e in one.halves.items()}}
                    for one in found
                ]
                for gate, found in self.gates.items()
            },
        }
        cleaned: dict[str, Any] = _finite(made)
        return cleaned


def study(
    candles: GranularityCandles, strengths: tuple[float, ...], horizons: tuple[int, ...]
) -> Study:
    """Study the candles of one bar length.

    Parameters
    ----------
    candles
        Candles of two or more instruments.
    strengths
        Of ``Strength``.
    horizons
        Numbers of following bars over which volatility is measured.

    Raises
    ------
    Fatal
        There are too few candles.
    """
    config = replace(candles.config, alloc_score_weight_hazard=None)
    base = run_chain(candles, config)
    length_ms = config.granularity_ms
    bars = {n: measured_bars(base.decisions[n], candles.series[n], length_ms) for n in base.names}
    ends = np.concatenate([one.as_of_ms for one in bars.values()])
    if len(ends) < LEAST_BARS:
        raise Fatal(
            f"{len(ends)} bars of {config.candle_gran} have a signal, {LEAST_BARS} are needed: an "
            "instrument has one from its 129th candle on"
        )
    from_ms, to_ms = int(ends.min()), int(ends.max())
    split_ms = (from_ms + to_ms) // 2
    scale = _scale([one.where(one.as_of_ms <= split_ms) for one in bars.values()])
    lambdas = {
        half: {
            name: _lambda(one.where((one.as_of_ms <= split_ms) == (half == "in")), horizons)
            for name, one in bars.items()
        }
        for half in HALVES
    }
    gates = {}
    for gate, settings in (("as configured", config), ("guards open", guards_open(config))):
        ours = candles._replace(config=settings)
        plain = base if settings == config else run_chain(ours, settings)
        gates[gate] = _effects(ours, plain, scale, strengths, split_ms)
    term_sd = {term: sd for term, (_, sd) in scale.terms.items()}
    return Study(
        *(config.candle_gran, config, candles.notes, from_ms, split_ms, to_ms),
        *(lambdas, scale.score_sd, term_sd, gates),
    )


class _Scale(NamedTuple):
    """Mean and standard deviation in sample, of the score and of each term."""

    score_mean: float
    score_sd: float
    terms: dict[str, tuple[float, float]]


def _scale(bars: list[Bars]) -> _Scale:
    scores = np.concatenate([one.score for one in bars])
    columns = {
        "lambda": np.concatenate([one.lambda_ for one in bars]),
        "lambda_hazard": np.concatenate([one.rupture for one in bars]),
    }
    terms = {term: (float(x.mean()), float(x.std())) for term, x in columns.items()}
    return _Scale(float(scores.mean()), float(scores.std()), terms)


def _effects(
    candles: GranularityCandles,
    plain: ChainRun,
    scale: _Scale,
    strengths: tuple[float, ...],
    split_ms: int,
) -> list[Strength]:
    """Return every term at every strength under the settings of the candles, first without a
    term."""
    chosen = {"in": plain.epoch_ms <= split_ms, "out": plain.epoch_ms > split_ms}
    ledger = ledger_of(plain, candles)

    def halves(other: ChainRun, of_other: EpochPnl) -> dict[str, Effect]:
        return {h: effect(other, of_other, plain, ledger, at) for h, at in chosen.items()}

    found = [Strength("", 0.0, 0.0, 0.0, halves(plain, ledger))]
    for term, (mean, sd) in scale.terms.items():
        for strength in strengths if sd else ():
            weight = strength * scale.score_sd / sd
            settings = replace(
                candles.config, alloc_score_weight_hazard=weight, alloc_score_hazard=term
            )
            other = run_chain(candles, settings)
            level = weight * mean / scale.score_mean if scale.score_mean else math.nan
            compared = halves(other, ledger_of(other, candles))
            found.append(Strength(term, strength, weight, level, compared))
    return found


def _lambda(bars: Bars, horizons: tuple[int, ...]) -> Lambda:
    ahead = (following(bars, bars_ahead) for bars_ahead in horizons)
    some = len(bars.lambda_) > 1
    return Lambda(
        len(bars.lambda_),
        distribution(bars.lambda_),
        correlation(bars.lambda_, bars.rupture) if some else math.nan,
        rank_correlation(bars.lambda_, bars.rupture),
        tuple(one for one in ahead if one is not None),
    )


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
