// A vector of doubles of the machine's width, and one double, with the same functions.
//
// Windows are independent of each other, so `run` computes several of them in the SIMD lanes of a
// vector and `step` one in a scalar, from the same source text. IEEE arithmetic without
// contraction gives each lane the bits of the scalar, for any number of lanes.
#pragma once
#if defined(__clang__)
// a * b + c stays two operations from here on, in every header that includes this one. g++ has no
// such pragma: compile with -ffp-contract=off (bindings::contracts() checks it).
#pragma STDC FP_CONTRACT OFF
#endif

#include <cstdint>
#include <cstring>

#define MANIFOLD_INLINE inline __attribute__((always_inline))
#if defined(__clang__) && defined(__AVX512F__)
// clang prefers 256 bit vectors on CPUs that have 512; these loops gain from the wide ones.
#define MANIFOLD_WIDE __attribute__((min_vector_width(512)))
#else
#define MANIFOLD_WIDE
#endif
#if defined(__GNUC__) && !defined(__clang__)
// Vectors never cross a call that is not inlined, so the calling convention does not matter.
#pragma GCC diagnostic ignored "-Wpsabi"
#endif

namespace manifold {

#if defined(__AVX512F__)
constexpr int kLanes = 8;
#elif defined(__AVX__)
constexpr int kLanes = 4;
#else
constexpr int kLanes = 2;
#endif
using Lanes = double __attribute__((vector_size(kLanes * sizeof(double))));
using LaneMasks = std::int64_t __attribute__((vector_size(kLanes * sizeof(std::int64_t))));

template <class V>
struct MaskFor;
template <>
struct MaskFor<double> {
  using type = std::int64_t;
};
template <>
struct MaskFor<Lanes> {
  using type = LaneMasks;
};
/// The integers of the same width: a comparison gives all ones (true) or all zeros (false).
template <class V>
using MaskOf = typename MaskFor<V>::type;

template <class V>
MANIFOLD_INLINE V all(double x) {
  return V{} + x;
}
template <class V>
MANIFOLD_INLINE MaskOf<V> all_integers(std::int64_t x) {
  return MaskOf<V>{} + x;
}
template <class T, class S>
MANIFOLD_INLINE T load(const S* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}
template <class T, class S>
MANIFOLD_INLINE void store(S* to, const T& value) {
  std::memcpy(to, &value, sizeof value);
}

MANIFOLD_INLINE LaneMasks as_integers(Lanes x) { return reinterpret_cast<LaneMasks>(x); }
MANIFOLD_INLINE Lanes as_doubles(LaneMasks x) { return reinterpret_cast<Lanes>(x); }
MANIFOLD_INLINE std::int64_t as_integers(double x) { return load<std::int64_t>(&x); }
MANIFOLD_INLINE double as_doubles(std::int64_t x) { return load<double>(&x); }

MANIFOLD_INLINE LaneMasks less(Lanes a, Lanes b) { return a < b; }
MANIFOLD_INLINE std::int64_t less(double a, double b) { return -static_cast<std::int64_t>(a < b); }
MANIFOLD_INLINE LaneMasks same(LaneMasks a, LaneMasks b) { return a == b; }
MANIFOLD_INLINE std::int64_t same(std::int64_t a, std::int64_t b) {
  return -static_cast<std::int64_t>(a == b);
}
MANIFOLD_INLINE LaneMasks at_most(LaneMasks a, LaneMasks b) { return a <= b; }
MANIFOLD_INLINE std::int64_t at_most(std::int64_t a, std::int64_t b) {
  return -static_cast<std::int64_t>(a <= b);
}

/// x where the mask is set, +0.0 elsewhere.
template <class V>
MANIFOLD_INLINE V keep(MaskOf<V> mask, V x) {
  return as_doubles(as_integers(x) & mask);
}
MANIFOLD_INLINE LaneMasks choose(LaneMasks mask, LaneMasks yes, LaneMasks no) {
  return (yes & mask) | (no & ~mask);
}
MANIFOLD_INLINE std::int64_t choose(std::int64_t mask, std::int64_t yes, std::int64_t no) {
  return (yes & mask) | (no & ~mask);
}
MANIFOLD_INLINE Lanes choose(LaneMasks mask, Lanes yes, Lanes no) {
  return as_doubles(choose(mask, as_integers(yes), as_integers(no)));
}
MANIFOLD_INLINE double choose(std::int64_t mask, double yes, double no) {
  return as_doubles(choose(mask, as_integers(yes), as_integers(no)));
}
template <class V>
MANIFOLD_INLINE V larger(V a, V b) {
  return choose(less(a, b), b, a);
}
template <class V>
MANIFOLD_INLINE V clamped(V x, double low, double high) {
  x = choose(less(x, all<V>(low)), all<V>(low), x);
  return choose(less(all<V>(high), x), all<V>(high), x);
}

/// Square root, correctly rounded by IEEE 754, of x >= 0.
MANIFOLD_INLINE double root(double x) { return __builtin_sqrt(x); }
MANIFOLD_INLINE Lanes root(Lanes x) {
  Lanes result;
  for (int lane = 0; lane < kLanes; ++lane) result[lane] = __builtin_sqrt(x[lane]);
  return result;
}

}  // namespace manifold
