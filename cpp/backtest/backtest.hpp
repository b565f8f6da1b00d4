// The strict rolling backtest, bar by bar: one run of one fixed rule, at most one position.
//
// Order within a bar: the decision of the previous bar is filled at the open; stops and targets
// inside the bar; the mark at the close; the decision, which uses nothing later than this bar.
#pragma once

#include <cstdint>
#include <cstring>

#include "backtest/bar.hpp"
#include "backtest/reasons.hpp"

namespace manifold {

constexpr std::int32_t kMaxLookback = 120;
constexpr double kBps = 1e4;

enum class Exit : std::int32_t {
  none = 0,
  stop = 1,
  target = 2,
  session_close = 3,
  slope_reversal = 4,
  max_hold = 5,
};

/// The parameters of a run; the layout is part of RULES_DTYPE of streams/core/layout.py.
struct TradeRules {
  Guards guards;
  double threshold_bps, target_pct, stop_pct, atr_stop, reward_ratio, assumed_cost_bps;
  std::int64_t max_hold_ms, entry_cooldown_ms, exit_cooldown_ms;
  std::int32_t lookback, atr_bars;
  std::int32_t combined;      // coherence must not fall over the lookback
  std::int32_t slope_exit;    // a slope against the position closes it
  std::int32_t pct_levels;    // stop and target in percent of the entry price
  std::int32_t atr_levels;    // stop and target as multiples of the average true range
  std::int32_t sessions;      // sessions and the market week apply
  std::int32_t unused;
};

/// A closed trade; the layout is TRADES_DTYPE of streams/core/layout.py.
struct Trade {
  std::int64_t entry_bar_ms, exit_bar_ms, exit_as_of_ms, bars_held;
  double entry_price, exit_price, cost_bps, pnl_bps, mae_bps, mfe_bps;
  std::int32_t direction, exit, cost_assumed, unused;
};
static_assert(sizeof(Trade) == 96, "TRADES_DTYPE is 96 bytes");

class Run {
 public:
  /// Process one bar; returns whether a trade closed in it (`trade`).
  bool step(const Bar& bar, const TradeRules& rules, Trade& trade);

  /// Additive equity at the last close, as a fraction of the notional.
  double equity() const { return equity_; }
  bool in_position() const { return position_ != 0; }
  /// Position after the last decision, pending fills included.
  std::int32_t position() const {
    if (pending_exit_ != Exit::none) return 0;
    return position_ != 0 ? position_ : pending_entry_;
  }
  std::int32_t direction() const { return direction_; }
  std::int64_t bars() const { return bars_; }

 private:
  friend struct GateRows;
  friend class GateReader;
  static constexpr std::int64_t kRing = 128;
  static constexpr std::int64_t kNever = INT64_MIN;

  struct Quotes {
    Prices bid, ask;
    bool assumed;
  };

  static Quotes quotes_of(const Bar& bar, const TradeRules& rules);
  void enter(const Bar& bar, const Quotes& quotes, const TradeRules& rules);
  void leave(const Bar& bar, double price, double given_up, Exit why, Trade& trade);
  bool touch_levels(const Bar& bar, const Quotes& quotes, Trade& trade);
  void mark(const Quotes& quotes);
  void average_range(const Bar& bar, const TradeRules& rules);
  void decide(const Bar& bar, const TradeRules& rules);
  Exit exit_of(const Bar& bar, const TradeRules& rules) const;
  bool may_enter(const Bar& bar, const TradeRules& rules) const;
  double gain_bps(double price) const {
    return kBps * position_ * (price - entry_price_) / entry_price_;
  }
  bool range_known(const TradeRules& rules) const { return bars_ >= rules.atr_bars; }

  std::int64_t bars_ = 0;
  std::int32_t position_ = 0, pending_entry_ = 0, direction_ = 0;
  Exit pending_exit_ = Exit::none;
  double pending_range_ = 0.0;  // the average true range at the decision to enter
  std::int64_t entry_bar_ms_ = 0, entry_index_ = 0;
  double entry_price_ = 0.0, stop_ = 0.0, target_ = 0.0, entry_given_up_ = 0.0;
  double mae_bps_ = 0.0, mfe_bps_ = 0.0;
  std::int32_t cost_assumed_ = 0, has_levels_ = 0;
  std::int64_t last_entry_ms_ = kNever, last_exit_ms_ = kNever;  // as_of of the fills' bars
  double realised_bps_ = 0.0, equity_ = 0.0;
  double range_ = 0.0, previous_close_ = 0.0;
  double closes_[kRing] = {}, coherences_[kRing] = {};
};

inline Run::Quotes Run::quotes_of(const Bar& bar, const TradeRules& rules) {
  if (bar.quoted()) return {bar.bid, bar.ask, false};
  const double c = rules.assumed_cost_bps / kBps;
  const Prices& m = bar.mid;
  const double down = 1.0 - c, up = 1.0 + c;
  return {{m.open * down, m.high * down, m.low * down, m.close * down},
          {m.open * up, m.high * up, m.low * up, m.close * up},
          true};
}

inline double distance(double a, double b) { return a > b ? a - b : b - a; }

/// Cost of a fill against the mid: a purchase pays more, a sale gets less. It is signed: an absolute
/// value would turn a gain from crossed quotes into a cost.
inline double given_up(bool bought, double price, double mid) {
  return bought ? price - mid : mid - price;
}

inline void Run::enter(const Bar& bar, const Quotes& quotes, const TradeRules& rules) {
  position_ = pending_entry_;
  pending_entry_ = 0;
  entry_price_ = position_ > 0 ? quotes.ask.open : quotes.bid.open;
  entry_given_up_ = given_up(position_ > 0, entry_price_, bar.mid.open);
  entry_bar_ms_ = bar.bar_ms;
  entry_index_ = bars_;
  last_entry_ms_ = bar.as_of_ms;
  mae_bps_ = mfe_bps_ = 0.0;
  cost_assumed_ = 0;
  has_levels_ = rules.atr_levels | rules.pct_levels;
  if (rules.atr_levels) {
    const double risk = rules.atr_stop * pending_range_;
    stop_ = entry_price_ - position_ * risk;
    target_ = entry_price_ + position_ * (rules.reward_ratio * risk);
  } else if (rules.pct_levels) {
    stop_ = entry_price_ * (1.0 - position_ * rules.stop_pct / 100.0);
    target_ = entry_price_ * (1.0 + position_ * rules.target_pct / 100.0);
  }
}

inline void Run::leave(const Bar& bar, double price, double given_up, Exit why, Trade& trade) {
  const double gain = gain_bps(price);
  trade = {entry_bar_ms_,
           bar.bar_ms,
           bar.as_of_ms,
           bars_ - entry_index_,
           entry_price_,
           price,
           kBps * (entry_given_up_ + given_up) / entry_price_,
           gain,
           gain < mae_bps_ ? gain : mae_bps_,
           gain > mfe_bps_ ? gain : mfe_bps_,
           position_,
           static_cast<std::int32_t>(why),
           cost_assumed_,
           0};
  realised_bps_ += gain;
  position_ = 0;
  pending_exit_ = Exit::none;
  last_exit_ms_ = bar.as_of_ms;
}

/// Stop or target inside the bar; a bar that touches both counts as a stop.
inline bool Run::touch_levels(const Bar& bar, const Quotes& quotes, Trade& trade) {
  const bool is_long = position_ > 0;
  const Prices& side = is_long ? quotes.bid : quotes.ask;
  const double worst = is_long ? side.low : side.high;
  const double best = is_long ? side.high : side.low;
  const double half_spread = (quotes.ask.open - quotes.bid.open) / 2.0;
  if (position_ * (side.open - stop_) <= 0.0) {
    leave(bar, side.open, given_up(!is_long, side.open, bar.mid.open), Exit::stop, trade);
  } else if (position_ * (worst - stop_) <= 0.0) {
    leave(bar, stop_, half_spread, Exit::stop, trade);
  } else if (position_ * (best - target_) >= 0.0) {
    leave(bar, target_, half_spread, Exit::target, trade);
  } else {
    return false;
  }
  return true;
}

inline void Run::mark(const Quotes& quotes) {
  equity_ = realised_bps_ / kBps;
  if (position_ == 0) return;
  const bool is_long = position_ > 0;
  const Prices& side = is_long ? quotes.bid : quotes.ask;
  equity_ += position_ * (side.close - entry_price_) / entry_price_;
  const double worst = gain_bps(is_long ? side.low : side.high);
  const double best = gain_bps(is_long ? side.high : side.low);
  if (worst < mae_bps_) mae_bps_ = worst;
  if (best > mfe_bps_) mfe_bps_ = best;
}

/// Wilder's average true range of the mid, starting with the mean of the first true ranges.
inline void Run::average_range(const Bar& bar, const TradeRules& rules) {
  double range = bar.mid.high - bar.mid.low;
  if (bars_ > 0) {
    const double up = distance(bar.mid.high, previous_close_);
    const double down = distance(bar.mid.low, previous_close_);
    if (up > range) range = up;
    if (down > range) range = down;
  }
  previous_close_ = bar.mid.close;
  const std::int32_t n = rules.atr_bars;
  if (bars_ < n) {
    range_ += range;  // a sum until there are enough bars
    if (bars_ + 1 == n) range_ /= n;
  } else {
    range_ = (range_ * (n - 1) + range) / n;
  }
}

inline Exit Run::exit_of(const Bar& bar, const TradeRules& rules) const {
  const bool closing = !bar.session.open() || bar.session.near_close();
  if (rules.sessions && closing) return Exit::session_close;
  if (rules.slope_exit && direction_ == -position_) return Exit::slope_reversal;
  if (bar.as_of_ms - entry_bar_ms_ >= rules.max_hold_ms) return Exit::max_hold;
  return Exit::none;
}

inline bool Run::may_enter(const Bar& bar, const TradeRules& rules) const {
  if (direction_ == 0 || failing_guards(bar.metrics, rules.guards) != 0) return false;
  const std::int64_t before = (bars_ - 1 - rules.lookback) & (kRing - 1);
  if (rules.combined && bar.metrics.coherence - coherences_[before] < 0.0) return false;
  if (rules.sessions && (!bar.session.open() || bar.session.near_close())) return false;
  if (rules.atr_levels && !range_known(rules)) return false;
  const auto cooled = [&](std::int64_t fill_ms, std::int64_t wait_ms) {
    return fill_ms == kNever || bar.as_of_ms - fill_ms >= wait_ms;
  };
  return cooled(last_entry_ms_, rules.entry_cooldown_ms) &&
         cooled(last_exit_ms_, rules.exit_cooldown_ms);
}

inline void Run::decide(const Bar& bar, const TradeRules& rules) {
  const std::int64_t now = bars_ & (kRing - 1);
  closes_[now] = bar.mid.close;
  coherences_[now] = bar.metrics.coherence;
  direction_ = 0;
  if (bars_ >= rules.lookback) {
    const double before = closes_[(bars_ - rules.lookback) & (kRing - 1)];
    const double slope_bps = kBps * (bar.mid.close / before - 1.0);
    direction_ = slope_bps >= rules.threshold_bps ? 1 : slope_bps <= -rules.threshold_bps ? -1 : 0;
  }
  ++bars_;
  if (position_ != 0) {
    pending_exit_ = exit_of(bar, rules);
  } else if (may_enter(bar, rules)) {
    pending_entry_ = direction_;
    pending_range_ = range_;
  }
}

inline bool Run::step(const Bar& bar, const TradeRules& rules, Trade& trade) {
  const Quotes quotes = quotes_of(bar, rules);
  bool closed = false;
  if (pending_exit_ != Exit::none) {
    cost_assumed_ |= quotes.assumed;
    const double price = position_ > 0 ? quotes.bid.open : quotes.ask.open;
    leave(bar, price, given_up(position_ < 0, price, bar.mid.open), pending_exit_, trade);
    closed = true;
  } else if (pending_entry_ != 0) {
    enter(bar, quotes, rules);
  }
  if (position_ != 0) cost_assumed_ |= quotes.assumed;
  if (position_ != 0 && has_levels_) closed = touch_levels(bar, quotes, trade) || closed;
  mark(quotes);
  average_range(bar, rules);
  decide(bar, rules);
  return closed;
}

}  // namespace manifold
