// Unit tests of the core in C++: no Python, no JIT. Prints what fails; exit code 1.
//
//   g++ -std=c++17 -O2 -ffp-contract=off -Icpp cpp/tests/core_test.cpp && ./a.out
//
// With an argument it prints one hash over all bytes of a run instead, which does not depend on
// the compiler, its flags, the machine or the number of SIMD lanes.
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "bindings/bindings.hpp"

using namespace manifold;

namespace {

int failures = 0;

void expect(bool good, const char* what) {
  if (good) return;
  ++failures;
  std::printf("FAILED: %s\n", what);
}

void expect_close(double found, double wanted, double within, const char* what) {
  expect(std::fabs(found - wanted) <= within, what);
}

WindowMetrics analyse(const std::string& bits) {
  std::vector<std::int64_t> masks;
  for (char bit : bits) masks.push_back(bit == '1' ? -1 : 0);
  static WindowTables tables;
  make_tables(tables, static_cast<std::int32_t>(bits.size()));
  return window_metrics(tables, masks.data());
}

std::string repeated(const std::string& part, int times) {
  std::string whole;
  for (int i = 0; i < times; ++i) whole += part;
  return whole;
}

struct Market {
  std::vector<std::int64_t> bar_ms, volume;
  std::vector<double> high, low, close;
  std::uint64_t state = 20260101;

  std::uint64_t next() {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state >> 11;
  }
  explicit Market(int candles) {
    std::int64_t bar = 1700000000000;
    std::int64_t price = 110000;
    for (int i = 0; i < candles; ++i) {
      bar += 60000 * static_cast<std::int64_t>(next() % 37 == 0 ? 1 + next() % 9 : 1);
      price += static_cast<std::int64_t>(next() % 21) - 10;
      bar_ms.push_back(bar);
      close.push_back(static_cast<double>(price) / 100000.0);
      high.push_back(static_cast<double>(price + static_cast<std::int64_t>(next() % 12)) / 1e5);
      low.push_back(static_cast<double>(price - static_cast<std::int64_t>(next() % 12)) / 1e5);
      volume.push_back(static_cast<std::int64_t>(next() % 40));
    }
  }
  Columns columns() const {
    return {bar_ms.data(), high.data(), low.data(), close.data(), volume.data()};
  }
  std::int64_t size() const { return static_cast<std::int64_t>(bar_ms.size()); }
};

std::uint64_t hash_of(const Record* records, std::int64_t n, std::uint64_t hash) {
  const unsigned char* bytes = reinterpret_cast<const unsigned char*>(records);
  for (std::int64_t i = 0; i < n * static_cast<std::int64_t>(sizeof(Record)); ++i) {
    hash = (hash ^ bytes[i]) * 1099511628211ull;
  }
  return hash;
}

std::uint64_t golden() {
  const Market market(20000);
  std::uint64_t hash = 14695981039346656037ull;
  for (const Parameters& p : {Parameters{1500, 60, 2}, Parameters{129, 1, 0},
                              Parameters{700, 1440, 1}, Parameters{5000, 240, 6}}) {
    Stream stream;
    stream.open(p);
    std::vector<Record> records(20000);
    std::int64_t written = 0;
    stream.run(market.columns(), market.size(), records.data(), written);
    hash = hash_of(records.data(), written, hash);
  }
  return hash;
}

void test_reference_vectors() {
  const WindowMetrics zeros = analyse(repeated("0", 32));
  expect_close(zeros.coherence, 0.679, 1e-12, "32 zeros: coherence");
  expect(zeros.stability == 1.0 && zeros.entropy == 0.05, "32 zeros: stability and entropy");
  const WindowMetrics turns = analyse(repeated("01", 16));
  expect_close(turns.coherence, 0.90786788, 1e-8, "32 alternating: coherence");
  const WindowMetrics ones = analyse(repeated("1", 32));
  expect_close(ones.coherence, 0.59683342, 1e-8, "32 ones: coherence");
  expect(ones.collapsed && ones.stability == 0.0, "32 ones collapse");
  expect_close(analyse("00110100").coherence, 0.378063, 1e-6, "00110100: coherence");
  expect_close(analyse("01101110").coherence, 0.441329, 1e-6, "01101110: coherence");
}

void test_step_equals_run() {
  const Market market(3000);
  const Columns columns = market.columns();
  Stream once, slowly;
  once.open({1500, 60, 2});
  slowly.open({1500, 60, 2});
  std::vector<Record> records(3000);
  std::int64_t written = 0;
  expect(once.run(columns, 3000, records.data(), written) == Status::ok, "run accepts");
  expect(written == 3000 - 128, "one record from the 129th candle on");
  std::int64_t at = 0;
  for (std::int64_t i = 0; i < 3000; ++i) {
    Record record{};
    const Status status = slowly.step(columns.at(i), record);
    if (i < 128) {
      expect(status == Status::warming, "warming before the 129th candle");
    } else if (status != Status::ok ||
               std::memcmp(&record, &records[static_cast<std::size_t>(at++)], sizeof record)) {
      expect(false, "step and run give the same bytes");
      return;
    }
  }
}

void test_refusals() {
  Stream stream;
  expect(stream.open({128, 60, 2}) == Status::bad_parameters, "too few candles are refused");
  expect(stream.open({1500, 60, 7}) == Status::bad_parameters, "precision 7 is refused");
  stream.open({1500, 60, 2});
  Record record{};
  expect(stream.step({0, NAN, 1.0, 1.0, 0}, record) == Status::not_finite, "NaN");
  expect(stream.step({0, 1.0, -1.0, 1.0, 0}, record) == Status::not_positive, "negative price");
  expect(stream.step({0, 1.0, 1.1, 1.0, 0}, record) == Status::high_below_low, "high below low");
  expect(stream.step({0, 1.1, 1.0, 1.0, -1}, record) == Status::negative_volume, "volume");
  expect(stream.step({5, 1.1, 1.0, 1.0, 1}, record) == Status::warming, "a good candle");
  expect(stream.step({5, 1.1, 1.0, 1.0, 1}, record) == Status::not_ascending, "the same bar");
  Market market(400);
  market.close[300] = INFINITY;
  std::vector<Record> records(400);
  std::int64_t bad = 0;
  Stream other;
  other.open({1500, 60, 2});
  expect(other.run(market.columns(), 400, records.data(), bad) == Status::not_finite && bad == 300,
         "run names the bad candle");
  expect(other.seen() == 0, "a refused run changes nothing");
}

void test_signature() {
  char text[kMaxSignatureChars];
  const Signature s{50, 100, 5};
  expect(std::string(text, write_signature(text, s, 2)) == "c0.50_s1.00_e0.05", "2 decimals");
  expect(std::string(text, write_signature(text, {1, 1, 0}, 0)) == "c1_s1_e0", "no decimals");
  expect(bucket_of(0.125, 100.0) == 13 && bucket_of(0.5, 1.0) == 1, "half away from zero");
  expect(bucket_of(0.49999999999999994, 1.0) == 0, "just below a half");
}

void test_grid() {
  const Grid table[] = {{8, 8, 1, 1},     {9, 9, 1, 1},       {9, 9, 1, 4},      {12, 12, 1, 2},
                        {12, 12, 1, 13},  {19, 19, 1, 7},     {32, 32, 1, 9},    {120, 120, 3, 3},
                        {128, 128, 4, 1}, {128, 128, 4, 129}, {128, 129, 4, 129},
                        {128, 927, 4, 129}};
  const std::int64_t bits[] = {8, 9, 12, 13, 24, 25, 40, 128, 129, 640, 641, 1439};
  for (int i = 0; i < 12; ++i) {
    const Grid g = grid_of(bits[i]);
    expect(g.window == table[i].window && g.first == table[i].first && g.step == table[i].step &&
               g.windows == table[i].windows,
           "the table of windows");
  }
  expect(grid_of(7).windows == 0 && grid_of(0).windows == 0, "no windows in 7 bits");
}

}  // namespace

int main(int argc, char**) {
  if (argc > 1) {
    std::printf("%016llx\n", static_cast<unsigned long long>(golden()));
    return 0;
  }
  test_reference_vectors();
  test_step_equals_run();
  test_refusals();
  test_signature();
  test_grid();
  if (failures == 0) std::printf("all good\n");
  return failures == 0 ? 0 : 1;
}
