"""The rules of the records in ``streams.records.events``; importing this module sets them."""

from __future__ import annotations

from streams.records import events as of
from streams.records.json_limits import JSON_LENGTH
from streams.records.value_rules import (
    AS_OF_BAR_END,
    BAR_BEFORE,
    BAR_START,
    BOOL,
    CODE,
    COMPLETE,
    COUNT,
    END,
    GRANULARITY,
    HIGHEST_PRICE,
    INSTRUMENT,
    LONGEST,
    LOWEST_PRICE,
    MODE,
    OFFSET,
    PRICE,
    RATIO,
    REAL,
    STAMP,
    TIME,
    VOLUME,
    WAY,
    WINDOW,
    WORDS,
    choice,
    many,
    number_rule,
    record_of,
    set_rules,
    some,
    text,
)

set_rules(
    of.Ohlc,
    dict.fromkeys(of.Ohlc._fields, PRICE),
    test=f"{LOWEST_PRICE!r} <= low <= open <= high <= {HIGHEST_PRICE!r} and low <= close <= high",
)
set_rules(
    of.Candle,
    {
        "instrument": INSTRUMENT,
        "granularity": GRANULARITY,
        "bar_ms": TIME,
        "as_of_ms": TIME,
        "mid": record_of(of.Ohlc),
        "bid": some(record_of(of.Ohlc)),
        "ask": some(record_of(of.Ohlc)),
        "mid_derived": BOOL,
        "volume": VOLUME,
        "source": CODE,
        "complete": COMPLETE,
    },
    AS_OF_BAR_END,
    BAR_START,
)
set_rules(
    of.Watermark,
    {
        "as_of_ms": TIME,
        "granularity": GRANULARITY,
        "control_offset": OFFSET,
        "instruments": many(INSTRUMENT),
        "not_waited_for": many(INSTRUMENT),
    },
)
set_rules(
    of.CandlePrices,
    {
        "mid": record_of(of.Ohlc),
        "bid": some(record_of(of.Ohlc)),
        "ask": some(record_of(of.Ohlc)),
        "volume": VOLUME,
    },
)
set_rules(
    of.Signal,
    STAMP
    | WINDOW
    | {
        "flip_ratio": RATIO,
        "collapsed": BOOL,
        "ones": number_rule(0, 128),
        "candle": record_of(of.CandlePrices),
    },
    BAR_BEFORE,
)
set_rules(
    of.Manifold,
    STAMP
    | WINDOW
    | {
        "count": COUNT,
        "t0_ms": TIME,
        "t1_ms": TIME,
        "sigma_eff": REAL,
        "lambda_": REAL,
        "candle": record_of(of.CandlePrices),
        "late": BOOL,
    },
    BAR_BEFORE,
)
set_rules(
    of.SimulatedTrade,
    STAMP
    | {
        "trade_id": CODE,
        "direction": WAY,
        "entry_bar_ms": TIME,
        "entry_price": PRICE,
        "exit_bar_ms": TIME,
        "exit_price": PRICE,
        "exit_reason": CODE,
        "bars_held": COUNT,
        "cost_bps": REAL,
        "pnl_bps": REAL,
        "mae_bps": REAL,
        "mfe_bps": REAL,
        "cost_assumed": BOOL,
        "params_id": CODE,
    },
    BAR_BEFORE,
    ("entry_bar_ms <= exit_bar_ms", "exit_bar_ms {exit_bar_ms} is before the entry"),
)
set_rules(
    of.SummarySlice,
    {name: some(REAL) for name in of.SummarySlice._fields}
    | {
        "days": number_rule(1, 36_600),
        "trades": COUNT,
        "pnl_bps": REAL,
        "pnl_total": REAL,
        "max_drawdown": REAL,
        "exposure": REAL,
        "cost_bps": REAL,
    },
)
set_rules(of.Floors, dict.fromkeys(of.Floors._fields, REAL))
set_rules(
    of.SummaryParams,
    {"c_min": REAL, "direction_lookback": COUNT, "dir_threshold_bps": REAL},
)
set_rules(
    of.Summary,
    STAMP
    | {
        "params_id": CODE,
        "span_days": number_rule(1, 36_600),
        "slices": many(record_of(of.SummarySlice), 64),
        "floors": record_of(of.Floors),
        "floor_samples": COUNT,
        "span_integrity_ok": BOOL,
        "params": some(record_of(of.SummaryParams)),
        "eligible": BOOL,
    },
    BAR_BEFORE,
    ("span_days in [each.days for each in slices]", "no slice has the span of {span_days} days"),
)
set_rules(
    of.GateMetrics,
    {
        "coherence": RATIO,
        "stability": RATIO,
        "entropy": RATIO,
        "rupture": RATIO,
        "lambda_hazard": RATIO,
        "count_1h": COUNT,
        "lambda_": REAL,
        "sigma_eff": REAL,
        "first_seen_ms": some(TIME),
    },
)
set_rules(
    of.GateEvaluation,
    {
        "as_of_ms": TIME,
        "trades": COUNT,
        "calmar": some(REAL),
        "pnl_total": REAL,
        "span_integrity_ok": BOOL,
    },
)
set_rules(
    of.ReasonDetail,
    {
        "reason": CODE,
        "value": some(REAL),
        "limit": some(REAL),
        "next_change_ms": some(END),
    },
)
set_rules(
    of.GateDecision,
    STAMP
    | {
        "eligible": BOOL,
        "reasons": many(CODE, 64),
        "metrics": some(record_of(of.GateMetrics)),
        "no_candle": BOOL,
        "floors": some(record_of(of.Floors)),
        "buffer": REAL,
        "passes": COUNT,
        "fails": COUNT,
        "misses": COUNT,
        "cooldown_until_ms": some(END),
        "session_open": BOOL,
        "near_close": BOOL,
        "direction": WAY,
        "position": WAY,
        "next_change_ms": some(END),
        "signal_bar_ms": some(TIME),
        "score": some(REAL),
        "mode": MODE,
        "params_id": CODE,
        "evaluation": some(record_of(of.GateEvaluation)),
        "details": many(record_of(of.ReasonDetail), 64),
    },
    BAR_BEFORE,
)
set_rules(
    of.WeightEntry,
    {
        "instrument": INSTRUMENT,
        "score": REAL,
        "weight": RATIO,
        "target_exposure_pct": RATIO,
    },
)
set_rules(of.EchoGate, {"count_1h": COUNT, "hazard": REAL, "first_seen_ms": some(TIME)})
set_rules(
    of.WeightGate,
    {
        "instrument": INSTRUMENT,
        "eligible": BOOL,
        "cooldown": BOOL,
        "buffer": REAL,
        "decided_ms": TIME,
        "echo": some(record_of(of.EchoGate)),
    },
)
set_rules(
    of.Weights,
    {
        "granularity": GRANULARITY,
        "bar_ms": TIME,
        "as_of_ms": TIME,
        "config_id": CODE,
        "control_offset": OFFSET,
        "epoch_ms": TIME,
        "universe": many(INSTRUMENT),
        "reported": many(INSTRUMENT),
        "entries": many(record_of(of.WeightEntry)),
        "gates": many(record_of(of.WeightGate)),
        "action": choice("published", "held", "cleared"),
        "held_since_ms": some(TIME),
        "reason": CODE,
        "top_k": COUNT,
        "mode": CODE,
    },
    BAR_BEFORE,
    ("epoch_ms == as_of_ms", "epoch_ms {epoch_ms} is not as_of_ms {as_of_ms}"),
)
set_rules(
    of.Control,
    {
        "kind": CODE,
        "instrument": some(INSTRUMENT),
        "value": text(JSON_LENGTH),
        "actor": WORDS,
        "reason": WORDS,
        "as_of_ms": TIME,
    },
)
set_rules(
    of.DeadLetter,
    {
        "topic": text(249),
        "partition": OFFSET,
        "offset": OFFSET,
        "key": some(text(LONGEST)),
        "value": some(text(LONGEST)),
        "reason": CODE,
        "detail": text(LONGEST),
        "stage": CODE,
    },
)
