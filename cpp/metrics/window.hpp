// Metrics of a window of bits: ratios, entropy, trajectory similarity, coherence.
//
// A window of n bits b[0..n-1] has n-1 adjacent pairs: 0,0 is null, 0,1 and 1,0 a flip, 1,1 a
// rupture. The three ratios and the entropy depend on the counts alone and come from tables; the
// trajectory is a weighted prefix sum over the bits, computed for several windows at once.
#pragma once

#include <cstdint>

#include "metrics/arith.hpp"
#include "metrics/lanes.hpp"

namespace manifold {

constexpr int kMaxWindowBits = 1024;
constexpr int kLocalBits = 20;        // the decay of a trajectory follows its first 20 bits
constexpr int kPlainCoherenceBits = 10;  // windows up to here have no trajectory term
constexpr double kEntropyFloor = 0.05;
constexpr double kEntropyScale = 1.585;  // log2 3, as rounded by the original
constexpr double kCollapseThreshold = 0.5;
constexpr double kEntropyWeight = 0.30;
constexpr double kCoherenceWeight = 0.20;
constexpr double kFade = 0.1;

struct PairCounts {
  std::int32_t flips;
  std::int32_t ruptures;
};

/// Values for windows of `bits` bits that do not depend on the bits themselves.
struct WindowTables {
  std::int32_t bits = 0;
  double surprise[kMaxWindowBits + 1];  // -(k/m) log2(k/m) for k of m pairs
  double decay[kLocalBits * kLocalBits];  // exp(-lambda_d) by flips * 20 + ruptures of the start
  double sine[kMaxWindowBits];          // sin(2 pi i / n)
  double fade[kMaxWindowBits];          // exp(-0.1 i)
  double inverse_pairs = 0.0;
  double inverse_steps = 0.0;
  double sum_index = 0.0, sum_index_squared = 0.0;
  double sum_sine = 0.0, sum_sine_squared = 0.0;
  double sum_fade_squared = 0.0;
};

/// -(k/m) log2(k/m); 0 for k = 0.
inline double surprise_of(std::int32_t k, std::int32_t m) {
  if (k <= 0) return 0.0;
  const double p = static_cast<double>(k) / static_cast<double>(m);
  return -(p * (log_of<double>(p) * 1.4426950408889634));
}

/// H of the three surprises: their sum over log2 3, within [0.05, 1].
template <class V>
MANIFOLD_INLINE V entropy_of(V null, V flip, V rupture) {
  return clamped(((null + flip) + rupture) / all<V>(kEntropyScale), kEntropyFloor, 1.0);
}

/// exp(-lambda_d) for the counts of a window's first bits (`pairs` of them; none: h = c = 0.5).
inline double decay_of(PairCounts counts, std::int32_t pairs) {
  double entropy = 0.5;
  double coherence = 0.5;
  if (pairs > 0) {
    entropy = entropy_of(surprise_of(pairs - counts.flips - counts.ruptures, pairs),
                         surprise_of(counts.flips, pairs), surprise_of(counts.ruptures, pairs));
    coherence = 1.0 - entropy;
  }
  const double rate =
      clamped(kEntropyWeight * entropy + kCoherenceWeight * (1.0 - coherence), 0.01, 1.0);
  return exp_of<double>(-rate);
}

/// Fill `tables` for windows of `bits` bits, 1 <= bits <= kMaxWindowBits.
inline void make_tables(WindowTables& tables, std::int32_t bits) {
  tables.bits = bits;
  const std::int32_t pairs = bits - 1;
  for (std::int32_t k = 0; k <= pairs; ++k) tables.surprise[k] = surprise_of(k, pairs);
  const std::int32_t local = (bits < kLocalBits ? bits : kLocalBits) - 1;
  for (std::int32_t flips = 0; flips <= local; ++flips) {
    for (std::int32_t ruptures = 0; ruptures <= local - flips; ++ruptures) {
      tables.decay[flips * kLocalBits + ruptures] = decay_of({flips, ruptures}, local);
    }
  }
  tables.inverse_pairs = pairs > 0 ? 1.0 / pairs : 0.0;
  tables.inverse_steps = tables.inverse_pairs;
  tables.sum_index = tables.sum_index_squared = 0.0;
  tables.sum_sine = tables.sum_sine_squared = tables.sum_fade_squared = 0.0;
  for (std::int32_t i = 0; i < bits; ++i) {
    const double x = i;
    tables.sine[i] = sin_turn(i, bits);
    tables.fade[i] = exp_of<double>(-kFade * x);
    tables.sum_index += x;
    tables.sum_index_squared += x * x;
    tables.sum_sine += tables.sine[i];
    tables.sum_sine_squared += tables.sine[i] * tables.sine[i];
    tables.sum_fade_squared += tables.fade[i] * tables.fade[i];
  }
}

/// Similarity of a window's damped path to three shapes, and the extent of the path.
template <class V>
struct Trajectory {
  V similarity;  // tau
  V reach;       // |V|
};

/// cos^2 times |P|^2 of the path with a shape: 0 for a zero shape or a negative cosine.
template <class V>
MANIFOLD_INLINE V squared_share(V dot, V norm) {
  const V zero = all<V>(0.0);
  const MaskOf<V> counts = less(zero, dot) & less(zero, norm);
  return keep<V>(counts, dot * dot / choose(counts, norm, all<V>(1.0)));
}

/// Sums along the path; S is the path without its sign and its first point.
template <class V>
struct PathSums {
  V last, total, staircase, squared, sine, fade;
};

template <class V>
MANIFOLD_INLINE PathSums<V> path_sums(const WindowTables& tables, const std::int64_t* bits,
                                      V decay) {
  using M = MaskOf<V>;
  const M first = load<M>(bits);
  V weight = all<V>(1.0);
  PathSums<V> sums{all<V>(0.0), all<V>(0.0), all<V>(0.0),
                   all<V>(0.0), all<V>(0.0), all<V>(0.0)};
  for (std::int32_t j = 1; j < tables.bits; ++j) {
    weight = weight * decay;
    const M differs = load<M>(bits + j) ^ first;
    sums.last = sums.last + keep<V>(differs, weight);
    sums.squared = sums.squared + sums.last * sums.last;
    sums.total = sums.total + sums.last;
    sums.staircase = sums.staircase + sums.total;
    sums.sine = sums.sine + sums.last * tables.sine[j];
    sums.fade = sums.fade + sums.last * tables.fade[j];
  }
  return sums;
}

/// Trajectory of the window whose bits (0 or -1 each) start at `bits`; lane l starts l later.
/// The path is P[0] = b[0], P[j] = sum_{i<=j} (b[i]-b[0]) decay^i.
template <class V>
MANIFOLD_INLINE Trajectory<V> trajectory_of(const WindowTables& t, const std::int64_t* bits,
                                            V decay) {
  const MaskOf<V> set = load<MaskOf<V>>(bits);
  const PathSums<V> sums = path_sums<V>(t, bits, decay);
  const double n = t.bits;
  const V first = keep<V>(set, all<V>(1.0));
  const V sign = choose(set, all<V>(-1.0), all<V>(1.0));
  const V last = sign * sums.last;
  const V total = first + sign * sums.total;
  const V by_index = sign * (n * sums.total - sums.staircase);
  const V by_sine = sign * sums.sine;
  const V squared = first + sums.squared;
  const V slope = (last - first) * t.inverse_steps;
  const V mean = 0.5 * (first + last);
  const V swing = 0.5 * (last - first);
  const V fading = squared_share<V>(first * (first + sign * sums.fade), first * t.sum_fade_squared);
  const V straight = squared_share<V>(
      first * total + slope * by_index,
      n * first + 2.0 * first * slope * t.sum_index + slope * slope * t.sum_index_squared);
  const V wave = squared_share<V>(
      mean * total + swing * by_sine,
      n * mean * mean + 2.0 * mean * swing * t.sum_sine + swing * swing * t.sum_sine_squared);
  const V best = larger(fading, larger(straight, wave));
  const MaskOf<V> moves = less(all<V>(0.0), squared);
  const V cosine = root(best / choose(moves, squared, all<V>(1.0)));
  return {clamped(cosine, 0.0, 1.0), sums.last};
}

/// Coherence without the trajectory term, within [0.01, 0.99].
template <class V>
MANIFOLD_INLINE V plain_coherence(V entropy, V rupture, V flip) {
  return clamped(0.6 * (1.0 - entropy) + 0.3 * (1.0 - rupture) + 0.1 * (1.0 - flip), 0.01, 0.99);
}

template <class V>
MANIFOLD_INLINE V coherence_of(V plain, const Trajectory<V>& path) {
  const V blended = 0.3 * path.similarity + 0.7 * plain;
  const V damped = blended / (1.0 + 0.1 * path.reach);
  return clamped(choose(less(path.reach, all<V>(2.0)), damped, blended), 0.0, 1.0);
}

/// Metrics of one window.
struct WindowMetrics {
  double coherence, stability, entropy, rupture, flip_ratio, lambda_hazard;
  std::int32_t nulls, flips, ruptures, ones;
  bool collapsed;
};

/// Metrics of the `tables.bits` bits (0 or -1 each) at `bits`.
inline WindowMetrics window_metrics(const WindowTables& tables, const std::int64_t* bits) {
  const std::int32_t n = tables.bits;
  WindowMetrics m{};
  PairCounts local{0, 0};
  for (std::int32_t j = 0; j < n; ++j) {
    m.ones += static_cast<std::int32_t>(bits[j] & 1);
    if (j == 0) continue;
    m.flips += static_cast<std::int32_t>((bits[j] ^ bits[j - 1]) & 1);
    m.ruptures += static_cast<std::int32_t>(bits[j] & bits[j - 1] & 1);
    if (j == kLocalBits - 1 || (n < kLocalBits && j == n - 1)) local = {m.flips, m.ruptures};
  }
  m.nulls = n - 1 - m.flips - m.ruptures;
  m.rupture = n > 1 ? static_cast<double>(m.ruptures) / (n - 1) : 0.0;
  m.flip_ratio = n > 1 ? static_cast<double>(m.flips) / (n - 1) : 0.0;
  m.lambda_hazard = m.rupture;
  m.stability = 1.0 - m.rupture;
  m.collapsed = m.rupture >= kCollapseThreshold;
  m.entropy = entropy_of<double>(tables.surprise[m.nulls], tables.surprise[m.flips],
                                 tables.surprise[m.ruptures]);
  m.coherence = plain_coherence<double>(m.entropy, m.rupture, m.flip_ratio);
  if (n > kPlainCoherenceBits) {
    const double decay = tables.decay[local.flips * kLocalBits + local.ruptures];
    m.coherence = coherence_of<double>(m.coherence, trajectory_of<double>(tables, bits, decay));
  }
  return m;
}

}  // namespace manifold
