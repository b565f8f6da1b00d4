"""An independent reading of the strict rolling backtest and the adaptive gate.

Written from the definition alone and slow on purpose: everything is a list over the whole past, and
every evaluation looks at all of it again. Nothing of the stages or of the engine is used; sessions
are asked minute by minute in local time.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

from streams.records.events import Ohlc
from tests.support.reference_stages import in_market, in_session

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
CALMAR_EPS, PNL_EPS = 0.01, 0.0005
LEAST_SAMPLES = 20
PASSES_TO_OPEN, FAILS_TO_CLOSE, MISSES_TO_COOL = 2, 2, 4


class Bar(NamedTuple):
    """A bar of the run: a candle and the metrics of its window."""

    bar_ms: int
    as_of_ms: int
    mid: Ohlc
    bid: Ohlc | None
    ask: Ohlc | None
    coherence: float
    stability: float
    entropy: float
    rupture: float
    lambda_hazard: float
    count_1h: int


@dataclass(frozen=True)
class Rules:
    """All settings of the run and of the gate; ``buffer`` is the instrument's own."""

    auto_direction_lookback: int = 12
    auto_direction_mode: str = "combined"
    auto_dir_threshold_bps: float = 2.0
    exit_pnl_enabled: bool = True
    exit_pnl_target_pct: float = 0.50
    exit_pnl_stop_pct: float = 1.25
    auto_tp_mode: str = "pct"
    atr_stop_mult: float = 1.8
    atr_bars: int = 14
    auto_tp_rr: float = 1.5
    exit_slope_enabled: bool = True
    pm_default_hold_seconds: int = 1800
    entry_cooldown_sec: int = 60
    exit_cooldown_sec: int = 60
    backtest_cost_bps: float = 1.5
    session_trading_enabled: bool = True
    session_exit_minutes: int = 5
    auto_min_coherence: float = 0.55
    guard_min_stability: float = 0.40
    auto_max_entropy: float = 0.70
    auto_max_rupture: float = 0.60
    auto_max_hazard: float | None = None
    session_pattern_min_occurrences: int = 2
    fresh_max_signal_age_sec: int = 300
    eval_slices_days: tuple[int, ...] = (14, 30, 60)
    eval_span_days: int = 30
    eval_interval_sec: int = 900
    eval_history_hours: int = 720
    eval_min_trades: int = 10
    eval_calmar_min: float = 0.15
    eval_pnl_min: float = 0.0
    cooldown_sec: int = 7200
    buffer: float = 0.10
    gate_mode: str = "adaptive"
    echo_min_repetitions: int = 3
    echo_hazard_max: float = 0.70
    params_id: str = ""


@dataclass
class Outcome:
    """What a run came to.

    Attributes
    ----------
    trades, summaries
        In the order in which they were made; names are those of the records. Each has
        ``bar``, the index of the bar at which it was made.
    decisions
        One per bar.
    open_position
        The position after the last bar, None when there is none.
    closest
        How near any comparison of computed figures (calmar, P&L) with a band came to a tie,
        relative to the band: nearer than rounding, two right answers exist.
    """

    trades: list[dict[str, Any]] = field(default_factory=list)
    summaries: list[dict[str, Any]] = field(default_factory=list)
    decisions: list[dict[str, Any]] = field(default_factory=list)
    open_position: dict[str, Any] | None = None
    closest: float = math.inf


def simulate(instrument: str, bars: Sequence[Bar], rules: Rules) -> Outcome:
    """Return everything the run of ``instrument`` over ``bars`` gives.

    Parameters
    ----------
    instrument
        A pair such as ``EUR_USD``; its sessions follow from it.
    bars
        All bars of the run, in the order of the log.
    rules
        Parameters of the run and of the gate.
    """
    run = Run(instrument, rules)
    for bar in bars:
        run.add(bar)
    return run.outcome()


def decide_without_candle(
    instrument: str, bars: Sequence[Bar], rules: Rules, at_ms: int
) -> dict[str, Any]:
    """Return the decision at ``at_ms`` when ``bars`` are all bars before it and none came."""
    run = Run(instrument, rules)
    for bar in bars:
        run.add(bar)
    return run.decide(at_ms)


# -- sessions ------------------------------------------------------------------------------------


@cache
def open_at(instrument: str, at_ms: int) -> bool:
    return in_session(instrument, at_ms)


@cache
def week_at(at_ms: int) -> bool:
    return in_market(at_ms)


@cache
def near_close_at(instrument: str, at_ms: int, exit_minutes: int) -> bool:
    """Open, and closed at some minute that begins within the exit minutes."""
    if not open_at(instrument, at_ms):
        return False
    first = at_ms - at_ms % MINUTE_MS + MINUTE_MS
    last = at_ms + exit_minutes * MINUTE_MS
    return not all(open_at(instrument, minute) for minute in range(first, last + 1, MINUTE_MS))


# -- figures -------------------------------------------------------------------------------------


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def percentile(values: Sequence[float], share: float) -> float:
    """The type 7 percentile: linear between the order statistics around (n - 1) * share."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * share
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def max_drawdown(before: float, marks: Sequence[float]) -> float:
    """The largest fall from the running peak that starts with ``before``; 0 under 1e-12."""
    peak, worst = before, 0.0
    for mark in marks:
        peak = max(peak, mark)
        worst = max(worst, peak - mark)
    return worst if worst >= 1e-12 else 0.0


def sharpe(changes: Sequence[float]) -> float | None:
    if len(changes) < 2:
        return None
    middle = mean(changes)
    deviation = math.sqrt(math.fsum((x - middle) ** 2 for x in changes) / (len(changes) - 1))
    return middle / deviation * math.sqrt(252) if deviation >= 1e-15 else None


def sortino(changes: Sequence[float]) -> float | None:
    if len(changes) < 2:
        return None
    deviation = math.sqrt(math.fsum(min(x, 0.0) ** 2 for x in changes) / len(changes))
    return mean(changes) / deviation * math.sqrt(252) if deviation >= 1e-15 else None


def band(floor: float, buffer: float, eps: float) -> tuple[float, float]:
    """Lower and upper band of a floor."""
    width = buffer * max(abs(floor), eps)
    return floor - width, floor + width


def short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# -- the run -------------------------------------------------------------------------------------


@dataclass
class Position:
    """An open position; indexes are those of the bars of the run."""

    direction: int
    entry_index: int
    entry_price: float
    gave_up: float
    stop: float | None
    target: float | None
    mae_bps: float = 0.0
    mfe_bps: float = 0.0


class Run:
    """The backtest of one instrument and the gate on it, bar by bar.

    Parameters
    ----------
    instrument, rules
        As in ``simulate``.
    """

    def __init__(self, instrument: str, rules: Rules) -> None:
        self.instrument, self.rules = instrument, rules
        self.bars: list[Bar] = []
        self.as_ofs: list[int] = []
        self.sides: list[tuple[Ohlc, Ohlc, bool]] = []  # bid, ask, cost assumed
        self.directions: list[int] = []
        self.atrs: list[float | None] = []
        self.true_ranges: list[float] = []
        self.marks: list[float] = []
        self.in_position: list[bool] = []
        self.trades: list[dict[str, Any]] = []
        self.exits: list[int] = []  # as_of of the trades' exit bars
        self.position: Position | None = None
        self.pending_entry = 0
        self.pending_exit: str | None = None
        self.last_entry_ms: int | None = None
        self.last_exit_ms: int | None = None
        self.summaries: list[dict[str, Any]] = []
        self.history: list[dict[str, Any]] = []
        self.evaluation: dict[str, Any] | None = None
        self.latch = False
        self.passes = self.fails = self.misses = 0
        self.cooldown_until_ms: int | None = None
        self.decisions: list[dict[str, Any]] = []
        self.closest = math.inf

    def add(self, bar: Bar) -> dict[str, Any]:
        """Take in the next bar; return the decision at its close."""
        self.bars.append(bar)
        self.as_ofs.append(bar.as_of_ms)
        self.sides.append(self._sides(bar))
        self._measure()
        self._fill_pending()
        self._stops_and_targets()
        self._mark()
        self._decide_trading()
        if len(self.bars) == 1 or self._interval(-1) != self._interval(-2):
            self._evaluate()
        decision = self.decide(bar.as_of_ms)
        self.decisions.append(decision)
        return decision

    def outcome(self) -> Outcome:
        """Return what the bars so far came to."""
        held = None
        if self.position is not None:
            held = {
                "direction": self.position.direction,
                "entry_bar_ms": self.bars[self.position.entry_index].bar_ms,
                "entry_price": self.position.entry_price,
            }
        return Outcome(self.trades, self.summaries, self.decisions, held, self.closest)

    # what is known of a bar by itself

    def _sides(self, bar: Bar) -> tuple[Ohlc, Ohlc, bool]:
        if bar.bid is not None and bar.ask is not None:
            return bar.bid, bar.ask, False
        cost = self.rules.backtest_cost_bps / 1e4
        bid = Ohlc(*(price * (1 - cost) for price in bar.mid))
        ask = Ohlc(*(price * (1 + cost) for price in bar.mid))
        return bid, ask, True

    def _measure(self) -> None:
        """Append this bar's direction, true range and ATR."""
        rules, t = self.rules, len(self.bars) - 1
        mid = self.bars[t].mid
        lookback = rules.auto_direction_lookback
        direction = 0
        if t >= lookback:
            slope_bps = 1e4 * (mid.close / self.bars[t - lookback].mid.close - 1)
            if slope_bps >= rules.auto_dir_threshold_bps:
                direction = 1
            elif slope_bps <= -rules.auto_dir_threshold_bps:
                direction = -1
        self.directions.append(direction)
        if t == 0:
            self.true_ranges.append(mid.high - mid.low)
        else:
            close = self.bars[t - 1].mid.close
            self.true_ranges.append(
                max(mid.high - mid.low, abs(mid.high - close), abs(mid.low - close))
            )
        n = rules.atr_bars
        if t + 1 < n:
            self.atrs.append(None)
        elif t + 1 == n:
            self.atrs.append(sum(self.true_ranges) / n)
        else:
            before = self.atrs[-1]
            assert before is not None
            self.atrs.append((before * (n - 1) + self.true_ranges[t]) / n)

    # 1. fills of what was decided at the bar before

    def _fill_pending(self) -> None:
        t = len(self.bars) - 1
        bid, ask, _ = self.sides[t]
        middle = self.bars[t].mid.open
        if self.pending_exit is not None:
            assert self.position is not None
            price = bid.open if self.position.direction > 0 else ask.open
            gave_up = self.position.direction * (middle - price) + 0.0
            self._close(price, self.pending_exit, gave_up)
            self.pending_exit = None
        if self.pending_entry:
            direction = self.pending_entry
            price = ask.open if direction > 0 else bid.open
            stop, target = self._levels(direction, price)
            gave_up = direction * (price - middle) + 0.0
            self.position = Position(direction, t, price, gave_up, stop, target)
            self.last_entry_ms = self.bars[t].as_of_ms
            self.pending_entry = 0

    def _levels(self, direction: int, entry: float) -> tuple[float | None, float | None]:
        rules = self.rules
        if rules.auto_tp_mode == "atr":
            atr = self.atrs[-2]  # of the bar at which the entry was decided
            assert atr is not None
            risk = rules.atr_stop_mult * atr
            return entry - direction * risk, entry + direction * rules.auto_tp_rr * risk
        if not rules.exit_pnl_enabled:
            return None, None
        stop = entry * (1 - direction * rules.exit_pnl_stop_pct / 100)
        target = entry * (1 + direction * rules.exit_pnl_target_pct / 100)
        return stop, target

    # 2. stops and targets inside the bar

    def _stops_and_targets(self) -> None:
        held = self.position
        if held is None or held.stop is None or held.target is None:
            return
        t = len(self.bars) - 1
        bid, ask, _ = self.sides[t]
        half_spread = (ask.open - bid.open) / 2
        if held.direction > 0:
            if bid.open <= held.stop:
                self._close(bid.open, "stop", self.bars[t].mid.open - bid.open)
            elif bid.low <= held.stop:
                self._close(held.stop, "stop", half_spread)
            elif bid.high >= held.target:
                self._close(held.target, "target", half_spread)
        elif ask.open >= held.stop:
            self._close(ask.open, "stop", ask.open - self.bars[t].mid.open)
        elif ask.high >= held.stop:
            self._close(held.stop, "stop", half_spread)
        elif ask.low <= held.target:
            self._close(held.target, "target", half_spread)

    def _close(self, price: float, reason: str, gave_up: float) -> None:
        held = self.position
        assert held is not None
        t = len(self.bars) - 1
        bar, entry_bar = self.bars[t], self.bars[held.entry_index]
        pnl_bps = 1e4 * held.direction * (price - held.entry_price) / held.entry_price
        self.trades.append(
            {
                "bar": t,
                "bar_ms": bar.bar_ms,
                "as_of_ms": bar.as_of_ms,
                "trade_id": short_hash(
                    f"{self.instrument}|{self.rules.params_id}|{entry_bar.bar_ms}"
                ),
                "direction": held.direction,
                "entry_bar_ms": entry_bar.bar_ms,
                "entry_price": held.entry_price,
                "exit_bar_ms": bar.bar_ms,
                "exit_price": price,
                "exit_reason": reason,
                "bars_held": t - held.entry_index,
                "cost_bps": 1e4 * (held.gave_up + gave_up) / held.entry_price,
                "pnl_bps": pnl_bps,
                "mae_bps": min(held.mae_bps, pnl_bps),
                "mfe_bps": max(held.mfe_bps, pnl_bps),
                "cost_assumed": any(side[2] for side in self.sides[held.entry_index :]),
                "params_id": self.rules.params_id,
            }
        )
        self.exits.append(bar.as_of_ms)
        self.last_exit_ms = bar.as_of_ms
        self.position = None

    # 3. the close of the bar

    def _mark(self) -> None:
        equity = math.fsum(trade["pnl_bps"] for trade in self.trades) / 1e4
        held = self.position
        if held is not None:
            bid, ask, _ = self.sides[-1]
            long, entry = held.direction > 0, held.entry_price
            closing = bid.close if long else ask.close
            worst, best = (bid.low, bid.high) if long else (ask.high, ask.low)
            equity += held.direction * (closing - entry) / entry
            held.mae_bps = min(held.mae_bps, 1e4 * held.direction * (worst - entry) / entry)
            held.mfe_bps = max(held.mfe_bps, 1e4 * held.direction * (best - entry) / entry)
        self.marks.append(equity)
        self.in_position.append(held is not None)

    # 4. decisions at the close of the bar

    def _decide_trading(self) -> None:
        rules, t = self.rules, len(self.bars) - 1
        bar, direction = self.bars[t], self.directions[t]
        may_trade = not rules.session_trading_enabled or (
            open_at(self.instrument, bar.as_of_ms)
            and not near_close_at(self.instrument, bar.as_of_ms, rules.session_exit_minutes)
        )
        held = self.position
        if held is not None:
            age_ms = bar.as_of_ms - self.bars[held.entry_index].bar_ms
            if not may_trade:
                self.pending_exit = "session_close"
            elif rules.exit_slope_enabled and direction == -held.direction:
                self.pending_exit = "slope_reversal"
            elif age_ms >= rules.pm_default_hold_seconds * 1000:
                self.pending_exit = "max_hold"
            return
        if (
            direction != 0
            and not self._static_guards(bar)
            and self._coherence_rises()
            and may_trade
            and self._rested(self.last_entry_ms, rules.entry_cooldown_sec)
            and self._rested(self.last_exit_ms, rules.exit_cooldown_sec)
            and (rules.auto_tp_mode != "atr" or self.atrs[t] is not None)
        ):
            self.pending_entry = direction

    def _coherence_rises(self) -> bool:
        before = self.bars[-1 - self.rules.auto_direction_lookback]
        falls = self.bars[-1].coherence - before.coherence < 0
        return self.rules.auto_direction_mode == "slope" or not falls

    def _rested(self, since_ms: int | None, seconds: int) -> bool:
        return since_ms is None or self.bars[-1].as_of_ms - since_ms >= seconds * 1000

    def _static_guards(self, bar: Bar) -> dict[str, tuple[float, float]]:
        """The guards a bar fails, with value and limit."""
        rules, hazard = self.rules, self.rules.auto_max_hazard
        least = {
            "coherence_below_min": (bar.coherence, rules.auto_min_coherence),
            "stability_below_min": (bar.stability, rules.guard_min_stability),
            "repetitions_short": (bar.count_1h, rules.session_pattern_min_occurrences),
        }
        most = {
            "entropy_above_max": (bar.entropy, rules.auto_max_entropy),
            "rupture_above_max": (bar.rupture, rules.auto_max_rupture),
        }
        if hazard is not None:
            most["hazard_above_max"] = (bar.lambda_hazard, hazard)
        fails = {name: pair for name, pair in least.items() if pair[0] < pair[1]}
        return fails | {name: pair for name, pair in most.items() if pair[0] > pair[1]}

    # summaries, floors, hysteresis

    def _interval(self, index: int) -> int:
        return self.as_ofs[index] // (self.rules.eval_interval_sec * 1000)

    def slice_of(self, days: int) -> dict[str, Any]:
        """Return the figures of the trailing slice of ``days`` at the last bar."""
        start = self._slice_start(days)
        first = bisect_right(self.as_ofs, start)
        trades = self.trades[bisect_right(self.exits, start) :]
        pnl = [trade["pnl_bps"] for trade in trades]
        losses = [x for x in pnl if x < 0]
        pnl_bps = math.fsum(pnl)
        pnl_total = pnl_bps / 1e4
        before, *marks = self.marks_of(days)
        fall = max_drawdown(before, marks)
        changes = self.daily_changes(days)
        return {
            "days": days,
            "trades": len(trades),
            "win_rate": sum(x > 0 for x in pnl) / len(pnl) if pnl else None,
            "pnl_bps": pnl_bps,
            "pnl_total": pnl_total,
            "max_drawdown": fall,
            "calmar": pnl_total / fall if fall else None,
            "calmar_ann": pnl_total * 365.25 / days / fall if fall else None,
            "sharpe": sharpe(changes),
            "sortino": sortino(changes),
            "profit_factor": math.fsum(x for x in pnl if x > 0) / -math.fsum(losses)
            if losses
            else None,
            "exposure": mean(self.in_position[first:]),
            "avg_hold_bars": mean([trade["bars_held"] for trade in trades]) if trades else None,
            "cost_bps": mean([trade["cost_bps"] for trade in trades]) if trades else 0.0,
        }

    def _slice_start(self, days: int) -> int:
        now = self.as_ofs[-1]
        return now - now % HOUR_MS - days * DAY_MS

    def marks_of(self, days: int) -> list[float]:
        """Return the marks of the slice of ``days``, the mark before it first."""
        first = bisect_right(self.as_ofs, self._slice_start(days))
        return [self.marks[first - 1] if first else 0.0, *self.marks[first:]]

    def daily_changes(self, days: int) -> list[float]:
        """Return the changes of marked equity over the whole UTC days of the slice of ``days``."""
        now, start = self.as_ofs[-1], self._slice_start(days)
        found = []
        day = start // DAY_MS * DAY_MS
        if day < start:
            day += DAY_MS
        while day + DAY_MS <= now:
            first = bisect_right(self.as_ofs, day)
            after = bisect_right(self.as_ofs, day + DAY_MS)
            if after > first:
                before = self.marks[first - 1] if first else 0.0
                found.append(self.marks[after - 1] - before)
            day += DAY_MS
        return found

    def floors(self) -> dict[str, float]:
        """Return the floors that the history so far gives."""
        rules = self.rules
        found = {
            "min_trades": rules.eval_min_trades,
            "calmar_min": rules.eval_calmar_min,
            "pnl_min": rules.eval_pnl_min,
        }
        if len(self.history) < LEAST_SAMPLES:
            return found
        trades = [sample["trades"] for sample in self.history]
        calmars = [s["calmar"] for s in self.history if s["calmar"] is not None]
        pnls = [sample["pnl_total"] for sample in self.history]
        found["min_trades"] = max(rules.eval_min_trades, percentile(trades, 0.5))
        if calmars:
            iqr = percentile(calmars, 0.75) - percentile(calmars, 0.25)
            found["calmar_min"] = max(rules.eval_calmar_min, percentile(calmars, 0.5) + 0.10 * iqr)
        found["pnl_min"] = max(rules.eval_pnl_min, percentile(pnls, 0.4))
        return found

    def _evaluate(self) -> None:
        rules, bar = self.rules, self.bars[-1]
        slices = [self.slice_of(days) for days in rules.eval_slices_days]
        span = next(s for s in slices if s["days"] == rules.eval_span_days)
        counts = [s["trades"] for s in sorted(slices, key=lambda s: s["days"])]
        floors = self.floors()
        samples = len(self.history)
        summary = {
            "bar": len(self.bars) - 1,
            "bar_ms": bar.bar_ms,
            "as_of_ms": bar.as_of_ms,
            "params_id": rules.params_id,
            "span_days": rules.eval_span_days,
            "slices": slices,
            "floors": floors,
            "floor_samples": samples,
            "span_integrity_ok": counts == sorted(counts),
        }
        before = self.evaluation
        self.summaries.append(summary)
        self.evaluation = {
            "as_of_ms": bar.as_of_ms,
            "trades": span["trades"],
            "calmar": span["calmar"],
            "pnl_total": span["pnl_total"],
            "span_integrity_ok": summary["span_integrity_ok"],
            "floors": floors,
        }
        if before is None or before["as_of_ms"] // HOUR_MS != bar.as_of_ms // HOUR_MS:
            self.history.append(self.evaluation)
            self.history = self.history[-rules.eval_history_hours :]
        self._watch_ties()
        if self.cooldown_until_ms is None or bar.as_of_ms >= self.cooldown_until_ms:
            self._count()

    def verdict(self) -> str:
        """Return ``pass``, ``fail`` or ``neither`` for the last evaluation."""
        found = self.evaluation
        assert found is not None
        trades, calmar, pnl = found["trades"], found["calmar"], found["pnl_total"]
        calmar_low, calmar_high = self._calmar_band()
        pnl_low, pnl_high = self._pnl_band()
        enough = trades >= found["floors"]["min_trades"]
        if enough and calmar is not None and calmar >= calmar_high and pnl >= pnl_high:
            return "pass"
        if not enough or calmar is None or calmar <= calmar_low or pnl <= pnl_low:
            return "fail"
        return "neither"

    def _calmar_band(self) -> tuple[float, float]:
        assert self.evaluation is not None
        return band(self.evaluation["floors"]["calmar_min"], self.rules.buffer, CALMAR_EPS)

    def _pnl_band(self) -> tuple[float, float]:
        assert self.evaluation is not None
        return band(self.evaluation["floors"]["pnl_min"], self.rules.buffer, PNL_EPS)

    def _watch_ties(self) -> None:
        assert self.evaluation is not None
        calmar, pnl = self.evaluation["calmar"], self.evaluation["pnl_total"]
        pairs = [(pnl, edge, PNL_EPS) for edge in self._pnl_band()]
        pairs += [(calmar, edge, CALMAR_EPS) for edge in self._calmar_band()]
        for value, edge, eps in pairs:
            # nothing traded and a floor of nothing is a tie without any rounding in it
            if value is not None and (value != 0.0 or edge != 0.0):
                self.closest = min(self.closest, abs(value - edge) / max(abs(edge), eps))

    def _count(self) -> None:
        verdict = self.verdict()
        if verdict == "pass":
            self.passes, self.fails, self.misses = self.passes + 1, 0, 0
        elif verdict == "fail":
            self.passes, self.fails = 0, self.fails + 1
            self.misses = 0 if self.latch else self.misses + 1
        else:
            self.passes = self.fails = self.misses = 0
        if not self.latch and self.passes >= PASSES_TO_OPEN:
            self.latch = True
        elif self.latch and self.fails >= FAILS_TO_CLOSE:
            self.latch = False
        if self.misses >= MISSES_TO_COOL:
            self.cooldown_until_ms = self.bars[-1].as_of_ms + self.rules.cooldown_sec * 1000
            self.latch = False
            self.passes = self.fails = self.misses = 0

    # the gate

    def decide(self, at_ms: int) -> dict[str, Any]:
        """Return the decision at an instant, from the bars so far."""
        rules = self.rules
        adaptive = rules.gate_mode == "adaptive"
        details = self._details(at_ms)
        evaluation = self.evaluation if adaptive else None
        cooling = adaptive and self._cooling(at_ms)
        held = self.position
        position = 0 if held is None or self.pending_exit else held.direction
        return {
            "as_of_ms": at_ms,
            "eligible": not details,
            "reasons": sorted(details),
            "details": details,
            "signal_bar_ms": self.bars[-1].bar_ms if self.bars else None,
            "floors": None if evaluation is None else evaluation["floors"],
            "evaluation": evaluation,
            "passes": self.passes if adaptive else 0,
            "fails": self.fails if adaptive else 0,
            "misses": self.misses if adaptive else 0,
            "latch": self.latch,
            "cooldown_until_ms": self.cooldown_until_ms if cooling else None,
            "session_open": open_at(self.instrument, at_ms),
            "near_close": near_close_at(self.instrument, at_ms, rules.session_exit_minutes),
            "direction": self.directions[-1] if self.directions else 0,
            "position": position or self.pending_entry,
            "params_id": rules.params_id,
            "buffer": rules.buffer,
            "mode": rules.gate_mode,
        }

    def _cooling(self, at_ms: int) -> bool:
        return self.cooldown_until_ms is not None and at_ms < self.cooldown_until_ms

    def _details(self, at_ms: int) -> dict[str, tuple[float | None, float | None] | None]:
        """Every reason that applies, with value and limit where the definition says which."""
        rules = self.rules
        found: dict[str, tuple[float | None, float | None] | None] = {}
        if rules.session_trading_enabled:
            if not week_at(at_ms):
                found["market_closed"] = None
            if not open_at(self.instrument, at_ms):
                found["session_closed"] = None
            if near_close_at(self.instrument, at_ms, rules.session_exit_minutes):
                found["session_near_close"] = None
        if self.bars:
            last = self.bars[-1]
            found |= self._echo_guards(last) if rules.gate_mode == "echo" else {}
            found |= self._static_guards(last) if rules.gate_mode != "echo" else {}
            if at_ms - last.as_of_ms > rules.fresh_max_signal_age_sec * 1000:
                found["signal_stale"] = None
        else:
            found["warming"] = None
        if rules.gate_mode == "adaptive":
            found |= self._adaptive_details(at_ms)
        return found

    def _echo_guards(self, bar: Bar) -> dict[str, tuple[float, float]]:
        rules = self.rules
        found: dict[str, tuple[float, float]] = {}
        if bar.count_1h < rules.echo_min_repetitions:
            found["repetitions_short"] = (bar.count_1h, rules.echo_min_repetitions)
        if bar.lambda_hazard > rules.echo_hazard_max:
            found["hazard_above_max"] = (bar.lambda_hazard, rules.echo_hazard_max)
        return found

    def _adaptive_details(self, at_ms: int) -> dict[str, tuple[float | None, float | None] | None]:
        found: dict[str, tuple[float | None, float | None] | None] = {}
        if len(self.bars) <= self.rules.auto_direction_lookback:
            found["warming"] = None
        if self._cooling(at_ms):
            found["cooldown"] = None
        last = self.evaluation
        if last is not None and not last["span_integrity_ok"]:
            found["span_integrity"] = None
        if self.latch:
            return found
        found["hysteresis_wait"] = None
        if last is None:
            return found
        trades, calmar, pnl = last["trades"], last["calmar"], last["pnl_total"]
        _, calmar_high = self._calmar_band()
        _, pnl_high = self._pnl_band()
        if trades < last["floors"]["min_trades"]:
            found["trades_below_floor"] = (trades, last["floors"]["min_trades"])
        if calmar is None or calmar < calmar_high:
            found["calmar_below_floor"] = (calmar, calmar_high)
        if pnl < pnl_high:
            found["pnl_below_floor"] = (pnl, pnl_high)
        return found
