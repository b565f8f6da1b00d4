// The variance of log returns from exact integer sums: no drift, no dependence on the order.
//
// A log return is rounded to a multiple of 2^-50 (an error of 4.4e-16). Sums of those integers and
// of their squares are exact, so a sliding sum and a new sum of the same window are equal.
#pragma once

#include <cstdint>

#include "metrics/arith.hpp"
#include "metrics/lanes.hpp"

namespace manifold {

constexpr double kReturnScale = 1125899906842624.0;  // 2^50

/// log(close/before) as an integer multiple of 2^-50.
inline std::int64_t quantised_return(double log_return) {
  const double scaled = log_return * kReturnScale;
  return static_cast<std::int64_t>(scaled + (scaled < 0.0 ? -0.5 : 0.5));
}

class ReturnSums {
 public:
  void clear() { sum_ = 0, squares_ = 0; }

  void add(std::int64_t q) {
    sum_ += q;
    squares_ += square(q);
  }
  void remove(std::int64_t q) {
    sum_ -= q;
    squares_ -= square(q);
  }

  /// Sample variance (n - 1) of n >= 2 returns.
  double variance(std::int64_t n) const {
    // sum (q - a)^2 = Q - n a^2 - 2 a b for S = n a + b is exact for any integer a; b^2/n is the
    // rest. a close to the mean keeps everything below 2^127 (bounds of prices in status.hpp).
    const std::int64_t a =
        static_cast<std::int64_t>(static_cast<double>(sum_) / static_cast<double>(n));
    const std::int64_t b = sum_ - n * a;
    const Wide about_a = squares_ - static_cast<Wide>(a) * (n * a + 2 * b);
    const double rest = static_cast<double>(b);
    const double squares = as_double(about_a) - rest * rest / static_cast<double>(n);
    if (squares <= 0.0) return 0.0;
    return squares / kReturnScale / kReturnScale / static_cast<double>(n - 1);
  }

 private:
  using Wide = __int128;
  static Wide square(std::int64_t q) { return static_cast<Wide>(q) * q; }
  static double as_double(Wide x) {
    const double high = static_cast<double>(static_cast<std::int64_t>(x >> 64));
    return high * 18446744073709551616.0 + static_cast<double>(static_cast<std::uint64_t>(x));
  }

  std::int64_t sum_ = 0;
  Wide squares_ = 0;
};

}  // namespace manifold
