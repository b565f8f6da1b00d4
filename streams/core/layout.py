"""Memory layouts shared by Python and the C++ core: structures, flags, rules."""

from __future__ import annotations

import math
import struct
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streams.config.settings import MAX_SLICES, Config
from streams.errors import Fatal

NEVER = -(2**63)
TRADED, EVALUATED, DECIDED = 1, 2, 4
OPEN, NEAR_CLOSE, MARKET_OPEN, QUOTED = 1, 2, 4, 8
"""Bits of a bar's flags: calendar state, and whether bid and ask were quoted by the market."""
EXIT_REASONS = ("", "stop", "target", "session_close", "slope_reversal", "max_hold")
DAY_ROWS, SAMPLE_ROWS, SAMPLES_OF_ROW = 64, 136, 16
"""Ring sizes of the state rows; cpp/backtest/gate_rows.hpp."""

TRADES_DTYPE = np.dtype(
    [(n, "i8") for n in ("entry_bar_ms", "exit_bar_ms", "exit_as_of_ms", "bars_held")]
    + [
        (n, "f8")
        for n in ("entry_price", "exit_price", "cost_bps", "pnl_bps", "mae_bps", "mfe_bps")
    ]
    + [(n, "i4") for n in ("direction", "exit", "cost_assumed", "unused")]
)
"""Closed trades of a run: times epoch ms, excursions and costs in bps of the entry price; ``exit``
is an index into ``EXIT_REASONS``."""

FLOORS_DTYPE = np.dtype([(n, "f8") for n in ("min_trades", "calmar_min", "pnl_min")])
_FIGURES = (
    *("win_rate", "pnl_bps", "pnl_total", "max_drawdown", "calmar", "calmar_ann", "sharpe"),
    *("sortino", "profit_factor", "exposure", "avg_hold_bars", "cost_bps"),
)
SLICE_DTYPE = np.dtype([("days", "i8"), ("trades", "i8"), *((n, "f8") for n in _FIGURES)])
EVALUATION_DTYPE = np.dtype(
    [
        *((n, "i8") for n in ("bar_ms", "as_of_ms", "floor_samples")),
        ("floors", FLOORS_DTYPE),
        ("slices", SLICE_DTYPE, (MAX_SLICES,)),
        *((n, "i4") for n in ("slice_count", "integrity_ok")),
    ]
)
"""Evaluations of a run; NaN stands for null."""
METRICS_OF_GATE = (
    *("coherence", "stability", "entropy", "rupture", "lambda_hazard", "lambda_", "sigma_eff"),
)
DECISION_DTYPE = np.dtype(
    [
        *(
            (n, "i8")
            for n in (
                *("bar_ms", "as_of_ms", "signal_bar_ms", "cooldown_until_ms", "next_change_ms"),
                *("session_change_ms", "evaluated_ms", "evaluated_trades"),
            )
        ),
        ("evaluated_calmar", "f8"),
        ("evaluated_pnl", "f8"),
        ("floors", FLOORS_DTYPE),
        ("score", "f8"),
        *((n, "f8") for n in METRICS_OF_GATE),
        ("count_1h", "i8"),
        ("reasons", "u4"),
        *(
            (n, "i4")
            for n in (
                *("passes", "fails", "misses", "direction", "position", "has_signal"),
                *("has_evaluation", "integrity_ok", "session_flags", "no_candle", "unused"),
            )
        ),
    ]
)
"""Gate decisions: bit i of ``reasons`` is the i-th of ``streams.records.reasons.Reason``; ``NEVER``
stands for a missing time."""

_SIDES = [(n, "f8", (4,)) for n in ("mid", "bid", "ask")]
BAR_DTYPE = np.dtype(
    [
        *(("bar_ms", "i8"), ("as_of_ms", "i8")),
        *_SIDES,
        *((n, "f8") for n in METRICS_OF_GATE),
        *(("count_1h", "i8"), ("next_change_ms", "i8"), ("flags", "i4")),
    ],
    align=True,
)
"""One input bar of a gate: open, high, low and close of each side."""
COLUMNS_DTYPE = np.dtype(
    [
        *(("bar_ms", "u8"), ("prices", "u8", (12,)), ("metrics", "u8"), ("flags", "u8")),
        *(("next_change_ms", "u8"), ("granularity_ms", "i8")),
    ]
)
"""Many bars: addresses of columns."""


_GUARDS = [
    *((n, "f8") for n in ("min_coherence", "min_stability", "max_entropy", "max_rupture")),
    ("max_hazard", "f8"),
    ("min_repetitions", "i8"),
]
RULES_DTYPE = np.dtype(
    [
        *_GUARDS,
        *((n, "f8") for n in ("threshold_bps", "target_pct", "stop_pct", "atr_stop")),
        *((n, "f8") for n in ("reward_ratio", "assumed_cost_bps")),
        *((n, "i8") for n in ("max_hold_ms", "entry_cooldown_ms", "exit_cooldown_ms")),
        *((n, "i4") for n in ("lookback", "atr_bars", "combined", "slope_exit", "pct_levels")),
        *((n, "i4") for n in ("atr_levels", "sessions", "unused_trade")),
        ("least", FLOORS_DTYPE),
        ("buffer", "f8"),
        *((n, "f8") for n in ("weight_coherence", "weight_stability", "weight_rupture")),
        *((n, "f8") for n in ("weight_entropy", "weight_hazard", "echo_max_hazard")),
        *((n, "i8") for n in ("echo_min_repetitions", "fresh_ms", "interval_ms", "cooldown_ms")),
        ("slices", "i8", (MAX_SLICES,)),
        *((n, "i4") for n in ("slice_count", "span", "history", "mode", "hazard_term")),
        ("unused", "i4"),
    ]
)
_MODES = {"adaptive": 0, "static": 1, "echo": 2}
_HAZARD_TERMS = {"lambda": 1, "lambda_hazard": 2}


def rules_of(config: Config, instrument: str) -> NDArray[Any]:
    """Return the rules of a gate: one element of ``RULES_DTYPE``.

    Parameters
    ----------
    config
        The configuration with the instrument's overrides.
    instrument
        Instrument whose hysteresis buffer is used.
    """
    rules = np.zeros(1, RULES_DTYPE)
    row = rules[0]
    atr = config.auto_tp_mode == "atr"
    hazard_weight = config.alloc_score_weight_hazard
    slices = config.eval_slices_days
    for name, value in {
        "min_coherence": config.auto_min_coherence,
        "min_stability": config.guard_min_stability,
        "max_entropy": config.auto_max_entropy,
        "max_rupture": config.auto_max_rupture,
        "max_hazard": math.inf if config.auto_max_hazard is None else config.auto_max_hazard,
        "min_repetitions": config.session_pattern_min_occurrences,
        "threshold_bps": config.auto_dir_threshold_bps,
        "target_pct": config.exit_pnl_target_pct,
        "stop_pct": config.exit_pnl_stop_pct,
        "atr_stop": config.atr_stop_mult,
        "reward_ratio": config.auto_tp_rr,
        "assumed_cost_bps": config.backtest_cost_bps,
        "max_hold_ms": config.pm_default_hold_seconds * 1000,
        "entry_cooldown_ms": config.entry_cooldown_sec * 1000,
        "exit_cooldown_ms": config.exit_cooldown_sec * 1000,
        "lookback": config.auto_direction_lookback,
        "atr_bars": config.atr_bars,
        "combined": config.auto_direction_mode == "combined",
        "slope_exit": config.exit_slope_enabled,
        "pct_levels": config.exit_pnl_enabled and not atr,
        "atr_levels": atr,
        "sessions": config.session_trading_enabled,
        "buffer": config.buffer(instrument),
        "weight_coherence": config.alloc_score_weight_coherence,
        "weight_stability": config.alloc_score_weight_stability,
        "weight_rupture": config.alloc_score_weight_rupture,
        "weight_entropy": config.alloc_score_weight_entropy,
        "weight_hazard": 0.0 if hazard_weight is None else hazard_weight,
        "hazard_term": 0 if hazard_weight is None else _HAZARD_TERMS[config.alloc_score_hazard],
        "echo_max_hazard": config.echo_hazard_max,
        "echo_min_repetitions": config.echo_min_repetitions,
        "fresh_ms": config.fresh_max_signal_age_sec * 1000,
        "interval_ms": config.eval_interval_sec * 1000,
        "cooldown_ms": config.cooldown_sec * 1000,
        "slice_count": len(slices),
        "span": slices.index(config.eval_span_days),
        "history": config.eval_history_hours,
        "mode": _MODES[config.gate_mode],
    }.items():
        row[name] = value
    row["least"] = (config.eval_min_trades, config.eval_calmar_min, config.eval_pnl_min)
    row["slices"][: len(slices)] = slices
    return rules


METRICS_DTYPE = np.dtype(
    {
        "names": [
            *("window_start_ms", "coherence", "stability", "entropy", "rupture", "flip_ratio"),
            *("lambda_hazard", "sigma_eff", "lambda_", "first_seen_ms", "t0_ms", "t1_ms"),
            *("count_1h", "count", "ones", "sig_c", "sig_s", "sig_e", "collapsed"),
        ],
        "formats": ["i8"] + ["f8"] * 8 + ["i8"] * 3 + ["i4"] * 6 + ["?"],
        "offsets": [*range(0, 96, 8), *range(96, 124, 4)],
        "itemsize": 128,
    }
)
"""One row per bar of ``CandleStream.run``: the fields of ``Metrics``, the signature as the three
integers ``sig_c``, ``sig_s``, ``sig_e`` (value times 10**precision; see ``format_signature``)."""


SIGNALS_DTYPE = np.dtype(
    {
        "names": [
            *("window_start_ms", "window_end_ms", "price", "window_end_price", "coherence"),
            *("stability", "entropy", "rupture", "flip_ratio", "lambda_hazard", "first_seen_ms"),
            *("count_1h", "ones", "sig_c", "sig_s", "sig_e", "collapsed"),
        ],
        "formats": ["i8"] * 2 + ["f8"] * 8 + ["i8"] + ["i4"] * 5 + ["?"],
        "offsets": [*range(0, 88, 8), *range(88, 112, 4)],
        "itemsize": 112,
    }
)
"""One signal of a batch. ``price`` is the close at ``window_start_ms``, the original's stamp and
price; ``window_end_price`` the close at ``window_end_ms``, the newest candle the window uses."""


ENTRY_DTYPE = np.dtype([("id", "i8"), *((n, "f8") for n in ("score", "weight", "exposure"))])
"""One instrument's share of an epoch; ``id`` is the caller's number of the instrument."""


FIELD_DTYPE: Final = np.dtype(
    [
        *(("kind", "i4"), ("next", "i4"), ("column", "u8"), ("stride", "i8")),
        *(("words", "u8"), ("ends", "u8"), ("low", "f8"), ("high", "f8")),
    ]
)
"""One step of a program; cpp/io/record_frames.hpp."""


def _struct_of(dtype: np.dtype[Any], padding: tuple[str, ...] = ()) -> struct.Struct:
    """Return the ``Struct`` of one element; fields named in ``padding`` are skipped."""
    codes = {"i8": "q", "u8": "Q", "f8": "d", "i4": "i", "u4": "I"}

    def text_of(kind: np.dtype[Any]) -> str:
        base, count = kind.base, kind.itemsize // kind.base.itemsize
        if base.names is None:
            return f"{count}{codes[base.str[1:]]}"
        parts = ("4x" if name in padding else text_of(base[name]) for name in base.names)
        return "".join(parts) * count

    text = f"<{text_of(dtype)}"
    return struct.Struct(f"{text}{dtype.itemsize - struct.calcsize(text)}x")


BAR_STRUCT = _struct_of(BAR_DTYPE)
TRADE_STRUCT = _struct_of(TRADES_DTYPE, ("unused",))
EVALUATION_STRUCT = _struct_of(EVALUATION_DTYPE)
DECISION_STRUCT = _struct_of(DECISION_DTYPE)

LAYOUTS = {
    "bar": BAR_DTYPE,
    "columns": COLUMNS_DTYPE,
    "trade": TRADES_DTYPE,
    "floors": FLOORS_DTYPE,
    "slice": SLICE_DTYPE,
    "evaluation": EVALUATION_DTYPE,
    "decision": DECISION_DTYPE,
    "rules": RULES_DTYPE,
    "metrics": METRICS_DTYPE,
    "signal": SIGNALS_DTYPE,
    "share": ENTRY_DTYPE,
    "field": FIELD_DTYPE,
}
"""Every structure shared by Python and the core, by its C++ name."""


def check_layout(bindings: Any) -> None:
    """Compare the structures of the compiled core with those of this module.

    Raises
    ------
    Fatal
        A field has another offset: numbers would be read from wrong addresses.
    """
    found: dict[str, dict[str, int]] = {}
    fields: dict[str, int] = {}
    words = str(bindings.layouts()).split()
    for name, number in zip(words[::2], words[1::2], strict=True):
        if name.startswith("/"):
            found[name[1:]], fields = fields | {"size": int(number)}, {}
        else:
            fields[name] = int(number)
    for name, dtype in LAYOUTS.items():
        here = {field: place[1] for field, place in (dtype.fields or {}).items()}
        here["size"] = dtype.itemsize
        if found.get(name) != here:
            raise Fatal(
                f"the C++ core lays out a {name} as {found.get(name)}, {here} is expected: "
                "install the core and the package from the same release"
            )
