// Python bindings of a gate: a handle, the addresses of its structures, outcome bits.
#pragma once

#include <cstdint>
#include <memory>
#include <new>

#include "backtest/gate.hpp"
#include "backtest/gate_rows.hpp"
#include "metrics/record.hpp"
#include "metrics/status.hpp"

namespace manifold {
namespace bindings {

/// Columns of candles and the metrics of their bars, as addresses; all of length n.
struct BarColumns {
  const std::int64_t* bar_ms;
  const double* prices[12];  // mid, bid, ask: open, high, low, close each
  const Record* metrics;
  const std::int32_t* flags;  // Bar::kQuoted; for `run` the session flags too
  const std::int64_t* next_change_ms;  // used by `run` only
  std::int64_t granularity_ms;

  Bar at(std::int64_t i) const {
    const Record& m = metrics[i];
    const std::int64_t opened = bar_ms[i];
    return {opened, opened + granularity_ms,
            {prices[0][i], prices[1][i], prices[2][i], prices[3][i]},
            {prices[4][i], prices[5][i], prices[6][i], prices[7][i]},
            {prices[8][i], prices[9][i], prices[10][i], prices[11][i]},
            {m.coherence, m.stability, m.entropy, m.rupture, m.lambda_hazard, m.lambda,
             m.sigma_eff, m.count_1h},
            {next_change_ms[i], flags[i]}};
  }
};

/// A gate, and the buffers of its inputs and results.
class GateHandle {
 public:
  static constexpr std::int32_t kTraded = 1;
  static constexpr std::int32_t kEvaluated = 2;
  static constexpr std::int32_t kDecided = 4;

  Bar bar{};
  Trade trade{};
  Evaluation evaluation{};
  Decision decision{};
  GateRules rules{};
  BarColumns columns{};
  std::uint8_t row[kMaxGateRow] = {};

  bool allocate() { return gate_.allocate(); }

  /// Use `rules` from the next bar on.
  std::int32_t adopt() {
    if (!rules.valid()) return static_cast<std::int32_t>(Status::bad_parameters);
    gate_.adopt(rules);
    return static_cast<std::int32_t>(Status::ok);
  }

  /// Process `bar`; returns which of trade, evaluation and decision it produced.
  std::int32_t step(bool late) {
    const Outcome outcome = gate_.step(bar, late, trade, evaluation, decision);
    note();
    return (outcome.traded ? kTraded : 0) | (outcome.evaluated ? kEvaluated : 0) |
           (outcome.decided ? kDecided : 0);
  }

  /// Decide for a bar without a candle; the session is that of `bar`.
  bool decide_without_candle(std::int64_t bar_ms, std::int64_t as_of_ms) {
    return gate_.decide_without_candle(bar_ms, as_of_ms, bar.session, decision);
  }

  /// Process `n` bars of `columns`; results are appended to the arrays, each of length n.
  void run(std::int64_t n, std::uintptr_t trades, std::uintptr_t evaluations,
           std::uintptr_t decisions) {
    begin(trades, evaluations, decisions);
    for (std::int64_t i = 0; i < n; ++i) take(columns.at(i), false);
  }

  /// Process `n` events: `indices[i]` is a bar of `columns`, or -1 where the bar that ends at
  /// `as_of_ms[i]` has no candle. Session flags are per event. Each array has length n.
  void run_events(std::int64_t n, std::uintptr_t indices, std::uintptr_t as_of_ms,
                  std::uintptr_t late, std::uintptr_t flags, std::uintptr_t next_change_ms,
                  std::uintptr_t trades, std::uintptr_t evaluations, std::uintptr_t decisions) {
    begin(trades, evaluations, decisions);
    const auto* index = reinterpret_cast<const std::int64_t*>(indices);
    const auto* at_ms = reinterpret_cast<const std::int64_t*>(as_of_ms);
    const auto* is_late = reinterpret_cast<const std::uint8_t*>(late);
    const auto* flag = reinterpret_cast<const std::int32_t*>(flags);
    const auto* change_ms = reinterpret_cast<const std::int64_t*>(next_change_ms);
    for (std::int64_t i = 0; i < n; ++i) {
      const Session session{change_ms[i], flag[i]};
      if (index[i] >= 0) {
        Bar found = columns.at(index[i]);
        found.session = {change_ms[i], flag[i] | (found.session.flags & Bar::kQuoted)};
        take(found, is_late[i] != 0);
      } else {
        decided += gate_.decide_without_candle(at_ms[i] - columns.granularity_ms, at_ms[i],
                                               session, decisions_[decided]);
      }
    }
  }

  std::int64_t traded = 0, evaluated = 0, decided = 0;  // rows written by the last run

  std::int64_t decided_ms() const { return gate_.decided_ms(); }
  void set_decided_ms(std::int64_t as_of_ms) { gate_.set_decided_ms(as_of_ms); }
  std::int64_t last_bar_ms() const { return gate_.last_bar_ms(); }

  std::int64_t run_number() const { return run_; }
  void set_run_number(std::int64_t number) { run_ = number; }
  /// Days whose rows have changed since the last call, by index in the ring.
  std::uint64_t take_changed_days() {
    const std::uint64_t changed = changed_days_;
    changed_days_ = 0;
    return changed;
  }
  std::int64_t newest_day() const { return GateRows::newest_day(gate_); }
  std::int64_t samples() const { return GateRows::samples(gate_); }
  std::int64_t kept_samples() const { return GateRows::kept_samples(gate_); }

  std::int32_t write_head() { return GateRows::write_head(gate_, run_, row); }
  std::int32_t write_day(std::int64_t day) { return GateRows::write_day(gate_, run_, day, row); }
  std::int32_t write_samples(std::int64_t number) {
    return GateRows::write_samples(gate_, run_, number, row);
  }

  std::int32_t read_head(std::uintptr_t bytes, std::int64_t length) {
    reader_.reset(new (std::nothrow) GateReader);
    if (!reader_) return static_cast<std::int32_t>(Status::no_memory);
    return static_cast<std::int32_t>(reader_->head(gate_, at(bytes), length));
  }
  std::int32_t read_day(std::uintptr_t bytes, std::int64_t length) {
    return static_cast<std::int32_t>(reader_->day(at(bytes), length));
  }
  std::int32_t read_samples(std::uintptr_t bytes, std::int64_t length) {
    return static_cast<std::int32_t>(reader_->samples(at(bytes), length));
  }
  std::int32_t finish() {
    const Status status = reader_->finish(gate_);
    run_ = reader_->run();
    newest_hour_ = GateRows::newest_hour(gate_);
    reader_.reset();
    return static_cast<std::int32_t>(status);
  }

 private:
  static const std::uint8_t* at(std::uintptr_t bytes) {
    return reinterpret_cast<const std::uint8_t*>(bytes);
  }

  void begin(std::uintptr_t trades, std::uintptr_t evaluations, std::uintptr_t decisions) {
    traded = evaluated = decided = 0;
    trades_ = reinterpret_cast<Trade*>(trades);
    evaluations_ = reinterpret_cast<Evaluation*>(evaluations);
    decisions_ = reinterpret_cast<Decision*>(decisions);
  }

  void take(const Bar& found, bool late) {
    const Outcome outcome = gate_.step(found, late, trades_[traded], evaluations_[evaluated],
                                       decisions_[decided]);
    traded += outcome.traded;
    evaluated += outcome.evaluated;
    decided += outcome.decided;
    note();
  }

  void note() {
    const std::int64_t newest = GateRows::newest_hour(gate_);
    if (newest == newest_hour_) return;
    newest_hour_ = newest;
    changed_days_ |= std::uint64_t{1} << (day_of(newest) & (kDayRows - 1));
  }

  Gate gate_;
  Trade* trades_ = nullptr;
  Evaluation* evaluations_ = nullptr;
  Decision* decisions_ = nullptr;
  std::int64_t run_ = 0;
  std::int64_t newest_hour_ = Hours::kNone;
  std::uint64_t changed_days_ = 0;
  std::unique_ptr<GateReader> reader_;
};

inline GateHandle* make_gate() {
  std::unique_ptr<GateHandle> made(new (std::nothrow) GateHandle);
  return made && made->allocate() ? made.release() : nullptr;
}
inline void drop_gate(GateHandle* gate) { delete gate; }

inline std::uintptr_t bar_address(GateHandle* g) { return reinterpret_cast<std::uintptr_t>(&g->bar); }
inline std::uintptr_t trade_address(GateHandle* g) {
  return reinterpret_cast<std::uintptr_t>(&g->trade);
}
inline std::uintptr_t evaluation_address(GateHandle* g) {
  return reinterpret_cast<std::uintptr_t>(&g->evaluation);
}
inline std::uintptr_t decision_address(GateHandle* g) {
  return reinterpret_cast<std::uintptr_t>(&g->decision);
}
inline std::uintptr_t rules_address(GateHandle* g) {
  return reinterpret_cast<std::uintptr_t>(&g->rules);
}
inline std::uintptr_t columns_address(GateHandle* g) {
  return reinterpret_cast<std::uintptr_t>(&g->columns);
}
inline std::uintptr_t gate_row_address(GateHandle* g) {
  return reinterpret_cast<std::uintptr_t>(g->row);
}

}  // namespace bindings
}  // namespace manifold
