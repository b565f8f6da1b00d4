// Figures of each UTC hour of a run, joined over any range of whole hours.
//
// Hour h holds the bars with h < as_of <= h + 1 (in hours). A slice of weeks is a join of hours in
// a tree whose shape depends on the hours' numbers alone: the cost does not depend on its length,
// and a run restored from its rows gives the same bits.
#pragma once

#include <cstdint>
#include <memory>
#include <new>

namespace manifold {

constexpr std::int64_t kHourMs = 3600000;
constexpr std::int64_t kHoursOfDay = 24;
constexpr std::int64_t kDayMs = kHoursOfDay * kHourMs;

/// One hour, or several joined. Marks are additive equity as a fraction of the notional.
struct HourSum {
  double before = 0.0, last = 0.0;    // marks before the first and at the last bar
  double peak = 0.0, trough = 0.0;    // of the marks in between
  double fall = 0.0;                  // largest fall from a running peak in between
  double pnl_bps = 0.0, gains_bps = 0.0, losses_bps = 0.0, cost_bps = 0.0;
  std::int64_t bars_held = 0;
  std::int32_t bars = 0, bars_in_position = 0, trades = 0, wins = 0;

  bool empty() const { return bars == 0; }

  void add_bar(double mark_before, double mark, bool in_position) {
    if (empty()) {
      before = mark_before;
      peak = trough = mark;
      fall = 0.0;
    } else {
      if (mark > peak) peak = mark;
      if (mark < trough) trough = mark;
      if (peak - mark > fall) fall = peak - mark;
    }
    last = mark;
    ++bars;
    bars_in_position += in_position;
  }

  void add_trade(double gain_bps, double paid_bps, std::int64_t held) {
    pnl_bps += gain_bps;
    if (gain_bps > 0.0) gains_bps += gain_bps;
    if (gain_bps < 0.0) losses_bps -= gain_bps;
    cost_bps += paid_bps;
    bars_held += held;
    ++trades;
    wins += gain_bps > 0.0;
  }

  /// Maximum drawdown of the marks, starting with the mark before the first bar.
  double drawdown() const {
    if (empty()) return 0.0;
    return before - trough > fall ? before - trough : fall;
  }
};

inline HourSum joined(const HourSum& a, const HourSum& b) {
  if (a.empty()) return b;
  if (b.empty()) return a;
  HourSum sum;
  sum.before = a.before;
  sum.last = b.last;
  sum.peak = a.peak > b.peak ? a.peak : b.peak;
  sum.trough = a.trough < b.trough ? a.trough : b.trough;
  const double across = a.peak - b.trough;
  sum.fall = a.fall > b.fall ? a.fall : b.fall;
  if (across > sum.fall) sum.fall = across;
  sum.pnl_bps = a.pnl_bps + b.pnl_bps;
  sum.gains_bps = a.gains_bps + b.gains_bps;
  sum.losses_bps = a.losses_bps + b.losses_bps;
  sum.cost_bps = a.cost_bps + b.cost_bps;
  sum.bars_held = a.bars_held + b.bars_held;
  sum.bars = a.bars + b.bars;
  sum.bars_in_position = a.bars_in_position + b.bars_in_position;
  sum.trades = a.trades + b.trades;
  sum.wins = a.wins + b.wins;
  return sum;
}

/// The closed hours of the last 85 days.
class Hours {
 public:
  static constexpr std::int64_t kSlots = 2048;
  static constexpr std::int64_t kNone = INT64_MIN;

  bool allocate() {
    nodes_.reset(new (std::nothrow) HourSum[2 * kSlots]);
    return static_cast<bool>(nodes_);
  }
  std::int64_t newest() const { return newest_; }

  /// Add a closed hour, later than those before.
  void close(std::int64_t hour, const HourSum& sum) {
    if (newest_ != kNone) {
      const std::int64_t empty = hour - newest_ - 1;
      for (std::int64_t i = 1; i <= (empty < kSlots ? empty : kSlots); ++i) put(newest_ + i, {});
    }
    newest_ = hour;
    put(hour, sum);
  }

  const HourSum& at(std::int64_t hour) const { return nodes_[kSlots + slot(hour)]; }

  /// Join the hours [from, to); `to` is at most one past the newest.
  HourSum over(std::int64_t from, std::int64_t to) const {
    if (newest_ == kNone) return {};
    if (from < newest_ + 1 - kSlots) from = newest_ + 1 - kSlots;
    if (to > newest_ + 1) to = newest_ + 1;
    if (from >= to) return {};
    const std::int64_t first = slot(from), last = slot(to - 1);
    if (first <= last) return range(first, last + 1);
    return joined(range(first, kSlots), range(0, last + 1));
  }

 private:
  static std::int64_t slot(std::int64_t hour) { return hour & (kSlots - 1); }

  void put(std::int64_t hour, const HourSum& sum) {
    std::int64_t node = kSlots + slot(hour);
    if (sum.empty() && nodes_[node].empty()) return;
    nodes_[node] = sum;
    for (node >>= 1; node >= 1; node >>= 1) {
      nodes_[node] = joined(nodes_[2 * node], nodes_[2 * node + 1]);
    }
  }

  HourSum range(std::int64_t from, std::int64_t to) const {
    HourSum left, right;
    for (from += kSlots, to += kSlots; from < to; from >>= 1, to >>= 1) {
      if (from & 1) left = joined(left, nodes_[from++]);
      if (to & 1) right = joined(nodes_[--to], right);
    }
    return joined(left, right);
  }

  std::unique_ptr<HourSum[]> nodes_;
  std::int64_t newest_ = kNone;
};

}  // namespace manifold
