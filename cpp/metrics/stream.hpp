// The stream form: one candle in, the metrics of the window and manifold that end there out.
//
// The record of a bar equals that of the batch for the last `candle_count` candles, with the grid
// of windows counted back from the newest bit. Each window is computed once; only integer sums
// run along the stream, so that no result depends on the length of the stream or on how the input
// is split into calls.
#pragma once

#include <cstdint>
#include <cstring>

#include "metrics/bits.hpp"
#include "metrics/columns.hpp"
#include "metrics/record.hpp"
#include "metrics/returns.hpp"
#include "metrics/status.hpp"
#include "metrics/tape.hpp"
#include "metrics/window.hpp"

namespace manifold {

constexpr std::int32_t kWindowBits = 128;
constexpr std::int32_t kPairs = kWindowBits - 1;
constexpr std::int32_t kStep = 4;         // bits between the windows of a grid
constexpr std::int32_t kGridSteps = 128;  // 512 bits back at most
constexpr std::int32_t kMinCandles = kWindowBits + 1;
constexpr std::int32_t kMaxCandles = 20000;
constexpr std::int32_t kMaxLookbackMinutes = 1440;

struct Parameters {
  std::int32_t candle_count = 0;
  std::int32_t lookback_minutes = 0;
  std::int32_t precision = 0;

  bool valid() const {
    return candle_count >= kMinCandles && candle_count <= kMaxCandles && lookback_minutes >= 1 &&
           lookback_minutes <= kMaxLookbackMinutes && precision >= 0 && precision <= kMaxPrecision;
  }
  /// Rows of chunks that hold the last `candle_count` candles, wherever the newest chunk ends.
  std::int64_t chunks() const {
    return (candle_count + kChunkCandles - 1) / kChunkCandles + 1;
  }
};

/// Windows before the newest one in the grid over `count` candles.
inline std::int32_t grid_steps(std::int32_t count) {
  const std::int32_t steps = (count - kMinCandles) / kStep;
  return steps < kGridSteps ? steps : kGridSteps;
}

inline const WindowTables& stream_tables() {
  static const WindowTables* const tables = [] {
    static WindowTables made;
    make_tables(made, kWindowBits);
    return &made;
  }();
  return *tables;
}

class Stream {
 public:
  Status open(const Parameters& parameters);

  /// Process one candle. `ok`: `record` is filled; `warming`: it is not; else nothing has changed.
  Status step(const Candle& candle, Record& record);

  /// Process `n` candles; one record for each with a full window. Nothing changes unless all are
  /// valid; `written` is then the number of records, else the index of the invalid candle.
  Status run(const Columns& candles, std::int64_t n, Record* records, std::int64_t& written);

  /// Change the parameters; the candles in memory are kept.
  Status reconfigure(const Parameters& parameters);

  /// Rebuild everything from bar_ms, close and bit of the tape's candles.
  void recompute();

  const Parameters& parameters() const { return parameters_; }
  std::int64_t last_bar_ms() const { return last_bar_ms_; }
  std::int64_t seen() const { return tape_.next_seq(); }
  /// Sequence number of the oldest candle of the newest manifold.
  std::int64_t oldest_seq() const {
    const std::int64_t oldest = seen() - parameters_.candle_count;
    return oldest > first_seq_ ? oldest : first_seq_;
  }

 private:
  friend struct Rows;

  template <class V>
  MANIFOLD_WIDE void windows(std::int64_t position, Record* records);
  template <class V>
  MANIFOLD_INLINE void repetitions(std::int64_t position, Record* records) const;
  template <class V>
  MANIFOLD_INLINE void manifolds(std::int64_t position, std::int32_t steps, Record* records) const;
  MANIFOLD_WIDE void append(const Columns& candles, std::int64_t from, std::int64_t n);
  MANIFOLD_WIDE void quantise(std::int64_t position, std::int64_t n);
  void make_room();
  void slide(std::int64_t position, Record& record);
  std::int64_t emit(std::int64_t position, std::int64_t end, Record* records);
  /// Number of candles from which on the grid has its full length.
  std::int32_t full_grid_candles() const {
    constexpr std::int32_t enough = kMinCandles + kStep * kGridSteps;
    return parameters_.candle_count < enough ? parameters_.candle_count : enough;
  }
  std::int64_t first_window() const { return tape_.position_of(first_seq_) + kWindowBits; }

  Parameters parameters_;
  Tape tape_;
  ReturnSums returns_;
  Footprint last_{0.0, 0.0, 0};
  std::int64_t last_bar_ms_ = INT64_MIN;
  std::int64_t first_seq_ = 0;  // start of the stream; later after candle_count was raised
  double scale_ = 1.0;
};

inline Status Stream::open(const Parameters& parameters) {
  if (!parameters.valid()) return Status::bad_parameters;
  parameters_ = parameters;
  scale_ = bucket_scale(parameters.precision);
  const std::int64_t kept = parameters.chunks() * kChunkCandles;
  const std::int64_t slack = kept > 4 * kBlock ? kept : 4 * kBlock;
  return tape_.allocate(kFront + kept + slack + kLanes) ? Status::ok : Status::no_memory;
}

inline void Stream::make_room() {
  if (tape_.end + kBlock + kLanes <= tape_.capacity) return;
  const std::int64_t newest_chunk = (seen() - 1) / kChunkCandles;
  tape_.keep_from((newest_chunk - parameters_.chunks() + 1) * kChunkCandles);
}

/// Log returns of `n` candles from `position` on, in SIMD lanes; cells past the end are overwritten
/// before they are read.
inline void Stream::quantise(std::int64_t position, std::int64_t n) {
  if (n == 1) {
    const double ratio = tape_.close[position] / tape_.close[position - 1];
    tape_.log_return[position] = quantised_return(log_of<double>(ratio));
    return;
  }
  alignas(128) double logs[kLanes];
  for (std::int64_t i = 0; i < n; i += kLanes) {
    const Lanes now = load<Lanes>(tape_.close.at(position + i));
    const Lanes before = load<Lanes>(tape_.close.at(position + i - 1));
    store(logs, log_of<Lanes>(now / before));
    for (int lane = 0; lane < kLanes; ++lane) {
      tape_.log_return[position + i + lane] = quantised_return(logs[lane]);
    }
  }
}

inline void Stream::append(const Columns& candles, std::int64_t from, std::int64_t n) {
  const std::int64_t position = tape_.end;
  const bool begins = seen() == first_seq_;
  std::memcpy(tape_.bar_ms.at(position), candles.bar_ms + from, sizeof(std::int64_t) * n);
  std::memcpy(tape_.close.at(position), candles.close + from, sizeof(double) * n);
  std::int64_t* bits = tape_.bit.at(position);
  bits[0] = begins ? 0 : bit_mask(last_, footprint_of(candles.at(from)));
  for (std::int64_t i = 1; i < n; ++i) {
    bits[i] = bit_mask(footprint_of(candles.at(from + i - 1)), footprint_of(candles.at(from + i)));
  }
  last_ = footprint_of(candles.at(from + n - 1));
  for (std::int64_t i = 0; i < n; ++i) tape_.count(position + i);
  quantise(position, n);
  tape_.end += n;
  last_bar_ms_ = candles.bar_ms[from + n - 1];
}

/// Advance the sums to the candle at `position`, and fill the fields of its record that use them.
inline void Stream::slide(std::int64_t position, Record& record) {
  const std::int64_t kept = position - tape_.position_of(first_seq_) + 1;
  const std::int32_t limit = parameters_.candle_count;
  if (kept > 1) returns_.add(tape_.log_return[position]);
  if (kept > limit) returns_.remove(tape_.log_return[position - limit + 1]);
  record.count = kept < limit ? static_cast<std::int32_t>(kept) : limit;
  record.t0_ms = tape_.bar_ms[position - record.count + 1];
  record.t1_ms = tape_.bar_ms[position];
  record.sigma_eff = record.count < 3 ? 0.0 : root(returns_.variance(record.count - 1));
}

template <class V>
constexpr int width_of() {
  return static_cast<int>(sizeof(V) / sizeof(double));
}

/// Windows that end at `position` and, in SIMD lanes, at the positions after it.
template <class V>
void Stream::windows(std::int64_t position, Record* records) {
  constexpr int kWidth = width_of<V>();
  const WindowTables& tables = stream_tables();
  alignas(128) double decay[kWidth], entropy[kWidth], flip[kWidth], rupture[kWidth];
  std::int32_t ruptures[kWidth];
  for (int lane = 0; lane < kWidth; ++lane) {
    const std::int64_t p = position + lane;
    const std::uint32_t* flips_at = tape_.flips.at(p - kPairs);
    const std::uint32_t* ruptures_at = tape_.ruptures.at(p - kPairs);
    const std::int32_t f = static_cast<std::int32_t>(flips_at[kPairs] - flips_at[0]);
    const std::int32_t r = static_cast<std::int32_t>(ruptures_at[kPairs] - ruptures_at[0]);
    const std::uint32_t local_flips = flips_at[kLocalBits - 1] - flips_at[0];
    const std::uint32_t local_ruptures = ruptures_at[kLocalBits - 1] - ruptures_at[0];
    decay[lane] = tables.decay[local_flips * kLocalBits + local_ruptures];
    entropy[lane] =
        (tables.surprise[kPairs - f - r] + tables.surprise[f]) + tables.surprise[r];
    flip[lane] = f;
    rupture[lane] = r;
    ruptures[lane] = r;
  }
  const V pairs = all<V>(kPairs);
  const V phi = load<V>(flip) / pairs;
  const V rho = load<V>(rupture) / pairs;
  const V h = clamped(load<V>(entropy) / all<V>(kEntropyScale), kEntropyFloor, 1.0);
  const Trajectory<V> path =
      trajectory_of<V>(tables, tape_.bit.at(position - kPairs), load<V>(decay));
  alignas(128) double coherence[kWidth];
  store(coherence, coherence_of<V>(plain_coherence<V>(h, rho, phi), path));
  store(entropy, h);
  store(flip, phi);
  store(rupture, rho);
  for (int lane = 0; lane < kWidth; ++lane) {
    const std::int64_t p = position + lane;
    Record& record = records[lane];
    record.window_start_ms = tape_.bar_ms[p - kPairs];
    record.coherence = coherence[lane];
    record.stability = 1.0 - rupture[lane];
    record.entropy = entropy[lane];
    record.rupture = rupture[lane];
    record.flip_ratio = flip[lane];
    record.lambda_hazard = rupture[lane];
    record.collapsed = rupture[lane] >= kCollapseThreshold ? 1 : 0;
    record.unused = 0;
    record.ones =
        static_cast<std::int32_t>(tape_.ones[p] - tape_.ones[p - kWindowBits]);
    record.signature = {bucket_of(record.coherence, scale_), bucket_of(record.stability, scale_),
                        bucket_of(record.entropy, scale_)};
    tape_.key[p] = key_of(record.signature);
    tape_.grid[p] = tape_.grid[p - kStep] + static_cast<std::uint32_t>(ruptures[lane]);
  }
  repetitions<V>(position, records);
}

/// Count equal signatures at whole steps back, within the lookback (by window starts) and the grid.
template <class V>
void Stream::repetitions(std::int64_t position, Record* records) const {
  using M = MaskOf<V>;
  constexpr int kWidth = width_of<V>();
  const std::int64_t* keys = tape_.key.at(position);
  const std::int64_t* starts = tape_.bar_ms.at(position - kPairs);
  const M key = load<M>(keys);
  const M start = load<M>(starts);
  const std::int64_t lookback_ms = std::int64_t{60000} * parameters_.lookback_minutes;
  const M lookback = all_integers<V>(lookback_ms);
  M count = all_integers<V>(1);
  M first_seen = start;
  const std::int32_t steps = grid_steps(parameters_.candle_count);
  for (std::int32_t back = kStep; back <= steps * kStep; back += kStep) {
    // Starts ascend: once the oldest start of any lane is too old for the first lane, all are.
    if (starts[0] - starts[kWidth - 1 - back] > lookback_ms) break;
    const M start_then = load<M>(starts - back);
    const M hit = same(load<M>(keys - back), key) & at_most(start - start_then, lookback);
    count = count - hit;
    first_seen = choose(hit, start_then, first_seen);
  }
  alignas(128) std::int64_t counts[kWidth], seen[kWidth];
  store(counts, count);
  store(seen, first_seen);
  for (int lane = 0; lane < kWidth; ++lane) {
    records[lane].count_1h = static_cast<std::int32_t>(counts[lane]);
    records[lane].first_seen_ms = seen[lane];
  }
}

/// lambda = 1 - exp(-60 sum R / sum dt) over the grid that ends at each position.
template <class V>
void Stream::manifolds(std::int64_t position, std::int32_t steps, Record* records) const {
  constexpr int kWidth = width_of<V>();
  alignas(128) double exponent[kWidth];
  const std::int64_t span = std::int64_t{kStep} * steps;
  for (int lane = 0; lane < kWidth; ++lane) {
    const std::int64_t p = position + lane;
    const std::uint32_t ruptures = tape_.grid[p] - tape_.grid[p - span];
    const std::int64_t* start = tape_.bar_ms.at(p - kPairs);
    const double seconds = static_cast<double>(start[0] - start[-span]) / 1000.0;
    const double sum = static_cast<double>(static_cast<std::int32_t>(ruptures)) / kPairs;
    exponent[lane] = steps > 0 ? -(60.0 * sum / seconds) : 0.0;
  }
  const V hazard = clamped(1.0 - exp_of<V>(load<V>(exponent)), 0.0, 1.0);
  store(exponent, hazard);
  for (int lane = 0; lane < kWidth; ++lane) records[lane].lambda = exponent[lane];
}

/// Records of the candles in [position, end): in SIMD lanes once the grid has its full length.
inline std::int64_t Stream::emit(std::int64_t position, std::int64_t end, Record* records) {
  Record unseen{};
  std::int64_t written = 0;
  while (position < end) {
    if (position < first_window()) {
      slide(position++, unseen);
      continue;
    }
    const std::int64_t full = tape_.position_of(first_seq_) + full_grid_candles() - 1;
    const bool lanes = end - position >= kLanes && position >= full;
    const int width = lanes ? kLanes : 1;
    Record* out = records + written;
    if (lanes) {
      windows<Lanes>(position, out);
    } else {
      windows<double>(position, out);
    }
    for (int lane = 0; lane < width; ++lane) slide(position + lane, out[lane]);
    const std::int32_t steps = grid_steps(out[0].count);
    if (lanes) {
      manifolds<Lanes>(position, steps, out);
    } else {
      manifolds<double>(position, steps, out);
    }
    position += width;
    written += width;
  }
  return written;
}

inline Status Stream::step(const Candle& candle, Record& record) {
  const Status status = check_candle(candle);
  if (status != Status::ok) return status;
  if (candle.bar_ms <= last_bar_ms_) return Status::not_ascending;
  make_room();
  const std::int64_t position = tape_.end;
  append({&candle.bar_ms, &candle.high, &candle.low, &candle.close, &candle.volume}, 0, 1);
  return emit(position, tape_.end, &record) == 1 ? Status::ok : Status::warming;
}

inline Status Stream::run(const Columns& candles, std::int64_t n, Record* records,
                          std::int64_t& written) {
  const Status status = check_columns(candles, n, last_bar_ms_, written);
  if (status != Status::ok) return status;
  written = 0;
  for (std::int64_t from = 0; from < n; from += kBlock) {
    const std::int64_t block = n - from < kBlock ? n - from : kBlock;
    make_room();
    const std::int64_t position = tape_.end;
    append(candles, from, block);
    written += emit(position, tape_.end, records + written);
  }
  return Status::ok;
}

inline void Stream::recompute() {
  const std::int64_t oldest = tape_.position_of(oldest_seq());
  for (std::int64_t p = kFront; p < tape_.end; ++p) {
    tape_.count(p);
    tape_.log_return[p] =
        quantised_return(log_of<double>(tape_.close[p] / tape_.close[p - 1]));
    tape_.key[p] = -1;
    tape_.grid[p] = 0;
  }
  returns_.clear();
  for (std::int64_t p = oldest + 1; p < tape_.end; ++p) returns_.add(tape_.log_return[p]);
  Record unseen[kLanes];
  std::int64_t p = oldest + kWindowBits;
  for (; tape_.end - p >= kLanes; p += kLanes) windows<Lanes>(p, unseen);
  for (; p < tape_.end; ++p) windows<double>(p, unseen);
}

inline Status Stream::reconfigure(const Parameters& parameters) {
  Stream other;
  const Status status = other.open(parameters);
  if (status != Status::ok) return status;
  const std::int64_t first = oldest_seq();
  const std::int64_t fits = seen() - parameters.chunks() * kChunkCandles;
  std::int64_t from = first > fits ? first : fits;
  from -= from % kChunkCandles;  // rows hold whole chunks
  if (from < tape_.front_seq) from = tape_.front_seq;
  other.tape_.front_seq = from;
  for (std::int64_t p = tape_.position_of(from); p < tape_.end; ++p, ++other.tape_.end) {
    other.tape_.bar_ms[other.tape_.end] = tape_.bar_ms[p];
    other.tape_.close[other.tape_.end] = tape_.close[p];
    other.tape_.bit[other.tape_.end] = tape_.bit[p];
  }
  other.last_ = last_;
  other.last_bar_ms_ = last_bar_ms_;
  other.first_seq_ = first;
  other.recompute();
  *this = static_cast<Stream&&>(other);
  return Status::ok;
}

}  // namespace manifold
