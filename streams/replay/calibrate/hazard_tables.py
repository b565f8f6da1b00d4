"""Tables of a study of lambda for a terminal."""

from __future__ import annotations

import math

from rich.table import Table

from streams.instants import clock
from streams.replay.calibrate.hazard import HALVES, Study
from streams.replay.calibrate.hazard_measures import SHARES
from streams.replay.calibrate.tables import text_table

SAMPLE = {"in": "in sample", "out": "out of sample"}


def effect_tables(found: Study) -> list[Table]:
    """Return the tables: distribution, correlations, and the effect for every gate and half."""
    effects = [_effect(found, gate, half) for gate in found.gates for half in HALVES]
    return [_distribution(found), _correlations(found), *effects]


def _distribution(found: Study) -> Table:
    labels = [f"p{round(share * 100):02d}" for share in SHARES]
    lines = [["instrument", "bars", "mean", "sd", *labels]]
    for half in HALVES:
        for name, one in found.lambdas[half].items():
            figures = [one.distribution.get(label, math.nan) for label in ("mean", "sd", *labels)]
            lines.append([f"{name} {half}", f"{one.bars:,}", *(f"{x:.6f}" for x in figures)])
    span = (
        f"{clock(found.from_ms)} to {clock(found.to_ms)} UTC, in sample to {clock(found.split_ms)}"
    )
    return text_table(f"{found.granularity}: lambda of the manifold\n{span}", lines)


def _correlations(found: Study) -> Table:
    heading = ["instrument", "rupture\nPearson", "rupture\nSpearman", "bars\nahead", "apart"]
    heading += [
        "volatility\nby lambda",
        "by\nrupture",
        "by past\nvolatility",
        "lambda\nbeyond past",
    ]
    lines = [heading]
    for half in HALVES:
        for name, one in found.lambdas[half].items():
            first = [f"{name} {half}", _figure(one.pearson), _figure(one.spearman)]
            for ahead in one.following:
                figures = (ahead.by_lambda, ahead.by_rupture, ahead.by_past)
                lines.append(
                    [
                        *first,
                        f"{ahead.bars}",
                        f"{ahead.apart:,}",
                        *(_figure(x) for x in (*figures, ahead.lambda_beyond_past)),
                    ]
                )
                first = ["", "", ""]
    title = f"{found.granularity}: correlations of lambda (volatility: Spearman)"
    return text_table(title, lines)


def _effect(found: Study, gate: str, half: str) -> Table:
    heading = ["term", "strength", "weight", "of the\nscore", "with\nweight", "weight\nlost"]
    heading += ["selection\nchanged", "turnover\na day", "gross\nbps", "cost\nbps", "net\nbps"]
    heading += ["sd of\ndays", "draw-\ndown", "t\ngross", "t\nnet"]
    lines = [heading]
    for one in found.gates[gate]:
        e = one.halves[half]
        shares = (one.level, e.weighted, e.lost, e.selection_changed)
        money = (e.gross_bps, e.cost_bps, e.pnl_bps, e.day_sd_bps, e.drawdown_bps)
        lines.append(
            [
                *(one.term or "none", f"{one.strength:g}", f"{one.weight:.4g}"),
                *(f"{share:.1%}" for share in shares),
                f"{e.turnover:.2f}",
                *(f"{bps:.1f}" for bps in money),
                *(_figure(e.gross_t), _figure(e.t)),
            ]
        )
    days = found.gates[gate][0].halves[half].days
    title = f"{found.granularity}, {gate}, {SAMPLE[half]}: {days} days, ALLOC_TOP_K="
    return text_table(f"{title}{found.config.alloc_top_k}", lines)


def _figure(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"
