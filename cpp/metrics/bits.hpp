// One bit per candle: it rises, and its range or its volume is at least that of the candle before.
#pragma once

#include <cstdint>

#include "metrics/status.hpp"

namespace manifold {

/// The values of a candle that the next one is compared with.
struct Footprint {
  double close;
  double range;  // high - low
  std::int64_t volume;
};

inline Footprint footprint_of(const Candle& candle) {
  return {candle.close, candle.high - candle.low, candle.volume};
}

/// All ones if the step between two candles sets the bit, else 0. Equality counts as rising.
inline std::int64_t bit_mask(const Footprint& before, const Footprint& now) {
  const bool up = now.close >= before.close;
  const bool wider = now.range >= before.range;
  const bool busier = now.volume >= before.volume;
  return -static_cast<std::int64_t>(up & (wider | busier));
}

}  // namespace manifold
