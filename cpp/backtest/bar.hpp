// One bar as input of the backtest and the gate: prices, metrics, calendar state.
#pragma once

#include <cstdint>

namespace manifold {

struct Prices {
  double open, high, low, close;
};

/// Calendar state of an instrument at an instant.
struct Session {
  static constexpr std::int32_t kOpen = 1;
  static constexpr std::int32_t kNearClose = 2;
  static constexpr std::int32_t kMarketOpen = 4;
  std::int64_t next_change_ms;
  std::int32_t flags;

  bool open() const { return (flags & kOpen) != 0; }
  bool near_close() const { return (flags & kNearClose) != 0; }
  bool market_open() const { return (flags & kMarketOpen) != 0; }
};

/// The metrics that gates use.
struct GateMetrics {
  double coherence, stability, entropy, rupture, lambda_hazard, lambda, sigma_eff;
  std::int64_t count_1h;
};

/// One bar; the layout is BAR_STRUCT of streams/core/layout.py.
struct Bar {
  static constexpr std::int32_t kQuoted = 8;
  std::int64_t bar_ms, as_of_ms;
  Prices mid, bid, ask;
  GateMetrics metrics;
  Session session;  // its flags also contain kQuoted

  /// Whether bid and ask were quoted by the market.
  bool quoted() const { return (session.flags & kQuoted) != 0; }
};
static_assert(sizeof(Bar) == 192, "BAR_STRUCT is 192 bytes");

}  // namespace manifold
