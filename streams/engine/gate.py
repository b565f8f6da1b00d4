"""One instrument's bars in, closed trades, evaluations and gate decisions out."""

from __future__ import annotations

import ctypes
import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.engine.columns import address_of
from streams.engine.loader import core
from streams.engine.refusals import OK, raise_for
from streams.errors import Fatal
from streams.settings import MAX_SLICES, Config

NEVER = -(2**63)
TRADED, EVALUATED, DECIDED = 1, 2, 4
OPEN, NEAR_CLOSE, MARKET_OPEN, QUOTED = 1, 2, 4, 8
"""Bits of a bar's flags: what the calendar says, and whether bid and ask are the market's own."""
EXIT_REASONS = ("", "stop", "target", "session_close", "slope_reversal", "max_hold")
DAY_ROWS, SAMPLE_ROWS, SAMPLES_OF_ROW = 64, 136, 16
"""Rings of the state's rows; cpp/gate_rows.hpp."""

BAR_STRUCT = struct.Struct("<2q4d4d4d7dqqi4x")
_TRADE = struct.Struct("<4q6d3i4x")
_DECISION = struct.Struct("<8q2d3dd7dqI11i")
_SLICE = "2q12d"
_EVALUATION = struct.Struct(f"<3q3d{_SLICE * MAX_SLICES}2i")

TRADES_DTYPE = np.dtype(
    [(n, "i8") for n in ("entry_bar_ms", "exit_bar_ms", "exit_as_of_ms", "bars_held")]
    + [
        (n, "f8")
        for n in ("entry_price", "exit_price", "cost_bps", "pnl_bps", "mae_bps", "mfe_bps")
    ]
    + [(n, "i4") for n in ("direction", "exit", "cost_assumed", "unused")]
)
"""Closed trades of a run: times epoch ms, excursions and costs in bps of the entry price; ``exit``
is a place in ``EXIT_REASONS``."""

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
"""Gate decisions: bit i of ``reasons`` is the i-th of ``streams.stages.reasons.Reason``; ``NEVER``
stands for a time that is not there."""

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
        *((n, "i4") for n in ("slice_count", "span", "history", "mode", "hazard_weighted")),
        ("unused", "i4"),
    ]
)
_MODES = {"adaptive": 0, "static": 1, "echo": 2}


class BarInput(NamedTuple):
    """One bar as a gate takes it, in the order of its structure.

    Attributes
    ----------
    bar_ms, as_of_ms
        Start and end of the bar, epoch ms.
    prices
        Open, high, low, close of mid, bid and ask: 12 numbers; those of bid and ask count only with
        ``QUOTED``.
    metrics
        Coherence, stability, entropy, rupture, lambda_hazard, lambda, sigma_eff.
    count_1h
        Repetitions of the signature.
    next_change_ms, flags
        What the calendar says at ``as_of_ms``.
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
        Rows of ``METRICS_DTYPE``, of the same bars.
    flags, next_change_ms
        As in ``BarInput``; where events are given only ``QUOTED`` counts.
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
    """What happens to a gate, in order, as contiguous arrays [events].

    Attributes
    ----------
    places
        Which of the bars, -1 for a bar without a candle.
    as_of_ms
        When, epoch ms.
    late
        1 for a bar that lies behind a decision.
    flags, next_change_ms
        What the calendar says then.
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


def rules_of(config: Config, instrument: str) -> NDArray[Any]:
    """Return what a gate goes by: one element of ``RULES_DTYPE``.

    Parameters
    ----------
    config
        The configuration with the instrument's overrides.
    instrument
        Whose hysteresis buffer it is.
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
        "hazard_weighted": hazard_weight is not None,
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


class GateStream:
    """The run, the evaluations and the gate of one instrument (strict-backtest.md 1 to 5).

    Parameters
    ----------
    rules
        Of ``rules_of``.
    run_number
        Tells the rows of this run from those of runs before it.

    Raises
    ------
    Fatal
        When the rules are out of bounds or the core cannot be loaded.
    """

    def __init__(self, rules: NDArray[Any], run_number: int = 0) -> None:
        self._adopt_handle(_new_gate())
        self._handle.set_run_number(run_number)
        self.adopt(rules)

    def _adopt_handle(self, handle: Any) -> None:
        door = core()
        self._handle = handle
        self._step = handle.step
        self._bar = (ctypes.c_char * BAR_STRUCT.size).from_address(int(door.bar_address(handle)))
        self._trade_at = _buffer(door.trade_address(handle), _TRADE.size)
        self._evaluation_at = _buffer(door.evaluation_address(handle), _EVALUATION.size)
        self._decision_at = _buffer(door.decision_address(handle), _DECISION.size)
        self._row_address = int(door.gate_row_address(handle))
        self._samples_reported: int = handle.samples()
        self._dirty = False

    @property
    def run_number(self) -> int:
        """Number of the run."""
        return int(self._handle.run_number())

    @property
    def decided_ms(self) -> int:
        """``as_of_ms`` of the newest decision, -1 before the first."""
        return int(self._handle.decided_ms())

    @property
    def last_bar_ms(self) -> int:
        """Start of the newest bar, epoch ms; ``NEVER`` before the first."""
        return int(self._handle.last_bar_ms())

    @property
    def equity(self) -> float:
        """Additive equity at the last close, as a fraction of the notional."""
        return float(self._handle.equity())

    def adopt(self, rules: NDArray[Any]) -> None:
        """Go by ``rules`` from the next bar on; the run stays what it is.

        Raises
        ------
        Fatal
            When the rules are out of bounds.
        """
        ctypes.memmove(
            int(core().rules_address(self._handle)), rules.tobytes(), RULES_DTYPE.itemsize
        )
        if self._handle.adopt() != OK:
            raise Fatal("the gate's rules are out of bounds")

    def set_decided_ms(self, as_of_ms: int) -> None:
        """Take over which bars are decided already."""
        self._handle.set_decided_ms(as_of_ms)
        self._dirty = True

    def step(self, bar: BarInput, *, late: bool = False) -> int:
        """Take in one bar; return which of ``TRADED``, ``EVALUATED``, ``DECIDED`` it has brought.

        Parameters
        ----------
        late
            The bar lies behind a decision and brings none.
        """
        bar_ms, as_of_ms, prices, metrics, count_1h, next_change_ms, flags = bar
        BAR_STRUCT.pack_into(
            self._bar, 0, bar_ms, as_of_ms, *prices, *metrics, count_1h, next_change_ms, flags
        )
        self._dirty = True
        return int(self._step(late))

    def decide_without_candle(
        self, bar_ms: int, as_of_ms: int, next_change_ms: int, flags: int
    ) -> bool:
        """Decide for a bar that has no candle; return False when it was decided before."""
        nothing = (0.0,) * 12, (0.0,) * 7
        BAR_STRUCT.pack_into(
            self._bar, 0, bar_ms, as_of_ms, *nothing[0], *nothing[1], 0, next_change_ms, flags
        )
        self._dirty = True
        return bool(self._handle.decide_without_candle(bar_ms, as_of_ms))

    def trade(self) -> Trade:
        """Return the trade that the last step has closed."""
        return Trade(*_TRADE.unpack_from(self._trade_at))

    def decision(self) -> Decision:
        """Return the last decision."""
        return Decision(*_DECISION.unpack_from(self._decision_at))

    def evaluation(self) -> Evaluation:
        """Return the last evaluation."""
        found = _EVALUATION.unpack_from(self._evaluation_at)
        count, width = found[-2], 14
        slices = tuple(found[6 + width * i : 6 + width * (i + 1)] for i in range(count))
        bar_ms, as_of_ms, samples = found[:3]
        return Evaluation(bar_ms, as_of_ms, samples, found[3:6], slices, bool(found[-1]))

    def run(
        self,
        bars: BarColumns,
        events: GateEvents | None = None,
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Take in many bars; the same bits as ``step`` and ``decide_without_candle`` one by one.

        Parameters
        ----------
        bars
            The bars, in order.
        events
            What happens in which order; by default the bars one after the other, none of them late.

        Returns
        -------
        Trades (``TRADES_DTYPE``), evaluations (``EVALUATION_DTYPE``), decisions
        (``DECISION_DTYPE``).

        Raises
        ------
        Fatal
            When an array is of another length or not contiguous.
        """
        bar_ms, prices, metrics, flags, next_change_ms, granularity_ms = bars
        columns = (bar_ms, *prices, metrics, flags, next_change_ms)
        _require(columns, len(bar_ms))
        packed = struct.pack("<16Qq", *map(address_of, columns), granularity_ms)
        ctypes.memmove(int(core().columns_address(self._handle)), packed, len(packed))
        length = len(bar_ms) if events is None else len(events.places)
        # one more: what brings nothing is written there first
        trades = np.empty(len(bar_ms) + 1, TRADES_DTYPE)
        evaluations = np.empty(len(bar_ms) + 1, EVALUATION_DTYPE)
        decisions = np.empty(length + 1, DECISION_DTYPE)
        handle = self._handle
        out = (address_of(trades), address_of(evaluations), address_of(decisions))
        if events is None:
            handle.run(length, *out)
        else:
            _require(events, length)
            handle.run_events(length, *(address_of(column) for column in events), *out)
        self._dirty = self._dirty or length > 0
        return (
            trades[: handle.traded],
            evaluations[: handle.evaluated],
            decisions[: handle.decided],
        )

    def changed_rows(self) -> dict[str, bytes]:
        """Return the rows that changed since the last call (since it was restored, at first).

        ``head`` (about 0.7 KB) with every bar, ``dNN`` (the closed hours of a UTC day, at most 2.5
        KB) and ``fNNN`` (16 hourly samples, 0.4 KB) once an hour.
        """
        if not self._dirty:
            return {}
        self._dirty = False
        handle = self._handle
        changed = {"head": self._row(handle.write_head())}
        days, newest = handle.take_changed_days(), handle.newest_day()
        for slot in range(DAY_ROWS) if days else ():
            if days >> slot & 1:
                length = handle.write_day(newest - (newest - slot) % DAY_ROWS)
                changed[f"d{slot:02d}"] = self._row(length)
        total = handle.samples()
        if total > self._samples_reported:
            oldest = max(self._samples_reported, total - handle.kept_samples())
            for row in range(oldest // SAMPLES_OF_ROW, (total - 1) // SAMPLES_OF_ROW + 1):
                changed[f"f{row % SAMPLE_ROWS:03d}"] = self._row(handle.write_samples(row))
            self._samples_reported = total
        return changed

    def _row(self, length: int) -> bytes:
        return ctypes.string_at(self._row_address, length)

    @classmethod
    def from_rows(cls, rows: Mapping[str, bytes], rules: NDArray[Any]) -> GateStream:
        """Return the gate whose rows these are; it goes on with the same bits.

        Raises
        ------
        Fatal
            When rows are missing, cut short, do not belong together, or are of another layout or
            engine.
        """
        if "head" not in rows:
            raise Fatal("the stored gate has no row head: replay into a new prefix")
        handle = _new_gate()
        _read(rows["head"], handle.read_head)
        for name, content in rows.items():
            if name.startswith("d"):
                _read(content, handle.read_day)
            elif name.startswith("f"):
                _read(content, handle.read_samples)
        status = handle.finish()
        if status != OK:
            raise_for(status, "gate")
        stream = cls.__new__(cls)
        stream._adopt_handle(handle)
        stream.adopt(rules)
        return stream


def _require(columns: Sequence[NDArray[Any]], length: int) -> None:
    for column in columns:
        if len(column) != length or not column.flags.c_contiguous:
            raise Fatal(f"every column must be contiguous and {length} long")


def _buffer(address: Any, size: int) -> Any:
    return (ctypes.c_char * size).from_address(int(address))


def _new_gate() -> Any:
    handle = core().make_gate()
    if not handle:
        raise Fatal("there is no memory for the gate of another instrument")
    handle.__python_owns__ = True
    return handle


def _read(content: bytes, call: Any) -> None:
    copy = ctypes.create_string_buffer(content, len(content))
    status = int(call(ctypes.addressof(copy), len(content)))
    if status != OK:
        raise_for(status, "gate")


def check_layout() -> None:
    """Raise Fatal when a structure here and its C++ original differ in size."""
    door = core()
    for name, here, there in (
        ("bar", BAR_STRUCT.size, door.size_of_bar()),
        ("trade", TRADES_DTYPE.itemsize, door.size_of_trade()),
        ("trade", _TRADE.size, door.size_of_trade()),
        ("evaluation", EVALUATION_DTYPE.itemsize, door.size_of_evaluation()),
        ("evaluation", _EVALUATION.size, door.size_of_evaluation()),
        ("decision", DECISION_DTYPE.itemsize, door.size_of_decision()),
        ("decision", _DECISION.size, door.size_of_decision()),
        ("rules", RULES_DTYPE.itemsize, door.size_of_rules()),
        ("columns", 17 * 8, door.size_of_columns()),
    ):
        if here != there:
            raise Fatal(f"the core's {name} has {there} bytes, {here} are expected")
