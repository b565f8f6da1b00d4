// Unit tests of the backtest and the gate in C++. Prints what fails; exit code 1.
//
// With an argument it prints one hash over all trades, evaluations and decisions of a run instead,
// which does not depend on the compiler, its flags or the machine.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <utility>
#include <vector>

#include "bindings/gate.hpp"

using namespace manifold;

namespace {

int failures = 0;

void expect(bool good, const char* what) {
  if (good) return;
  ++failures;
  std::printf("FAILED: %s\n", what);
}

struct Chance {
  std::uint64_t state = 20260101;
  std::uint64_t next() {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state >> 11;
  }
  double unit() { return static_cast<double>(next() % 100000) / 100000.0; }
};

GateRules loose() {
  GateRules rules{};
  rules.trade.guards = {0.2, 0.0, 1.0, 1.0, 1.0, 1};
  rules.trade.threshold_bps = 0.5;
  rules.trade.target_pct = 0.05;
  rules.trade.stop_pct = 0.05;
  rules.trade.assumed_cost_bps = 1.5;
  rules.trade.max_hold_ms = 1800000;
  rules.trade.entry_cooldown_ms = rules.trade.exit_cooldown_ms = 60000;
  rules.trade.lookback = 3;
  rules.trade.atr_bars = 14;
  rules.trade.slope_exit = rules.trade.pct_levels = 1;
  rules.least = {3.0, -1.0, -0.01};
  rules.buffer = 0.1;
  rules.fresh_ms = 300000;
  rules.interval_ms = 900000;
  rules.cooldown_ms = 7200000;
  rules.slices[0] = 1;
  rules.slices[1] = 3;
  rules.slice_count = 2;
  rules.history = 100;
  return rules;
}

std::vector<Bar> market(int bars) {
  Chance chance;
  std::vector<Bar> made;
  std::int64_t at_ms = 1700000040000;
  std::int64_t price = 110000;
  for (int i = 0; i < bars; ++i) {
    at_ms += 60000 * static_cast<std::int64_t>(chance.next() % 29 == 0 ? 1 + chance.next() % 200 : 1);
    const auto points = [](std::int64_t value) { return static_cast<double>(value) / 100000.0; };
    const std::int64_t opened = price;
    price += static_cast<std::int64_t>(chance.next() % 41) - 20;
    const std::int64_t high = std::max(opened, price) + static_cast<std::int64_t>(chance.next() % 9);
    const std::int64_t low = std::min(opened, price) - static_cast<std::int64_t>(chance.next() % 9);
    const Prices mid{points(opened), points(high), points(low), points(price)};
    const double half = 0.00004;
    Bar bar{};
    bar.bar_ms = at_ms;
    bar.as_of_ms = at_ms + 60000;
    bar.mid = mid;
    bar.bid = {mid.open - half, mid.high - half, mid.low - half, mid.close - half};
    bar.ask = {mid.open + half, mid.high + half, mid.low + half, mid.close + half};
    bar.metrics = {chance.unit(), 0.9, 0.5, 0.1, 0.1, 0.1, 1e-4, 3};
    bar.session = {at_ms + 3600000, Session::kOpen | Session::kMarketOpen | Bar::kQuoted};
    made.push_back(bar);
  }
  return made;
}

void test_hours_join_like_the_bars_they_hold() {
  Chance chance;
  Hours hours;
  expect(hours.allocate(), "memory for hours");
  std::map<std::int64_t, HourSum> kept;
  std::int64_t hour = 470000;
  double mark = 0.0;
  for (int i = 0; i < 3000; ++i) {
    HourSum sum;
    for (int bar = 0; bar < 5; ++bar) {
      const double before = mark;
      mark += chance.unit() - 0.5;
      sum.add_bar(before, mark, chance.next() % 2 == 0);
      if (chance.next() % 3 == 0) sum.add_trade(chance.unit() - 0.4, 0.1, 2);
    }
    hours.close(hour, sum);
    kept[hour] = sum;
    if (i % 50 == 0) {
      const std::int64_t from = hour - static_cast<std::int64_t>(chance.next() % 1440);
      HourSum naive;
      for (auto at = kept.lower_bound(from); at != kept.end(); ++at) naive = joined(naive, at->second);
      const HourSum found = hours.over(from, hour + 1);
      expect(found.bars == naive.bars && found.trades == naive.trades, "counts of joined hours");
      expect(found.fall == naive.fall && found.before == naive.before, "fall over joined hours");
      expect(std::fabs(found.pnl_bps - naive.pnl_bps) < 1e-9, "P&L of joined hours");
    }
    hour += 1 + static_cast<std::int64_t>(chance.next() % 40 == 0 ? chance.next() % 3000 : 0);
  }
}

void test_a_cost_is_never_made_positive() {
  GateRules rules = loose();
  rules.trade.pct_levels = 0;
  for (const bool swapped : {false, true}) {
    Run run;
    int trades = 0;
    for (Bar bar : market(3000)) {
      if (swapped) std::swap(bar.bid, bar.ask);
      Trade trade;
      if (!run.step(bar, rules.trade, trade)) continue;
      ++trades;
      expect(swapped ? trade.cost_bps < 0.0 : trade.cost_bps > 0.0, "the sign of a trade's cost");
    }
    expect(trades > 20, "trades in the market of that test");
  }
}

void test_floors_are_percentiles_of_what_is_kept() {
  Chance chance;
  History history;
  std::vector<double> trades;
  for (int i = 0; i < 500; ++i) {
    const double count = static_cast<double>(chance.next() % 40);
    history.add({count, i % 4 == 0 ? kNull : chance.unit(), chance.unit()}, 50);
    trades.push_back(count);
    std::vector<double> sorted(trades.end() - std::min<std::ptrdiff_t>(50, i + 1), trades.end());
    std::sort(sorted.begin(), sorted.end());
    const std::size_t n = sorted.size();
    const double median = (sorted[(n - 1) / 2] + sorted[n / 2]) / 2.0;
    const double found = history.floors({0.0, 0.0, 0.0}).min_trades;
    expect(n < 20 ? found == 0.0 : std::fabs(found - median) < 1e-12, "the median of the trades");
  }
  expect(history.size() == 50 && history.total() == 500, "as many samples as are kept");
}

void test_rows_bring_a_gate_back_anywhere() {
  const std::vector<Bar> bars = market(4000);
  Gate gate;
  expect(gate.allocate(), "memory for a gate");
  gate.adopt(loose());
  std::int64_t run = 7;
  std::uint8_t bytes[kMaxGateRow];
  Gate again;
  Trade trade{}, other_trade{};
  Evaluation evaluation{}, other_evaluation{};
  Decision decision{}, other_decision{};
  int traded = 0;
  for (std::size_t i = 0; i < bars.size(); ++i) {
    if (i == 2500) {
      GateReader reader;
      expect(again.allocate(), "memory for another gate");
      const std::int32_t head = GateRows::write_head(gate, run, bytes);
      expect(reader.head(again, bytes, head) == Status::ok, "the head is read");
      for (std::int64_t day = GateRows::newest_day(gate) - kDayRows + 1;
           day <= GateRows::newest_day(gate); ++day) {
        const std::int32_t length = GateRows::write_day(gate, run, day, bytes);
        if (length) expect(reader.day(bytes, length) == Status::ok, "a day is read");
      }
      for (std::int64_t row = 0; row <= GateRows::samples(gate) / kSamplesOfRow; ++row) {
        const std::int32_t length = GateRows::write_samples(gate, run, row, bytes);
        if (length) expect(reader.samples(bytes, length) == Status::ok, "samples are read");
      }
      expect(reader.finish(again) == Status::ok, "the rows belong together");
      again.adopt(loose());
    }
    const Outcome outcome = gate.step(bars[i], false, trade, evaluation, decision);
    traded += outcome.traded;
    if (i < 2500) continue;
    const Outcome same = again.step(bars[i], false, other_trade, other_evaluation, other_decision);
    expect(outcome.traded == same.traded && outcome.evaluated == same.evaluated, "same outcome");
    expect(std::memcmp(&decision, &other_decision, sizeof decision) == 0, "same decision");
    if (outcome.traded) expect(std::memcmp(&trade, &other_trade, sizeof trade) == 0, "same trade");
  }
  expect(traded > 200, "there were trades");
}

std::uint64_t hash_of(std::uint64_t hash, const void* bytes, std::size_t length) {
  const auto* at = static_cast<const std::uint8_t*>(bytes);
  for (std::size_t i = 0; i < length; ++i) hash = (hash ^ at[i]) * 1099511628211ULL;
  return hash;
}

void print_hash() {
  Gate gate;
  if (!gate.allocate()) return;
  gate.adopt(loose());
  std::uint64_t hash = 14695981039346656037ULL;
  for (const Bar& bar : market(20000)) {
    Trade trade{};
    Evaluation evaluation{};
    Decision decision{};
    gate.step(bar, false, trade, evaluation, decision);
    hash = hash_of(hash, &trade, sizeof trade);
    hash = hash_of(hash, &evaluation, sizeof evaluation);
    hash = hash_of(hash, &decision, sizeof decision);
  }
  std::printf("%016llx\n", static_cast<unsigned long long>(hash));
}

}  // namespace

int main(int argc, char**) {
  if (argc > 1) {
    print_hash();
    return 0;
  }
  test_hours_join_like_the_bars_they_hold();
  test_a_cost_is_never_made_positive();
  test_floors_are_percentiles_of_what_is_kept();
  test_rows_bring_a_gate_back_anywhere();
  if (failures == 0) std::printf("all good\n");
  return failures == 0 ? 0 : 1;
}
