// Floors from the run's own history: percentiles of hourly samples, kept sorted.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "backtest/summary.hpp"

namespace manifold {

constexpr std::int64_t kLeastSamples = 20;
constexpr std::int32_t kMaxHistory = 2160;

/// Sample of an hour's first evaluation; NaN is a calmar of null.
struct Sample {
  double trades, calmar, pnl_total;
};

/// Values that a run must reach.
struct Floors {
  double min_trades, calmar_min, pnl_min;
};

/// Sorted values, for percentiles.
class Sorted {
 public:
  void add(double value) {
    values_.insert(std::lower_bound(values_.begin(), values_.end(), value), value);
  }
  void remove(double value) {
    values_.erase(std::lower_bound(values_.begin(), values_.end(), value));
  }
  void reserve(std::size_t n) { values_.reserve(n); }
  bool empty() const { return values_.empty(); }

  /// Percentile `q` in 0..1 by linear interpolation (type 7).
  double at(double q) const {
    const double place = q * static_cast<double>(values_.size() - 1);
    const auto below = static_cast<std::size_t>(place);
    if (below + 1 >= values_.size()) return values_.back();
    const double rest = place - static_cast<double>(below);
    return values_[below] + rest * (values_[below + 1] - values_[below]);
  }

 private:
  std::vector<double> values_;
};

class History {
 public:
  /// Add a sample; keep the newest `kept`.
  void add(const Sample& sample, std::int32_t kept) {
    samples_.push_back(sample);
    trades_.add(sample.trades);
    if (!is_null(sample.calmar)) calmars_.add(sample.calmar);
    pnls_.add(sample.pnl_total);
    ++total_;
    std::size_t gone = 0;
    while (samples_.size() - gone > static_cast<std::size_t>(kept)) drop(samples_[gone++]);
    samples_.erase(samples_.begin(), samples_.begin() + static_cast<std::ptrdiff_t>(gone));
  }

  std::int64_t size() const { return static_cast<std::int64_t>(samples_.size()); }
  /// Number of samples ever added, which is the number of the next one.
  std::int64_t total() const { return total_; }
  const Sample& at(std::int64_t number) const {
    return samples_[static_cast<std::size_t>(number - (total_ - size()))];
  }

  /// The floors of the settings, raised by the history when it is long enough.
  Floors floors(const Floors& least) const {
    Floors found = least;
    if (size() < kLeastSamples) return found;
    found.min_trades = larger_of(least.min_trades, trades_.at(0.5));
    found.pnl_min = larger_of(least.pnl_min, pnls_.at(0.4));
    if (!calmars_.empty()) {
      const double spread = calmars_.at(0.75) - calmars_.at(0.25);
      found.calmar_min = larger_of(least.calmar_min, calmars_.at(0.5) + 0.10 * spread);
    }
    return found;
  }

 private:
  friend struct GateRows;
  friend class GateReader;

  static double larger_of(double a, double b) { return a > b ? a : b; }

  void drop(const Sample& sample) {
    trades_.remove(sample.trades);
    if (!is_null(sample.calmar)) calmars_.remove(sample.calmar);
    pnls_.remove(sample.pnl_total);
  }

  std::vector<Sample> samples_;
  Sorted trades_, calmars_, pnls_;
  std::int64_t total_ = 0;
};

}  // namespace manifold
