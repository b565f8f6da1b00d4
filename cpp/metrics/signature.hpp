// A window's signature: coherence, stability and entropy rounded to `precision` decimals.
#pragma once

#include <cstdint>

namespace manifold {

constexpr std::int32_t kMaxPrecision = 6;
constexpr std::int32_t kMaxSignatureChars = 3 * (1 + 2 + kMaxPrecision) + 2;

struct Signature {
  std::int32_t coherence, stability, entropy;  // each value times 10^precision
};

inline double bucket_scale(std::int32_t precision) {
  double scale = 1.0;
  for (std::int32_t i = 0; i < precision; ++i) scale *= 10.0;
  return scale;
}

/// `value` in [0, 1] times `scale`, rounded half away from zero.
inline std::int32_t bucket_of(double value, double scale) {
  const double scaled = value * scale;
  const std::int32_t whole = static_cast<std::int32_t>(scaled);
  return whole + static_cast<std::int32_t>(scaled - whole >= 0.5);
}

/// The three buckets in one integer, never negative: equal exactly when the signatures are.
inline std::int64_t key_of(const Signature& s) {
  return (static_cast<std::int64_t>(s.coherence) << 40) |
         (static_cast<std::int64_t>(s.stability) << 20) | s.entropy;
}

inline char* write_bucket(char* to, char name, std::int32_t bucket, std::int32_t precision) {
  *to++ = name;
  std::int32_t unit = 1;
  for (std::int32_t i = 0; i < precision; ++i) unit *= 10;
  *to++ = static_cast<char>('0' + bucket / unit);
  if (precision > 0) *to++ = '.';
  for (std::int32_t rest = bucket % unit; unit > 1; rest %= unit) {
    unit /= 10;
    *to++ = static_cast<char>('0' + rest / unit);
  }
  return to;
}

/// Write "c0.47_s0.87_e0.88" (no terminator); returns one past the last character.
inline char* write_signature(char* to, const Signature& s, std::int32_t precision) {
  to = write_bucket(to, 'c', s.coherence, precision);
  *to++ = '_';
  to = write_bucket(to, 's', s.stability, precision);
  *to++ = '_';
  return write_bucket(to, 'e', s.entropy, precision);
}

inline std::int32_t signature_chars(std::int32_t precision) {
  return 3 * (precision > 0 ? precision + 3 : 2) + 2;
}

}  // namespace manifold
