// Status codes of the core. The core throws no exceptions; the caller turns codes into errors.
#pragma once

#include <cstdint>
#include <initializer_list>

namespace manifold {

/// Raised whenever any bit of any result changes.
constexpr char kEngineVersion[] = "qfh-2.0.0";

enum class Status : std::int32_t {
  ok = 0,
  warming = 1,            // accepted, but fewer than 129 candles so far
  not_finite = 2,         // a price is NaN or infinite
  not_positive = 3,       // a price is zero or negative
  out_of_range = 4,       // a price is outside [1e-12, 1e12]
  high_below_low = 5,
  negative_volume = 6,
  not_ascending = 7,      // bar_ms is not above that of the candle before
  bad_parameters = 8,
  no_memory = 9,
  truncated = 10,         // state bytes: wrong length
  other_version = 11,     // state bytes: another layout
  other_engine = 12,      // state bytes: another engine version
  inconsistent = 13,      // state bytes: inconsistent rows
  contracted = 14,        // this compiler fuses a * b + c
};

/// Bounds of prices; within them the sums of squared returns fit into 128 bits.
constexpr double kLowestPrice = 1e-12;
constexpr double kHighestPrice = 1e12;

struct Candle {
  std::int64_t bar_ms;
  double high;
  double low;
  double close;
  std::int64_t volume;
};

inline Status check_price(double price) {
  if (!(price - price == 0.0)) return Status::not_finite;
  if (price <= 0.0) return Status::not_positive;
  if (price < kLowestPrice || price > kHighestPrice) return Status::out_of_range;
  return Status::ok;
}

/// Whether a candle is valid; the stream itself checks the order in time.
inline Status check_candle(const Candle& candle) {
  for (double price : {candle.high, candle.low, candle.close}) {
    const Status status = check_price(price);
    if (status != Status::ok) return status;
  }
  if (candle.high < candle.low) return Status::high_below_low;
  if (candle.volume < 0) return Status::negative_volume;
  return Status::ok;
}

}  // namespace manifold
