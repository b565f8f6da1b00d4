// The state of a gate as bytes: a head, rows of the closed hours of a UTC day, and rows of samples.
//
// Per bar only the head changes; a day's row changes when an hour of it closes, a row of samples
// once an hour. Days are in a ring of 64 rows, samples in a ring of 136. Every row contains the
// number of its run: after a change of parameters, rows of the former run are ignored.
//
//   head     "GT" u16 layout | char[16] engine | i64 run | gate | run | the last `lookback` closes
//            and coherences | current hour and day | samples: i64 total, i32 kept
//   day      i64 run, day | i32 hours | (i32 hour of the day, HourSum) each
//   samples  i64 run, number | i32 samples | Sample each
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "metrics/bytes.hpp"
#include "backtest/gate.hpp"

namespace manifold {

constexpr std::uint16_t kGateLayout = 1;
constexpr std::int64_t kDayRows = 64;
constexpr std::int64_t kSamplesOfRow = 16;
constexpr std::int64_t kSampleRows = kMaxHistory / kSamplesOfRow + 1;
constexpr std::int32_t kMaxGateRow = 4096;

struct GateRows {
  using Closed = std::pair<std::int64_t, HourSum>;

  static std::int64_t newest_day(const Gate& g) { return g.ledger_.day_; }
  static std::int64_t newest_hour(const Gate& g) { return g.ledger_.hours_.newest(); }
  static std::int64_t samples(const Gate& g) { return g.history_.total(); }
  static std::int64_t kept_samples(const Gate& g) { return g.history_.size(); }

  template <class Io>
  static void gate_fields(Gate& g, Io&& io) {
    io(g.decided_ms_), io(g.signal_bar_ms_), io(g.signal_as_of_ms_), io(g.metrics_);
    io(g.evaluated_ms_), io(g.evaluated_trades_), io(g.evaluated_calmar_), io(g.evaluated_pnl_);
    io(g.floors_), io(g.integrity_ok_), io(g.latch_), io(g.passes_), io(g.fails_), io(g.misses_);
    io(g.cooldown_until_ms_);
  }

  template <class Io>
  static void run_fields(Run& r, Io&& io) {
    io(r.bars_), io(r.position_), io(r.pending_entry_), io(r.direction_), io(r.pending_exit_);
    io(r.pending_range_), io(r.entry_bar_ms_), io(r.entry_index_), io(r.entry_price_);
    io(r.stop_), io(r.target_), io(r.entry_given_up_), io(r.mae_bps_), io(r.mfe_bps_);
    io(r.cost_assumed_), io(r.has_levels_), io(r.last_entry_ms_), io(r.last_exit_ms_);
    io(r.realised_bps_), io(r.equity_), io(r.range_), io(r.previous_close_);
  }

  template <class Io>
  static void hour_fields(HourSum& h, Io&& io) {
    io(h.before), io(h.last), io(h.peak), io(h.trough), io(h.fall), io(h.pnl_bps);
    io(h.gains_bps), io(h.losses_bps), io(h.cost_bps), io(h.bars_held), io(h.bars);
    io(h.bars_in_position), io(h.trades), io(h.wins);
  }

  /// Write the head; returns its length.
  static std::int32_t write_head(Gate& g, std::int64_t run, std::uint8_t* to) {
    Writer w{to};
    const auto put = [&](const auto& value) { w.put(value); };
    w.put('G');
    w.put('T');
    w.put(kGateLayout);
    w.put_engine();
    w.put(run);
    gate_fields(g, put);
    run_fields(g.run_, put);
    const std::int32_t kept = kept_bars(g.run_, g.rules_.trade.lookback);
    w.put(kept);
    for (std::int64_t i = g.run_.bars_ - kept; i < g.run_.bars_; ++i) {
      w.put(g.run_.closes_[i & (Run::kRing - 1)]);
      w.put(g.run_.coherences_[i & (Run::kRing - 1)]);
    }
    hour_fields(g.ledger_.current_, put);
    w.put(g.ledger_.hour_);
    w.put(g.ledger_.day_);
    w.put(g.ledger_.day_before_);
    w.put(newest_hour(g));
    w.put(samples(g));
    w.put(static_cast<std::int32_t>(kept_samples(g)));
    return static_cast<std::int32_t>(w.at - to);
  }

  /// Write the closed hours of a day; returns the length, 0 when there are none.
  static std::int32_t write_day(Gate& g, std::int64_t run, std::int64_t day, std::uint8_t* to) {
    Writer w{to};
    const auto put = [&](const auto& value) { w.put(value); };
    std::int32_t hours = 0;
    w.put(run);
    w.put(day);
    std::uint8_t* counted = w.at;
    w.put(hours);
    const std::int64_t newest = newest_hour(g);
    for (std::int32_t i = 0; i < kHoursOfDay; ++i) {
      const std::int64_t hour = day * kHoursOfDay + i;
      if (newest == Hours::kNone || hour > newest || hour <= newest - Hours::kSlots) continue;
      HourSum sum = g.ledger_.hours_.at(hour);
      if (sum.empty()) continue;
      w.put(i);
      hour_fields(sum, put);
      ++hours;
    }
    std::memcpy(counted, &hours, sizeof hours);
    return hours ? static_cast<std::int32_t>(w.at - to) : 0;
  }

  /// Write a row of samples; returns the length, 0 when no sample of it is kept.
  static std::int32_t write_samples(const Gate& g, std::int64_t run, std::int64_t row,
                                    std::uint8_t* to) {
    const History& history = g.history_;
    const std::int64_t oldest = history.total() - history.size();
    std::int64_t first = row * kSamplesOfRow, end = first + kSamplesOfRow;
    if (first < oldest) first = oldest;
    if (end > history.total()) end = history.total();
    if (first >= end) return 0;
    Writer w{to};
    w.put(run);
    w.put(first);
    w.put(static_cast<std::int32_t>(end - first));
    for (std::int64_t i = first; i < end; ++i) w.put(history.at(i));
    return static_cast<std::int32_t>(w.at - to);
  }

 private:
  static std::int32_t kept_bars(const Run& r, std::int32_t lookback) {
    return static_cast<std::int32_t>(r.bars_ < lookback ? r.bars_ : lookback);
  }

  friend class GateReader;
};

/// Restores a gate from its rows, which may have any order after the head.
class GateReader {
 public:
  Status head(Gate& g, const std::uint8_t* bytes, std::int64_t length) {
    Reader r{bytes, bytes + length};
    const auto take = [&](auto& value) { r.take_into(value); };
    const Status origin = r.take_origin('G', 'T', kGateLayout);
    if (origin != Status::ok) return origin;
    run_ = r.take<std::int64_t>();
    GateRows::gate_fields(g, take);
    GateRows::run_fields(g.run_, take);
    const std::int32_t kept = r.take<std::int32_t>();
    if (r.good && (kept < 0 || kept > kMaxLookback || kept > g.run_.bars_)) {
      return Status::inconsistent;
    }
    for (std::int64_t i = g.run_.bars_ - kept; r.good && i < g.run_.bars_; ++i) {
      r.take_into(g.run_.closes_[i & (Run::kRing - 1)]);
      r.take_into(g.run_.coherences_[i & (Run::kRing - 1)]);
    }
    GateRows::hour_fields(g.ledger_.current_, take);
    r.take_into(g.ledger_.hour_);
    r.take_into(g.ledger_.day_);
    r.take_into(g.ledger_.day_before_);
    r.take_into(newest_hour_);
    r.take_into(total_);
    r.take_into(kept_);
    return r.good && r.at == r.end ? Status::ok : Status::truncated;
  }

  Status day(const std::uint8_t* bytes, std::int64_t length) {
    Reader r{bytes, bytes + length};
    const auto take = [&](auto& value) { r.take_into(value); };
    const std::int64_t run = r.take<std::int64_t>();
    const std::int64_t day = r.take<std::int64_t>();
    const std::int32_t hours = r.take<std::int32_t>();
    for (std::int32_t i = 0; r.good && i < hours; ++i) {
      const std::int64_t hour = day * kHoursOfDay + r.take<std::int32_t>();
      HourSum sum;
      GateRows::hour_fields(sum, take);
      if (run == run_ && hour <= newest_hour_) hours_.push_back({hour, sum});
    }
    return r.good && r.at == r.end ? Status::ok : Status::truncated;
  }

  Status samples(const std::uint8_t* bytes, std::int64_t length) {
    Reader r{bytes, bytes + length};
    const std::int64_t run = r.take<std::int64_t>();
    const std::int64_t first = r.take<std::int64_t>();
    const std::int32_t count = r.take<std::int32_t>();
    for (std::int32_t i = 0; r.good && i < count; ++i) {
      const Sample sample = r.take<Sample>();
      const std::int64_t number = first + i;
      if (run == run_ && number >= total_ - kept_ && number < total_) {
        samples_.push_back({number, sample});
      }
    }
    return r.good && r.at == r.end ? Status::ok : Status::truncated;
  }

  Status finish(Gate& g) {
    const auto earlier = [](const auto& a, const auto& b) { return a.first < b.first; };
    std::sort(hours_.begin(), hours_.end(), earlier);
    std::sort(samples_.begin(), samples_.end(), earlier);
    Ledger& ledger = g.ledger_;
    double before = 0.0;
    for (std::size_t i = 0; i < hours_.size(); ++i) {
      const auto& [hour, sum] = hours_[i];
      const std::int64_t day = day_of(hour);
      if (i == 0 || day_of(hours_[i - 1].first) != day) before = sum.before;
      ledger.hours_.close(hour, sum);
      const bool ends = i + 1 == hours_.size() || day_of(hours_[i + 1].first) != day;
      if (ends && day != ledger.day_) ledger.days_.close(day, sum.last - before);
    }
    if (ledger.hours_.newest() != newest_hour_) return Status::inconsistent;
    if (static_cast<std::int64_t>(samples_.size()) != kept_) return Status::inconsistent;
    for (const auto& [number, sample] : samples_) g.history_.add(sample, kMaxHistory);
    g.history_.total_ = total_;
    return Status::ok;
  }

  std::int64_t run() const { return run_; }

 private:
  std::int64_t run_ = 0, newest_hour_ = Hours::kNone, total_ = 0;
  std::int32_t kept_ = 0;
  std::vector<GateRows::Closed> hours_;
  std::vector<std::pair<std::int64_t, Sample>> samples_;
};

}  // namespace manifold
