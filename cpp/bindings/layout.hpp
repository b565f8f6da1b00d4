// Field offsets of every structure that Python lays out too (streams/core/layout.py).
#pragma once

#include <cstddef>

#include "allocation/allocation.hpp"
#include "backtest/gate.hpp"
#include "bindings/gate.hpp"
#include "io/record_frames.hpp"
#include "metrics/manifold.hpp"
#include "metrics/record.hpp"

namespace manifold {
namespace bindings {

/// A field, with its name in Python's layout; a structure's last entry is its size.
struct FieldOffset {
  const char* name;
  std::size_t offset;
};

// clang-format off
#define M_FIELD(structure, member) {#member, offsetof(structure, member)}
#define M_FIELD_AS(structure, member, name) {name, offsetof(structure, member)}
#define M_SIZE(structure, name) {"/" name, sizeof(structure)}
constexpr FieldOffset kLayouts[] = {
    M_FIELD(Bar, bar_ms), M_FIELD(Bar, as_of_ms), M_FIELD(Bar, mid), M_FIELD(Bar, bid),
    M_FIELD(Bar, ask), M_FIELD_AS(Bar, metrics.coherence, "coherence"),
    M_FIELD_AS(Bar, metrics.stability, "stability"), M_FIELD_AS(Bar, metrics.entropy, "entropy"),
    M_FIELD_AS(Bar, metrics.rupture, "rupture"),
    M_FIELD_AS(Bar, metrics.lambda_hazard, "lambda_hazard"),
    M_FIELD_AS(Bar, metrics.lambda, "lambda_"), M_FIELD_AS(Bar, metrics.sigma_eff, "sigma_eff"),
    M_FIELD_AS(Bar, metrics.count_1h, "count_1h"),
    M_FIELD_AS(Bar, session.next_change_ms, "next_change_ms"),
    M_FIELD_AS(Bar, session.flags, "flags"), M_SIZE(Bar, "bar"),
    M_FIELD(BarColumns, bar_ms), M_FIELD(BarColumns, prices), M_FIELD(BarColumns, metrics),
    M_FIELD(BarColumns, flags), M_FIELD(BarColumns, next_change_ms),
    M_FIELD(BarColumns, granularity_ms), M_SIZE(BarColumns, "columns"),
    M_FIELD(Trade, entry_bar_ms), M_FIELD(Trade, exit_bar_ms), M_FIELD(Trade, exit_as_of_ms),
    M_FIELD(Trade, bars_held), M_FIELD(Trade, entry_price), M_FIELD(Trade, exit_price),
    M_FIELD(Trade, cost_bps), M_FIELD(Trade, pnl_bps), M_FIELD(Trade, mae_bps),
    M_FIELD(Trade, mfe_bps), M_FIELD(Trade, direction), M_FIELD(Trade, exit),
    M_FIELD(Trade, cost_assumed), M_FIELD(Trade, unused), M_SIZE(Trade, "trade"),
    M_FIELD(Floors, min_trades), M_FIELD(Floors, calmar_min), M_FIELD(Floors, pnl_min),
    M_SIZE(Floors, "floors"),
    M_FIELD(SliceFigures, days), M_FIELD(SliceFigures, trades), M_FIELD(SliceFigures, win_rate),
    M_FIELD(SliceFigures, pnl_bps), M_FIELD(SliceFigures, pnl_total),
    M_FIELD(SliceFigures, max_drawdown), M_FIELD(SliceFigures, calmar),
    M_FIELD(SliceFigures, calmar_ann), M_FIELD(SliceFigures, sharpe),
    M_FIELD(SliceFigures, sortino), M_FIELD(SliceFigures, profit_factor),
    M_FIELD(SliceFigures, exposure), M_FIELD(SliceFigures, avg_hold_bars),
    M_FIELD(SliceFigures, cost_bps), M_SIZE(SliceFigures, "slice"),
    M_FIELD(Evaluation, bar_ms), M_FIELD(Evaluation, as_of_ms),
    M_FIELD(Evaluation, floor_samples), M_FIELD(Evaluation, floors), M_FIELD(Evaluation, slices),
    M_FIELD(Evaluation, slice_count), M_FIELD(Evaluation, integrity_ok),
    M_SIZE(Evaluation, "evaluation"),
    M_FIELD(Decision, bar_ms), M_FIELD(Decision, as_of_ms), M_FIELD(Decision, signal_bar_ms),
    M_FIELD(Decision, cooldown_until_ms), M_FIELD(Decision, next_change_ms),
    M_FIELD(Decision, session_change_ms), M_FIELD(Decision, evaluated_ms),
    M_FIELD(Decision, evaluated_trades), M_FIELD(Decision, evaluated_calmar),
    M_FIELD(Decision, evaluated_pnl), M_FIELD(Decision, floors), M_FIELD(Decision, score),
    M_FIELD_AS(Decision, metrics.coherence, "coherence"),
    M_FIELD_AS(Decision, metrics.stability, "stability"),
    M_FIELD_AS(Decision, metrics.entropy, "entropy"),
    M_FIELD_AS(Decision, metrics.rupture, "rupture"),
    M_FIELD_AS(Decision, metrics.lambda_hazard, "lambda_hazard"),
    M_FIELD_AS(Decision, metrics.lambda, "lambda_"),
    M_FIELD_AS(Decision, metrics.sigma_eff, "sigma_eff"),
    M_FIELD_AS(Decision, metrics.count_1h, "count_1h"), M_FIELD(Decision, reasons),
    M_FIELD(Decision, passes), M_FIELD(Decision, fails), M_FIELD(Decision, misses),
    M_FIELD(Decision, direction), M_FIELD(Decision, position), M_FIELD(Decision, has_signal),
    M_FIELD(Decision, has_evaluation), M_FIELD(Decision, integrity_ok),
    M_FIELD(Decision, session_flags), M_FIELD(Decision, no_candle),
    M_FIELD_AS(Decision, late, "unused"), M_SIZE(Decision, "decision"),
    M_FIELD_AS(GateRules, trade.guards.min_coherence, "min_coherence"),
    M_FIELD_AS(GateRules, trade.guards.min_stability, "min_stability"),
    M_FIELD_AS(GateRules, trade.guards.max_entropy, "max_entropy"),
    M_FIELD_AS(GateRules, trade.guards.max_rupture, "max_rupture"),
    M_FIELD_AS(GateRules, trade.guards.max_hazard, "max_hazard"),
    M_FIELD_AS(GateRules, trade.guards.min_repetitions, "min_repetitions"),
    M_FIELD_AS(GateRules, trade.threshold_bps, "threshold_bps"),
    M_FIELD_AS(GateRules, trade.target_pct, "target_pct"),
    M_FIELD_AS(GateRules, trade.stop_pct, "stop_pct"),
    M_FIELD_AS(GateRules, trade.atr_stop, "atr_stop"),
    M_FIELD_AS(GateRules, trade.reward_ratio, "reward_ratio"),
    M_FIELD_AS(GateRules, trade.assumed_cost_bps, "assumed_cost_bps"),
    M_FIELD_AS(GateRules, trade.max_hold_ms, "max_hold_ms"),
    M_FIELD_AS(GateRules, trade.entry_cooldown_ms, "entry_cooldown_ms"),
    M_FIELD_AS(GateRules, trade.exit_cooldown_ms, "exit_cooldown_ms"),
    M_FIELD_AS(GateRules, trade.lookback, "lookback"),
    M_FIELD_AS(GateRules, trade.atr_bars, "atr_bars"),
    M_FIELD_AS(GateRules, trade.combined, "combined"),
    M_FIELD_AS(GateRules, trade.slope_exit, "slope_exit"),
    M_FIELD_AS(GateRules, trade.pct_levels, "pct_levels"),
    M_FIELD_AS(GateRules, trade.atr_levels, "atr_levels"),
    M_FIELD_AS(GateRules, trade.sessions, "sessions"),
    M_FIELD_AS(GateRules, trade.unused, "unused_trade"), M_FIELD(GateRules, least),
    M_FIELD(GateRules, buffer), M_FIELD(GateRules, weight_coherence),
    M_FIELD(GateRules, weight_stability), M_FIELD(GateRules, weight_rupture),
    M_FIELD(GateRules, weight_entropy), M_FIELD(GateRules, weight_hazard),
    M_FIELD(GateRules, echo_max_hazard), M_FIELD(GateRules, echo_min_repetitions),
    M_FIELD(GateRules, fresh_ms), M_FIELD(GateRules, interval_ms),
    M_FIELD(GateRules, cooldown_ms), M_FIELD(GateRules, slices), M_FIELD(GateRules, slice_count),
    M_FIELD(GateRules, span), M_FIELD(GateRules, history), M_FIELD(GateRules, mode),
    M_FIELD(GateRules, hazard_term), M_FIELD(GateRules, unused), M_SIZE(GateRules, "rules"),
    M_FIELD(Record, window_start_ms), M_FIELD(Record, coherence), M_FIELD(Record, stability),
    M_FIELD(Record, entropy), M_FIELD(Record, rupture), M_FIELD(Record, flip_ratio),
    M_FIELD(Record, lambda_hazard), M_FIELD(Record, sigma_eff),
    M_FIELD_AS(Record, lambda, "lambda_"), M_FIELD(Record, first_seen_ms), M_FIELD(Record, t0_ms),
    M_FIELD(Record, t1_ms), M_FIELD(Record, count_1h), M_FIELD(Record, count),
    M_FIELD(Record, ones), M_FIELD_AS(Record, signature.coherence, "sig_c"),
    M_FIELD_AS(Record, signature.stability, "sig_s"),
    M_FIELD_AS(Record, signature.entropy, "sig_e"), M_FIELD(Record, collapsed),
    M_SIZE(Record, "metrics"),
    M_FIELD(BatchSignal, window_start_ms), M_FIELD(BatchSignal, window_end_ms),
    M_FIELD(BatchSignal, price), M_FIELD(BatchSignal, window_end_price),
    M_FIELD(BatchSignal, coherence), M_FIELD(BatchSignal, stability),
    M_FIELD(BatchSignal, entropy), M_FIELD(BatchSignal, rupture),
    M_FIELD(BatchSignal, flip_ratio), M_FIELD(BatchSignal, lambda_hazard),
    M_FIELD(BatchSignal, first_seen_ms), M_FIELD(BatchSignal, count_1h),
    M_FIELD(BatchSignal, ones), M_FIELD_AS(BatchSignal, signature.coherence, "sig_c"),
    M_FIELD_AS(BatchSignal, signature.stability, "sig_s"),
    M_FIELD_AS(BatchSignal, signature.entropy, "sig_e"), M_FIELD(BatchSignal, collapsed),
    M_SIZE(BatchSignal, "signal"),
    M_FIELD(Share, id), M_FIELD(Share, score), M_FIELD(Share, weight), M_FIELD(Share, exposure),
    M_SIZE(Share, "share"),
    M_FIELD(Field, kind), M_FIELD(Field, next), M_FIELD(Field, column), M_FIELD(Field, stride),
    M_FIELD(Field, words), M_FIELD(Field, ends), M_FIELD(Field, low), M_FIELD(Field, high),
    M_SIZE(Field, "field"),
};
#undef M_FIELD
#undef M_FIELD_AS
#undef M_SIZE
// clang-format on

/// "field offset ... /structure size ..." of all structures, each with its fields in their order.
inline const char* layouts() {
  static char text[8192];
  char* at = text;
  for (const FieldOffset& field : kLayouts) {
    for (const char* c = field.name; *c != 0; ++c) *at++ = *c;
    *at++ = ' ';
    char digits[8];
    int n = 0;
    std::size_t left = field.offset;
    do {
      digits[n++] = static_cast<char>('0' + left % 10);
      left /= 10;
    } while (left != 0);
    while (n > 0) *at++ = digits[--n];
    *at++ = ' ';
  }
  *at = 0;
  return text;
}

}  // namespace bindings
}  // namespace manifold
