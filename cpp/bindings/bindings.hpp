// Python bindings of the core: handles, addresses as integers, status codes.
//
// Addresses are integers, so that empty arrays are accepted and nothing is converted; the caller
// (streams/core) is responsible for lengths and types.
#pragma once

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <new>

#include "bindings/allocation.hpp"
#include "bindings/bulk.hpp"
#include "bindings/gate.hpp"
#include "bindings/layout.hpp"
#include "metrics/manifold.hpp"
#include "metrics/rows.hpp"
#include "metrics/stream.hpp"

namespace manifold {
namespace bindings {

using Address = std::uintptr_t;

template <class T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

/// A stream and the buffers of its results.
class Handle {
 public:
  /// Wire form of the last record: '<q6d?{signature}siqi2di2q', packed.
  std::uint8_t wire[192] = {};
  std::uint8_t row[kMaxChunkBytes] = {};

  std::int32_t open(std::int32_t candle_count, std::int32_t lookback_minutes,
                    std::int32_t precision) {
    return code(stream_.open({candle_count, lookback_minutes, precision}));
  }
  std::int32_t reconfigure(std::int32_t candle_count, std::int32_t lookback_minutes,
                           std::int32_t precision) {
    return code(stream_.reconfigure({candle_count, lookback_minutes, precision}));
  }

  std::int32_t step(std::int64_t bar_ms, double high, double low, double close,
                    std::int64_t volume) {
    Record record;
    const Status status = stream_.step({bar_ms, high, low, close, volume}, record);
    if (status == Status::ok) write_wire(record);
    return code(status);
  }

  std::int32_t run(Address bar_ms, Address high, Address low, Address close, Address volume,
                   std::int64_t n, Address records) {
    return code(stream_.run(columns(bar_ms, high, low, close, volume), n, at<Record>(records),
                            counted_));
  }
  /// Number of records written by the last run, or index of its first invalid candle.
  std::int64_t counted() const { return counted_; }

  std::int64_t seen() const { return stream_.seen(); }
  std::int64_t last_bar_ms() const { return stream_.last_bar_ms(); }
  std::int64_t oldest_chunk() const { return Rows::oldest_chunk(stream_); }
  std::int64_t oldest_kept_chunk() const { return Rows::oldest_kept_chunk(stream_); }
  std::int64_t newest_chunk() const { return Rows::newest_chunk(stream_); }
  std::int64_t chunks() const { return stream_.parameters().chunks(); }
  std::int32_t candle_count() const { return stream_.parameters().candle_count; }
  std::int32_t lookback_minutes() const { return stream_.parameters().lookback_minutes; }
  std::int32_t precision() const { return stream_.parameters().precision; }

  std::int32_t write_head() { return Rows::write_head(stream_, row); }
  std::int32_t write_chunk(std::int64_t number) { return Rows::write_chunk(stream_, number, row); }

  /// Open from a head; `counted` is then the number of candles its stream has processed.
  std::int32_t read_head(Address bytes, std::int64_t length) {
    const Status status = Rows::read_head(stream_, at<std::uint8_t>(bytes), length);
    if (status == Status::ok) {
      std::memcpy(&counted_, at<std::uint8_t>(bytes) + kHeadBytes - 5 * 8, sizeof counted_);
    }
    return code(status);
  }
  std::int32_t read_chunk(Address bytes, std::int64_t length) {
    return code(Rows::read_chunk(stream_, at<std::uint8_t>(bytes), length, counted_));
  }
  std::int32_t finish() { return code(Rows::finish(stream_)); }

  static Columns columns(Address bar_ms, Address high, Address low, Address close,
                         Address volume) {
    return {at<std::int64_t>(bar_ms), at<double>(high), at<double>(low), at<double>(close),
            at<std::int64_t>(volume)};
  }

 private:
  static std::int32_t code(Status status) { return static_cast<std::int32_t>(status); }

  void write_wire(const Record& r) {
    Writer w{wire};
    w.put(r.window_start_ms);
    for (double x : {r.coherence, r.stability, r.entropy, r.rupture, r.flip_ratio,
                     r.lambda_hazard}) {
      w.put(x);
    }
    w.put(static_cast<std::uint8_t>(r.collapsed));
    char* text = reinterpret_cast<char*>(w.at);
    w.at += write_signature(text, r.signature, stream_.parameters().precision) - text;
    w.put(r.count_1h);
    w.put(r.first_seen_ms);
    w.put(r.ones);
    w.put(r.sigma_eff);
    w.put(r.lambda);
    w.put(r.count);
    w.put(r.t0_ms);
    w.put(r.t1_ms);
  }

  Stream stream_;
  std::int64_t counted_ = 0;
};

inline Handle* make_handle() { return new (std::nothrow) Handle; }
inline void drop_handle(Handle* handle) { delete handle; }
inline Address wire_address(Handle* handle) { return reinterpret_cast<Address>(handle->wire); }
inline Address row_address(Handle* handle) { return reinterpret_cast<Address>(handle->row); }

/// Result of analyze: six doubles, five integers, and whether it succeeded.
struct Analysis {
  WindowMetrics metrics;
  std::int32_t status;
};

/// Metrics of `n` bits (one byte each, 0 or 1), n <= kMaxWindowBits.
inline Analysis analyze(Address bytes, std::int64_t n) {
  Analysis result{};
  result.status = static_cast<std::int32_t>(Status::bad_parameters);
  if (n < 1 || n > kMaxWindowBits) return result;
  std::unique_ptr<std::int64_t[]> bits(new (std::nothrow) std::int64_t[kMaxWindowBits]);
  std::unique_ptr<WindowTables> tables(new (std::nothrow) WindowTables);
  if (!bits || !tables) {
    result.status = static_cast<std::int32_t>(Status::no_memory);
    return result;
  }
  for (std::int64_t i = 0; i < n; ++i) {
    if (at<std::uint8_t>(bytes)[i] > 1) return result;
    bits[i] = -static_cast<std::int64_t>(at<std::uint8_t>(bytes)[i]);
  }
  make_tables(*tables, static_cast<std::int32_t>(n));
  result.metrics = window_metrics(*tables, bits.get());
  result.status = static_cast<std::int32_t>(Status::ok);
  return result;
}

struct Batch {
  double sigma_eff, lambda_;
  std::int64_t bad;
  std::int32_t status;
};

inline std::int64_t batch_windows(std::int64_t candles) { return grid_of(candles - 1).windows; }
inline Grid batch_grid(std::int64_t bits) { return grid_of(bits); }

inline Batch batch(Address bar_ms, Address high, Address low, Address close, Address volume,
                   std::int64_t n, std::int32_t precision, std::int32_t lookback_minutes,
                   Address signals) {
  Batch result{};
  result.status = static_cast<std::int32_t>(
      build_manifold(Handle::columns(bar_ms, high, low, close, volume), n, precision,
                     lookback_minutes, at<BatchSignal>(signals), result.sigma_eff, result.lambda_,
                     result.bad));
  return result;
}

inline std::int32_t check(std::int64_t bar_ms, double high, double low, double close,
                          std::int64_t volume) {
  return static_cast<std::int32_t>(check_candle({bar_ms, high, low, close, volume}));
}

inline double exp_at(double x) { return exp_of<double>(x); }
inline double log_at(double x) { return log_of<double>(x); }
inline double sin_turn_at(std::int64_t i, std::int64_t n) { return sin_turn(i, n); }

/// Whether the compiler fuses a * b + c, which would change results between machines.
inline bool contracts() {
  volatile double a = 1.0 + 1.0 / 134217728.0;
  const double b = a;
  const double c = -(1.0 + 2.0 / 134217728.0);
  return b * b + c != 0.0;
}

inline const char* engine_version() { return kEngineVersion; }
inline const char* compiler() { return __VERSION__; }
inline std::int64_t language() { return __cplusplus; }
inline bool has_fma() {
#ifdef __FMA__
  return true;
#else
  return false;
#endif
}
inline std::int32_t vector_bits() {
#if defined(__AVX512F__)
  return 512;
#elif defined(__AVX__)
  return 256;
#else
  return 128;
#endif
}

}  // namespace bindings
}  // namespace manifold
