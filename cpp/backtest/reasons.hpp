// Reasons why an instrument is not eligible, as bits: bit i is the i-th member of the closed list
// (Reason of streams/records/reasons.py, in its order).
#pragma once

#include <cstdint>

#include "backtest/bar.hpp"

namespace manifold {

enum class Reason : std::uint32_t {
  warming = 1u << 0,
  signal_stale = 1u << 1,
  coherence_below_min = 1u << 2,
  stability_below_min = 1u << 3,
  entropy_above_max = 1u << 4,
  rupture_above_max = 1u << 5,
  hazard_above_max = 1u << 6,
  repetitions_short = 1u << 7,
  session_closed = 1u << 8,
  session_near_close = 1u << 9,
  market_closed = 1u << 10,
  span_integrity = 1u << 11,
  trades_below_floor = 1u << 12,
  calmar_below_floor = 1u << 13,
  pnl_below_floor = 1u << 14,
  hysteresis_wait = 1u << 15,
  cooldown = 1u << 16,
};

inline std::uint32_t bit_of(Reason reason) { return static_cast<std::uint32_t>(reason); }
inline std::uint32_t when(bool applies, Reason reason) { return applies ? bit_of(reason) : 0u; }

/// Limits of the static guards, inclusive; a limit that is not set is infinite.
struct Guards {
  double min_coherence, min_stability, max_entropy, max_rupture, max_hazard;
  std::int64_t min_repetitions;
};

/// Static guards that the metrics do not pass.
inline std::uint32_t failing_guards(const GateMetrics& m, const Guards& guards) {
  return when(m.coherence < guards.min_coherence, Reason::coherence_below_min) |
         when(m.stability < guards.min_stability, Reason::stability_below_min) |
         when(m.entropy > guards.max_entropy, Reason::entropy_above_max) |
         when(m.rupture > guards.max_rupture, Reason::rupture_above_max) |
         when(m.lambda_hazard > guards.max_hazard, Reason::hazard_above_max) |
         when(m.count_1h < guards.min_repetitions, Reason::repetitions_short);
}

/// Reasons of sessions and the market week.
inline std::uint32_t failing_sessions(const Session& session) {
  return when(!session.open(), Reason::session_closed) |
         when(session.near_close(), Reason::session_near_close) |
         when(!session.market_open(), Reason::market_closed);
}

}  // namespace manifold
