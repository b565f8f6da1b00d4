// The batch form: the windows and the manifold of a list of candles, by the rules of the original
// system, whose grid is counted from the first candle.
#pragma once

#include <cstdint>
#include <memory>
#include <new>

#include "metrics/bits.hpp"
#include "metrics/returns.hpp"
#include "metrics/signature.hpp"
#include "metrics/stream.hpp"
#include "metrics/window.hpp"

namespace manifold {

constexpr std::int64_t kReachBits = 512;

/// Windows of a batch of `bits` bits: length, first end, distance, number (0: none).
struct Grid {
  std::int64_t window, first, step, windows;
};

inline Grid grid_of(std::int64_t bits) {
  std::int64_t window = bits < kWindowBits ? bits : kWindowBits;
  if (window >= bits) {
    if (bits > 24) {
      window = bits - (bits / 4 < 8 ? bits / 4 : 8);
    } else if (bits > 12) {
      window = 12;
    } else if (bits > 8) {
      window = 9;
    } else {
      window = bits;
    }
  }
  const std::int64_t step = window / 32 > 1 ? window / 32 : 1;
  const std::int64_t first = bits - window > kReachBits ? bits - kReachBits : window;
  if (window < 8 || bits < 2) return {window, first, step, 0};
  return {window, first, step, (bits - first) / step + 1};
}

/// One window of a batch; the layout is SIGNALS_DTYPE of streams/core.
struct BatchSignal {
  std::int64_t window_start_ms, window_end_ms;
  double price, window_end_price;
  double coherence, stability, entropy, rupture, flip_ratio, lambda_hazard;
  std::int64_t first_seen_ms;
  std::int32_t count_1h, ones;
  Signature signature;
  std::int32_t collapsed;
};
static_assert(sizeof(BatchSignal) == 112, "SIGNALS_DTYPE is 112 bytes");

/// sigma_eff: sample standard deviation of all log returns, 0 with fewer than 3 candles.
inline double spread_of(const double* close, std::int64_t n) {
  if (n < 3) return 0.0;
  ReturnSums returns;
  for (std::int64_t i = 1; i < n; ++i) {
    returns.add(quantised_return(log_of<double>(close[i] / close[i - 1])));
  }
  return root(returns.variance(n - 1));
}

/// lambda: 1 - exp(-60 sum R / sum dt), sums over all signals but the first, dt in seconds.
inline double hazard_of(const BatchSignal* signals, std::int64_t n) {
  if (n < 2) return 0.0;
  double ruptures = 0.0;
  double seconds = 0.0;
  for (std::int64_t i = 1; i < n; ++i) {
    ruptures += signals[i].rupture;
    seconds += larger(
        static_cast<double>(signals[i].window_start_ms - signals[i - 1].window_start_ms) / 1000.0,
        1e-6);
  }
  return clamped(1.0 - exp_of<double>(-(60.0 * ruptures / seconds)), 0.0, 1.0);
}

inline void count_repetitions(BatchSignal* signals, std::int64_t i, std::int64_t lookback_ms) {
  BatchSignal& now = signals[i];
  now.count_1h = 1;
  now.first_seen_ms = now.window_start_ms;
  for (std::int64_t j = i - 1; j >= 0; --j) {
    if (now.window_start_ms - signals[j].window_start_ms > lookback_ms) break;
    if (key_of(signals[j].signature) != key_of(now.signature)) continue;
    ++now.count_1h;
    now.first_seen_ms = signals[j].window_start_ms;
  }
}

/// Compute the `grid_of(n - 1).windows` signals, sigma_eff and lambda of `n` candles.
inline Status build_manifold(const Columns& candles, std::int64_t n, std::int32_t precision,
                             std::int32_t lookback_minutes, BatchSignal* signals,
                             double& sigma_eff, double& lambda, std::int64_t& bad) {
  bad = 0;
  if (!Parameters{kMinCandles, lookback_minutes, precision}.valid()) return Status::bad_parameters;
  const Status status = check_columns(candles, n, INT64_MIN, bad);
  if (status != Status::ok) return status;
  const Grid grid = grid_of(n - 1);
  const std::int64_t wanted = n > 0 ? n : 1;
  std::unique_ptr<std::int64_t[]> bits(
      new (std::nothrow) std::int64_t[static_cast<std::size_t>(wanted)]);
  std::unique_ptr<WindowTables> tables(new (std::nothrow) WindowTables);
  if (!bits || !tables) return Status::no_memory;
  for (std::int64_t k = 1; k < n; ++k) {
    bits[k - 1] = bit_mask(footprint_of(candles.at(k - 1)), footprint_of(candles.at(k)));
  }
  if (grid.windows > 0) make_tables(*tables, static_cast<std::int32_t>(grid.window));
  const double scale = bucket_scale(precision);
  for (std::int64_t i = 0; i < grid.windows; ++i) {
    const std::int64_t end = grid.first + i * grid.step;
    const std::int64_t begin = end - grid.window;
    const WindowMetrics m = window_metrics(*tables, bits.get() + begin);
    signals[i] = {candles.bar_ms[begin + 1], candles.bar_ms[end], candles.close[begin + 1],
                  candles.close[end], m.coherence, m.stability, m.entropy, m.rupture,
                  m.flip_ratio, m.lambda_hazard, 0, 0, m.ones,
                  {bucket_of(m.coherence, scale), bucket_of(m.stability, scale),
                   bucket_of(m.entropy, scale)},
                  m.collapsed ? 1 : 0};
    count_repetitions(signals, i, std::int64_t{60000} * lookback_minutes);
  }
  sigma_eff = spread_of(candles.close, n);
  lambda = hazard_of(signals, grid.windows);
  return Status::ok;
}

}  // namespace manifold
