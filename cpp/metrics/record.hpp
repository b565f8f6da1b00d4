// Metrics of a bar's window and manifold.
#pragma once

#include <cstdint>

#include "metrics/signature.hpp"

namespace manifold {

/// One row of a run; the layout is METRICS_DTYPE of streams/core.
struct Record {
  std::int64_t window_start_ms;
  double coherence, stability, entropy, rupture, flip_ratio, lambda_hazard;
  double sigma_eff, lambda;
  std::int64_t first_seen_ms, t0_ms, t1_ms;
  std::int32_t count_1h, count, ones;
  Signature signature;
  std::int32_t collapsed;
  std::int32_t unused;
};
static_assert(sizeof(Record) == 128, "METRICS_DTYPE is 128 bytes");

}  // namespace manifold
