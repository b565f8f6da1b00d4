// Candles as columns, and the check that all of them are valid.
#pragma once

#include <cstdint>

#include "metrics/lanes.hpp"
#include "metrics/status.hpp"

namespace manifold {

/// Candles as columns; `run` reads them in place.
struct Columns {
  const std::int64_t* bar_ms;
  const double* high;
  const double* low;
  const double* close;
  const std::int64_t* volume;

  Candle at(std::int64_t i) const { return {bar_ms[i], high[i], low[i], close[i], volume[i]}; }
};

/// Whether all candles are valid; a loop that vectorises and does not find the invalid one.
MANIFOLD_WIDE inline bool all_good(const Columns& candles, std::int64_t n,
                                   std::int64_t last_bar_ms) {
  if (n == 0) return true;
  std::int64_t good = candles.bar_ms[0] > last_bar_ms;
  for (std::int64_t i = 0; i < n; ++i) {
    const double lowest = candles.low[i] < candles.close[i] ? candles.low[i] : candles.close[i];
    const double highest = candles.high[i] < candles.close[i] ? candles.close[i] : candles.high[i];
    good &= static_cast<std::int64_t>(lowest >= kLowestPrice) &
            static_cast<std::int64_t>(highest <= kHighestPrice) &
            static_cast<std::int64_t>(candles.close[i] > 0.0) &
            static_cast<std::int64_t>(candles.high[i] >= candles.low[i]) &
            static_cast<std::int64_t>(candles.volume[i] >= 0);
  }
  for (std::int64_t i = 1; i < n; ++i) {
    good &= static_cast<std::int64_t>(candles.bar_ms[i] > candles.bar_ms[i - 1]);
  }
  return good != 0;
}

inline Status check_columns(const Columns& candles, std::int64_t n, std::int64_t last_bar_ms,
                            std::int64_t& bad) {
  if (all_good(candles, n, last_bar_ms)) return Status::ok;
  for (bad = 0; bad < n; ++bad) {
    const Status status = check_candle(candles.at(bad));
    if (status != Status::ok) return status;
    if (candles.bar_ms[bad] <= last_bar_ms) return Status::not_ascending;
    last_bar_ms = candles.bar_ms[bad];
  }
  return Status::ok;
}

}  // namespace manifold
