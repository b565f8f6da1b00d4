// The adaptive gate of one instrument: backtest run, evaluations, latch, decision.
#pragma once

#include <cstdint>

#include "backtest/backtest.hpp"
#include "backtest/floors.hpp"
#include "backtest/reasons.hpp"
#include "backtest/summary.hpp"

namespace manifold {

constexpr std::int32_t kPassesToOpen = 2;
constexpr std::int32_t kFailsToClose = 2;
constexpr std::int32_t kMissesToCool = 4;
constexpr double kCalmarUnit = 0.01;  // minimum size of a floor for the width of its band
constexpr double kPnlUnit = 0.0005;

enum class GateMode : std::int32_t { adaptive = 0, static_guards = 1, echo = 2 };

/// The metric that the score's hazard term multiplies.
enum class HazardTerm : std::int32_t { none = 0, lambda = 1, lambda_hazard = 2 };

/// All rules of a gate; the layout is RULES_DTYPE of streams/core/layout.py.
struct GateRules {
  TradeRules trade;
  Floors least;
  double buffer;
  double weight_coherence, weight_stability, weight_rupture, weight_entropy, weight_hazard;
  double echo_max_hazard;
  std::int64_t echo_min_repetitions, fresh_ms, interval_ms, cooldown_ms;
  std::int64_t slices[kMaxSlices];
  std::int32_t slice_count, span, history;
  std::int32_t mode, hazard_term, unused;

  bool valid() const {
    bool good = trade.lookback >= 1 && trade.lookback <= kMaxLookback && trade.atr_bars >= 1 &&
                interval_ms > 0 && slice_count >= 1 && slice_count <= kMaxSlices && span >= 0 &&
                span < slice_count && history >= 1 && history <= kMaxHistory;
    for (std::int32_t i = 0; good && i < slice_count; ++i) {
      good = slices[i] >= 1 && slices[i] <= kMaxSliceDays;
    }
    return good;
  }
};

/// One evaluation; the layout is EVALUATION_DTYPE of streams/core/layout.py.
struct Evaluation {
  std::int64_t bar_ms, as_of_ms, floor_samples;
  Floors floors;
  SliceFigures slices[kMaxSlices];
  std::int32_t slice_count, integrity_ok;
};

/// One decision; the layout is DECISION_DTYPE of streams/core/layout.py.
struct Decision {
  std::int64_t bar_ms, as_of_ms, signal_bar_ms, cooldown_until_ms, next_change_ms;
  std::int64_t session_change_ms;
  std::int64_t evaluated_ms, evaluated_trades;
  double evaluated_calmar, evaluated_pnl;
  Floors floors;
  double score;
  GateMetrics metrics;
  std::uint32_t reasons;
  std::int32_t passes, fails, misses, direction, position;
  std::int32_t has_signal, has_evaluation, integrity_ok, session_flags, no_candle, late;
};

/// Result of one bar.
struct Outcome {
  bool traded = false, evaluated = false, decided = false;
};

class Gate {
 public:
  static constexpr std::int64_t kNever = INT64_MIN;

  bool allocate() { return ledger_.allocate(); }

  /// Use other rules from the next bar on.
  void adopt(const GateRules& rules) { rules_ = rules; }
  const GateRules& rules() const { return rules_; }

  /// Process one bar; a bar older than the last decision (`late`) causes no decision.
  Outcome step(const Bar& bar, bool late, Trade& trade, Evaluation& evaluation,
               Decision& decision);

  /// Decide for a bar without a candle, unless it is already decided.
  bool decide_without_candle(std::int64_t bar_ms, std::int64_t as_of_ms, const Session& session,
                             Decision& decision);

  std::int64_t decided_ms() const { return decided_ms_; }
  /// Set the instant up to which bars are decided; for a run recomputed from history.
  void set_decided_ms(std::int64_t as_of_ms) { decided_ms_ = as_of_ms; }
  std::int64_t last_bar_ms() const {
    return signal_as_of_ms_ == kNever ? kNever : signal_bar_ms_;
  }

 private:
  friend struct GateRows;
  friend class GateReader;

  void evaluate(const Bar& bar, Evaluation& evaluation);
  void count(const Evaluation& evaluation);
  std::uint32_t lacking() const;
  std::uint32_t reasons_at(std::int64_t as_of_ms, const Session& session) const;
  std::int64_t next_change(std::uint32_t reasons, std::int64_t as_of_ms,
                           const Session& session) const;
  void fill(std::int64_t bar_ms, std::int64_t as_of_ms, const Session& session, bool no_candle,
            Decision& decision) const;
  double score() const;
  bool cooling(std::int64_t as_of_ms) const { return as_of_ms < cooldown_until_ms_; }
  double band(double floor, double unit) const {
    const double size = floor < 0.0 ? -floor : floor;
    return rules_.buffer * (size > unit ? size : unit);
  }

  GateRules rules_{};
  Run run_;
  Ledger ledger_;
  History history_;
  std::int64_t decided_ms_ = -1;
  std::int64_t signal_bar_ms_ = 0, signal_as_of_ms_ = kNever;
  GateMetrics metrics_{};
  std::int64_t evaluated_ms_ = kNever;  // the last evaluation and its result
  std::int64_t evaluated_trades_ = 0;
  double evaluated_calmar_ = kNull, evaluated_pnl_ = 0.0;
  Floors floors_{};
  std::int32_t integrity_ok_ = 1;
  std::int32_t latch_ = 0, passes_ = 0, fails_ = 0, misses_ = 0;
  std::int64_t cooldown_until_ms_ = kNever;
};

inline Outcome Gate::step(const Bar& bar, bool late, Trade& trade, Evaluation& evaluation,
                          Decision& decision) {
  Outcome outcome;
  const double before = run_.equity();
  const bool first = run_.bars() == 0;
  const std::int64_t previous_ms = signal_as_of_ms_;
  outcome.traded = run_.step(bar, rules_.trade, trade);
  ledger_.add_bar(bar.as_of_ms, before, run_.equity(), run_.in_position());
  if (outcome.traded) ledger_.add_trade(trade.pnl_bps, trade.cost_bps, trade.bars_held);
  signal_bar_ms_ = bar.bar_ms;
  signal_as_of_ms_ = bar.as_of_ms;
  metrics_ = bar.metrics;
  const std::int64_t period = bar.as_of_ms / rules_.interval_ms;
  if (first || period != previous_ms / rules_.interval_ms) {
    evaluate(bar, evaluation);
    outcome.evaluated = true;
  }
  if (!late && bar.as_of_ms > decided_ms_) {
    decided_ms_ = bar.as_of_ms;
    fill(bar.bar_ms, bar.as_of_ms, bar.session, false, decision);
    outcome.decided = true;
  }
  return outcome;
}

inline void Gate::evaluate(const Bar& bar, Evaluation& evaluation) {
  evaluation.bar_ms = bar.bar_ms;
  evaluation.as_of_ms = bar.as_of_ms;
  evaluation.slice_count = rules_.slice_count;
  evaluation.floor_samples = history_.size();
  evaluation.floors = history_.floors(rules_.least);
  integrity_ok_ = 1;
  for (std::int32_t i = 0; i < rules_.slice_count; ++i) {
    evaluation.slices[i] = ledger_.slice(bar.as_of_ms, rules_.slices[i], i);
    // slices ascend and have one end: a longer one contains all trades of a shorter one
    if (i > 0 && evaluation.slices[i].trades < evaluation.slices[i - 1].trades) integrity_ok_ = 0;
  }
  evaluation.integrity_ok = integrity_ok_;
  const SliceFigures& span = evaluation.slices[rules_.span];
  const bool first_of_hour =
      evaluated_ms_ == kNever || bar.as_of_ms / kHourMs != evaluated_ms_ / kHourMs;
  evaluated_ms_ = bar.as_of_ms;
  evaluated_trades_ = span.trades;
  evaluated_calmar_ = span.calmar;
  evaluated_pnl_ = span.pnl_total;
  floors_ = evaluation.floors;
  if (!cooling(bar.as_of_ms)) count(evaluation);
  if (first_of_hour) {
    const Sample sample{static_cast<double>(span.trades), span.calmar, span.pnl_total};
    history_.add(sample, rules_.history);
  }
}

/// Reasons for which the last evaluation does not pass.
inline std::uint32_t Gate::lacking() const {
  const double calmar = floors_.calmar_min + band(floors_.calmar_min, kCalmarUnit);
  const double pnl = floors_.pnl_min + band(floors_.pnl_min, kPnlUnit);
  return when(static_cast<double>(evaluated_trades_) < floors_.min_trades,
              Reason::trades_below_floor) |
         when(!(evaluated_calmar_ >= calmar), Reason::calmar_below_floor) |
         when(evaluated_pnl_ < pnl, Reason::pnl_below_floor);
}

/// Consecutive passes and fails move the latch; consecutive misses start a cooldown.
inline void Gate::count(const Evaluation& evaluation) {
  const double calmar = floors_.calmar_min - band(floors_.calmar_min, kCalmarUnit);
  const double pnl = floors_.pnl_min - band(floors_.pnl_min, kPnlUnit);
  const bool fails = static_cast<double>(evaluated_trades_) < floors_.min_trades ||
                     !(evaluated_calmar_ > calmar) || evaluated_pnl_ <= pnl;
  const bool passes = lacking() == 0;
  const bool was_on = latch_ != 0;
  passes_ = passes ? passes_ + 1 : 0;
  fails_ = fails && !passes ? fails_ + 1 : 0;
  misses_ = fails && !passes && !was_on ? misses_ + 1 : 0;
  if (passes_ >= kPassesToOpen) latch_ = 1;
  if (fails_ >= kFailsToClose) latch_ = 0;
  if (misses_ >= kMissesToCool) {
    cooldown_until_ms_ = evaluation.as_of_ms + rules_.cooldown_ms;
    latch_ = passes_ = fails_ = misses_ = 0;
  }
}

inline std::uint32_t Gate::reasons_at(std::int64_t as_of_ms, const Session& session) const {
  const bool adaptive = rules_.mode == static_cast<std::int32_t>(GateMode::adaptive);
  std::uint32_t found = rules_.trade.sessions ? failing_sessions(session) : 0u;
  if (adaptive) {
    found |= when(cooling(as_of_ms), Reason::cooldown);
    found |= when(!latch_, Reason::hysteresis_wait);
    found |= when(!integrity_ok_, Reason::span_integrity);
    if (!latch_ && evaluated_ms_ != kNever) found |= lacking();
  }
  if (signal_as_of_ms_ == kNever) return found | bit_of(Reason::warming);
  if (rules_.mode == static_cast<std::int32_t>(GateMode::echo)) {
    found |= when(metrics_.count_1h < rules_.echo_min_repetitions, Reason::repetitions_short);
    found |= when(metrics_.lambda_hazard > rules_.echo_max_hazard, Reason::hazard_above_max);
  } else {
    found |= failing_guards(metrics_, rules_.trade.guards);
  }
  found |= when(adaptive && run_.bars() <= rules_.trade.lookback, Reason::warming);
  return found | when(as_of_ms - signal_as_of_ms_ > rules_.fresh_ms, Reason::signal_stale);
}

/// Earliest time at which all reasons that depend on time alone may have ended; kNever: unknown.
inline std::int64_t Gate::next_change(std::uint32_t reasons, std::int64_t as_of_ms,
                                      const Session& session) const {
  const auto has = [&](Reason reason) { return (reasons & bit_of(reason)) != 0; };
  std::int64_t next = kNever;
  const auto later = [&](std::int64_t at_ms) { next = at_ms > next ? at_ms : next; };
  if (has(Reason::session_closed) || has(Reason::session_near_close) ||
      has(Reason::market_closed)) {
    later(session.next_change_ms);
  }
  if (has(Reason::cooldown)) later(cooldown_until_ms_);
  if (has(Reason::hysteresis_wait) || has(Reason::span_integrity)) {
    later((as_of_ms / rules_.interval_ms + 1) * rules_.interval_ms);
  }
  return next;
}

/// The allocator's score (docs/spec/trading-loop.md 4.1); the terms are added in this order.
inline double Gate::score() const {
  double total = rules_.weight_coherence * metrics_.coherence +
                 rules_.weight_stability * metrics_.stability +
                 rules_.weight_rupture * (1.0 - metrics_.rupture) +
                 rules_.weight_entropy * (1.0 - metrics_.entropy);
  switch (static_cast<HazardTerm>(rules_.hazard_term)) {
    case HazardTerm::none: return total;
    case HazardTerm::lambda: return total - rules_.weight_hazard * metrics_.lambda;
    case HazardTerm::lambda_hazard: return total - rules_.weight_hazard * metrics_.lambda_hazard;
  }
  return total;
}

inline void Gate::fill(std::int64_t bar_ms, std::int64_t as_of_ms, const Session& session,
                       bool no_candle, Decision& decision) const {
  const bool adaptive = rules_.mode == static_cast<std::int32_t>(GateMode::adaptive);
  const bool signal = signal_as_of_ms_ != kNever;
  const std::uint32_t reasons = reasons_at(as_of_ms, session);
  decision = {};
  decision.bar_ms = bar_ms;
  decision.as_of_ms = as_of_ms;
  decision.signal_bar_ms = signal_bar_ms_;
  decision.cooldown_until_ms = adaptive && cooling(as_of_ms) ? cooldown_until_ms_ : kNever;
  decision.next_change_ms = next_change(reasons, as_of_ms, session);
  decision.session_change_ms = session.next_change_ms;
  decision.evaluated_ms = evaluated_ms_;
  decision.evaluated_trades = evaluated_trades_;
  decision.evaluated_calmar = evaluated_calmar_;
  decision.evaluated_pnl = evaluated_pnl_;
  decision.floors = floors_;
  decision.score = signal ? score() : 0.0;
  decision.metrics = metrics_;
  decision.reasons = reasons;
  decision.passes = adaptive ? passes_ : 0;
  decision.fails = adaptive ? fails_ : 0;
  decision.misses = adaptive ? misses_ : 0;
  decision.direction = run_.direction();
  decision.position = run_.position();
  decision.has_signal = signal;
  decision.has_evaluation = adaptive && evaluated_ms_ != kNever;
  decision.integrity_ok = integrity_ok_;
  decision.session_flags = session.flags;
  decision.no_candle = no_candle;
}

inline bool Gate::decide_without_candle(std::int64_t bar_ms, std::int64_t as_of_ms,
                                        const Session& session, Decision& decision) {
  if (as_of_ms <= decided_ms_) return false;
  decided_ms_ = as_of_ms;
  fill(bar_ms, as_of_ms, session, true, decision);
  return true;
}

}  // namespace manifold
