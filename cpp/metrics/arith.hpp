// exp, log and the sine of a fraction of a turn, made of + - * / and integer operations alone.
//
// glibc chooses between implementations of these functions by CPU, and their last bits differ.
// Results of this core are compared byte by byte between machines, so it brings its own. Error
// bounds (against mpmath, in tests/unit/core/test_engine_arith.py): exp and log 2 ulp, sin_turn
// 2^-51.
//
// Every function has one definition for a double and for a vector: the same operations in the same
// order, hence the same bits in every SIMD lane.
#pragma once

#include <cstdint>

#include "metrics/lanes.hpp"

namespace manifold {

/// exp(x) for x in [-708, 709]; smaller arguments give 0.
/// x = k ln 2 + r with |r| <= 0.347, Taylor series of e^r to r^13, scaled by 2^k.
template <class V>
MANIFOLD_INLINE V exp_of(V x) {
  using M = MaskOf<V>;
  const M vanishes = less(x, all<V>(-708.0));
  x = choose(vanishes, all<V>(-708.0), x);
  // Adding and subtracting 1.5 * 2^52 rounds to an integer, which is then in the low bits.
  const V shifter = all<V>(6755399441055744.0);
  const V shifted = x * all<V>(1.4426950408889634) + shifter;
  const V k = shifted - shifter;
  const V r = (x - k * all<V>(0.693147180369123816490)) - k * all<V>(1.90821492927058770002e-10);
  V p = all<V>(1.0 / 6227020800.0);
  constexpr double kInverseFactorials[] = {
      1.0 / 479001600.0, 1.0 / 39916800.0, 1.0 / 3628800.0, 1.0 / 362880.0, 1.0 / 40320.0,
      1.0 / 5040.0,      1.0 / 720.0,      1.0 / 120.0,     1.0 / 24.0,     1.0 / 6.0,
      0.5};
  for (double c : kInverseFactorials) p = p * r + all<V>(c);
  const V e = all<V>(1.0) + (r + r * r * p);
  const M scale = (as_integers(shifted) << 52) + as_integers(e);
  return choose(vanishes, all<V>(0.0), as_doubles(scale));
}

/// log(x) for normal x > 0.
/// x = 2^k m with m in [sqrt(1/2), sqrt(2)), s = (m-1)/(m+1), log m = 2 atanh(s) as a series.
template <class V>
MANIFOLD_INLINE V log_of(V x) {
  using M = MaskOf<V>;
  const M bits = as_integers(x);
  // 0x3fe6a09e667f3bcd is sqrt(1/2): what exceeds it by whole exponents is k.
  const M above = bits - all_integers<V>(0x3fe6a09e667f3bcdLL);
  const M exponent = above >> 52;
  const V m = as_doubles(bits - (exponent << 52));
  // |k| < 1100, so k + 1.5 * 2^52 is exact and k is its low bits.
  const V k = as_doubles(exponent + all_integers<V>(0x4338000000000000LL)) -
              all<V>(6755399441055744.0);
  const V f = m - all<V>(1.0);
  const V s = f / (m + all<V>(1.0));
  const V z = s * s;
  V p = all<V>(2.0 / 23.0);
  constexpr double kOdd[] = {2.0 / 21.0, 2.0 / 19.0, 2.0 / 17.0, 2.0 / 15.0, 2.0 / 13.0,
                             2.0 / 11.0, 2.0 / 9.0,  2.0 / 7.0,  2.0 / 5.0,  2.0 / 3.0};
  for (double c : kOdd) p = p * z + all<V>(c);
  // 2s = f - s f, so the leading term keeps the bits of f when m is close to 1.
  const V log_m = f - s * (f - z * p);
  return k * all<V>(0.693147180369123816490) +
         (log_m + k * all<V>(1.90821492927058770002e-10));
}

/// sin(2 pi i / n) for 0 <= i < n: the octant is found in integers, the rest is a Taylor series.
inline double sin_turn(std::int64_t i, std::int64_t n) {
  const std::int64_t quadrant = 4 * i / n;
  const std::int64_t rest = 4 * i - quadrant * n;  // angle past the quadrant = (pi/2) rest/n
  const bool beyond_half = 2 * rest > n;
  const double a = 1.5707963267948966 *
                   (static_cast<double>(beyond_half ? n - rest : rest) / static_cast<double>(n));
  const double z = a * a;
  const bool cosine = ((quadrant & 1) != 0) != beyond_half;
  double value = 0.0;
  if (cosine) {
    double p = 0.0;
    for (int j = 16; j >= 2; j -= 2) p = (1.0 - p) * z / static_cast<double>(j * (j - 1));
    value = 1.0 - p;
  } else {
    double p = 0.0;
    for (int j = 17; j >= 3; j -= 2) p = (1.0 - p) * z / static_cast<double>(j * (j - 1));
    value = a * (1.0 - p);
  }
  return quadrant >= 2 ? -value : value;
}

}  // namespace manifold
