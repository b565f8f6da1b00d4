// The figures of trailing slices of a run, and the history from which floors are computed.
#pragma once

#include <cstdint>

#include "backtest/hours.hpp"
#include "metrics/lanes.hpp"

namespace manifold {

constexpr std::int32_t kMaxSlices = 4;
constexpr std::int32_t kMaxSliceDays = 60;
constexpr double kNull = __builtin_nan("");
constexpr double kNoDrawdown = 1e-12;
constexpr double kNoDeviation = 1e-15;
constexpr double kTradingDays = 252.0;
constexpr double kDaysOfYear = 365.25;

inline bool is_null(double x) { return x != x; }

/// Figures of one slice, NaN for null; the layout is SLICE_DTYPE of streams/core/layout.py.
struct SliceFigures {
  std::int64_t days, trades;
  double win_rate, pnl_bps, pnl_total, max_drawdown, calmar, calmar_ann, sharpe, sortino;
  double profit_factor, exposure, avg_hold_bars, cost_bps;
};

/// Changes of the marked equity over the last 64 UTC days with bars.
class Days {
 public:
  static constexpr std::int64_t kKept = 64;

  void close(std::int64_t day, double change) {
    days_[count_ & (kKept - 1)] = {day, change};
    ++count_;
  }

  struct Ratios {
    double sharpe = kNull, sortino = kNull;
  };

  /// Ratios of the days from `first` on; `today` is the change of a day that ends now, or null.
  Ratios ratios(std::int64_t first, double today) const {
    double changes[kKept + 1];
    std::int64_t n = 0;
    for (std::int64_t i = count_ > kKept ? count_ - kKept : 0; i < count_; ++i) {
      const Day& day = days_[i & (kKept - 1)];
      if (day.number >= first) changes[n++] = day.change;
    }
    if (!is_null(today)) changes[n++] = today;
    Ratios found;
    if (n < 2) return found;
    double sum = 0.0;
    for (std::int64_t i = 0; i < n; ++i) sum += changes[i];
    const double mean = sum / static_cast<double>(n);
    double squares = 0.0, downside = 0.0;
    for (std::int64_t i = 0; i < n; ++i) {
      squares += (changes[i] - mean) * (changes[i] - mean);
      if (changes[i] < 0.0) downside += changes[i] * changes[i];
    }
    const double deviation = root(squares / static_cast<double>(n - 1));
    const double below = root(downside / static_cast<double>(n));
    if (deviation >= kNoDeviation) found.sharpe = mean / deviation * root(kTradingDays);
    if (below >= kNoDeviation) found.sortino = mean / below * root(kTradingDays);
    return found;
  }

 private:
  struct Day {
    std::int64_t number;
    double change;
  };
  Day days_[kKept] = {};
  std::int64_t count_ = 0;
};

/// Number of the hour or day of a bar; the end of a bar belongs to it.
inline std::int64_t hour_of(std::int64_t as_of_ms) { return (as_of_ms - 1) / kHourMs; }
inline std::int64_t day_of(std::int64_t hour) {
  return hour >= 0 ? hour / kHoursOfDay : -((kHoursOfDay - 1 - hour) / kHoursOfDay);
}

/// The hours of a run, the current one included.
class Ledger {
 public:
  bool allocate() { return hours_.allocate(); }

  /// Add a bar's mark; returns the hour that it closed, or Hours::kNone.
  std::int64_t add_bar(std::int64_t as_of_ms, double mark_before, double mark, bool in_position) {
    const std::int64_t hour = hour_of(as_of_ms);
    std::int64_t closed = Hours::kNone;
    if (hour != hour_) {
      if (!current_.empty()) closed = close_hour(hour);
      hour_ = hour;
    }
    if (day_ != day_of(hour)) {
      day_ = day_of(hour);
      day_before_ = mark_before;
    }
    current_.add_bar(mark_before, mark, in_position);
    return closed;
  }

  void add_trade(double gain_bps, double paid_bps, std::int64_t held) {
    current_.add_trade(gain_bps, paid_bps, held);
  }

  /// Figures of the slice of `days` days that ends at `as_of_ms`, the end of the last bar added;
  /// `index` is the number of the slice, for what is cached per slice.
  SliceFigures slice(std::int64_t as_of_ms, std::int64_t days, std::int32_t index) {
    const std::int64_t end = as_of_ms / kHourMs;
    Past& past = past_[index];
    if (past.hour != hour_ || past.end != end || past.days != days) {
      const std::int64_t from = end - days * kHoursOfDay;
      const double today = as_of_ms % kDayMs == 0 ? current_.last - day_before_ : kNull;
      past = {hour_, end, days, hours_.over(from, hour_), days_.ratios(-day_of(-from), today)};
    }
    return figures(joined(past.sum, current_), days, past.ratios);
  }

 private:
  friend struct GateRows;
  friend class GateReader;

  std::int64_t close_hour(std::int64_t next) {
    hours_.close(hour_, current_);
    if (day_of(next) != day_) days_.close(day_, current_.last - day_before_);
    current_ = {};
    return hour_;
  }

  static SliceFigures figures(const HourSum& s, std::int64_t days, const Days::Ratios& ratios) {
    SliceFigures f{};
    const double trades = s.trades;
    f.days = days;
    f.trades = s.trades;
    f.win_rate = s.trades ? s.wins / trades : kNull;
    f.pnl_bps = s.pnl_bps;
    f.pnl_total = s.pnl_bps / 1e4;
    const double fall = s.drawdown();
    f.max_drawdown = fall < kNoDrawdown ? 0.0 : fall;
    const bool fell = f.max_drawdown > 0.0;
    f.calmar = fell ? f.pnl_total / f.max_drawdown : kNull;
    f.calmar_ann =
        fell ? f.pnl_total * kDaysOfYear / static_cast<double>(days) / f.max_drawdown : kNull;
    f.sharpe = ratios.sharpe;
    f.sortino = ratios.sortino;
    f.profit_factor = s.losses_bps > 0.0 ? s.gains_bps / s.losses_bps : kNull;
    f.exposure = s.bars ? static_cast<double>(s.bars_in_position) / s.bars : 0.0;
    f.avg_hold_bars = s.trades ? static_cast<double>(s.bars_held) / trades : kNull;
    f.cost_bps = s.trades ? s.cost_bps / trades : 0.0;
    return f;
  }

  /// Part of a slice that does not change within an hour.
  struct Past {
    std::int64_t hour = Hours::kNone, end = 0, days = 0;
    HourSum sum;
    Days::Ratios ratios;
  };

  Hours hours_;
  Days days_;
  Past past_[kMaxSlices];
  HourSum current_;
  std::int64_t hour_ = 0, day_ = Hours::kNone;
  double day_before_ = 0.0;  // the mark before the day's first bar
};

}  // namespace manifold
