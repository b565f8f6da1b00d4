// What a call of the core came to. The core throws nothing; its caller turns these into errors.
#pragma once

#include <cstdint>
#include <initializer_list>

namespace manifold {

/// Bumped whenever any bit of any result changes.
constexpr char kEngineVersion[] = "qfh-2.0.0";

enum class Status : std::int32_t {
  ok = 0,
  warming = 1,            // accepted, but fewer than 129 candles so far
  not_finite = 2,         // a price is NaN or infinite
  not_positive = 3,       // a price is zero or negative
  out_of_range = 4,       // a price is outside [1e-12, 1e12]
  high_below_low = 5,
  negative_volume = 6,
  not_ascending = 7,      // bar_ms is not above the one before
  bad_parameters = 8,
  no_memory = 9,
  truncated = 10,         // state bytes: a length that does not fit
  other_version = 11,     // state bytes: another layout
  other_engine = 12,      // state bytes: another engine version
  inconsistent = 13,      // state bytes: rows that do not belong together
  contracted = 14,        // this compiler fuses a * b + c
};

/// Prices outside these bounds are no FX prices, and keep the sums of squared returns in 128 bits.
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

/// Whether a candle may enter a stream; its order in time is checked by the stream.
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
