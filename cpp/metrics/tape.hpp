// The recent candles of one instrument as columns, oldest first.
//
// Columns are linear, not rings, because SIMD lanes read adjacent cells. At the end the part that
// is still needed is moved to the front, once per several hundred candles.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <new>

#include "metrics/status.hpp"

namespace manifold {

constexpr std::int32_t kChunkCandles = 64;
constexpr std::int32_t kBlock = 512;  // candles a run appends before it computes their windows
/// Neutral cells in front of the oldest candle, so that reading 639 candles back stays inside.
constexpr std::int32_t kFront = 704;

template <class T>
class Column {
 public:
  bool allocate(std::int64_t cells, T neutral) {
    cells_.reset(new (std::nothrow) T[static_cast<std::size_t>(cells)]);
    if (!cells_) return false;
    for (std::int64_t i = 0; i < cells; ++i) cells_[i] = neutral;
    return true;
  }
  T* at(std::int64_t position) { return cells_.get() + position; }
  const T* at(std::int64_t position) const { return cells_.get() + position; }
  T& operator[](std::int64_t position) { return cells_[position]; }
  const T& operator[](std::int64_t position) const { return cells_[position]; }
  void shift(std::int64_t from, std::int64_t to, std::int64_t count) {
    std::memmove(at(to), at(from), static_cast<std::size_t>(count) * sizeof(T));
  }

 private:
  std::unique_ptr<T[]> cells_;
};

struct Tape {
  Column<std::int64_t> bar_ms;
  Column<double> close;
  Column<std::int64_t> bit;       // 0 or -1: the bit of the step from the candle before to this one
  Column<std::int64_t> log_return;  // multiples of 2^-50
  Column<std::int64_t> key;       // signature of the window that ends here; -1 = none
  Column<std::uint32_t> flips;    // running counts of pairs and ones, modulo 2^32
  Column<std::uint32_t> ruptures;
  Column<std::uint32_t> ones;
  Column<std::uint32_t> grid;     // running sum of the ruptures of every fourth window

  std::int64_t capacity = 0;
  std::int64_t end = kFront;       // position after the newest candle
  std::int64_t front_seq = 0;      // sequence number of the candle at kFront

  bool allocate(std::int64_t cells) {
    capacity = cells;
    return bar_ms.allocate(cells, 0) && close.allocate(cells, 1.0) && bit.allocate(cells, 0) &&
           log_return.allocate(cells, 0) && key.allocate(cells, -1) && flips.allocate(cells, 0) &&
           ruptures.allocate(cells, 0) && ones.allocate(cells, 0) && grid.allocate(cells, 0);
  }

  std::int64_t position_of(std::int64_t seq) const { return kFront + (seq - front_seq); }
  std::int64_t next_seq() const { return front_seq + (end - kFront); }

  /// Drop candles older than `seq`.
  void keep_from(std::int64_t seq) {
    const std::int64_t from = position_of(seq);
    if (from <= kFront) return;
    const std::int64_t count = end - from;
    bar_ms.shift(from, kFront, count);
    close.shift(from, kFront, count);
    bit.shift(from, kFront, count);
    log_return.shift(from, kFront, count);
    key.shift(from, kFront, count);
    flips.shift(from, kFront, count);
    ruptures.shift(from, kFront, count);
    ones.shift(from, kFront, count);
    grid.shift(from, kFront, count);
    end = kFront + count;
    front_seq = seq;
  }

  /// Update the running counts at `position` from its bit and the bit before.
  void count(std::int64_t position) {
    const std::int64_t now = bit[position];
    const std::int64_t before = bit[position - 1];
    flips[position] = flips[position - 1] + static_cast<std::uint32_t>((now ^ before) & 1);
    ruptures[position] = ruptures[position - 1] + static_cast<std::uint32_t>(now & before & 1);
    ones[position] = ones[position - 1] + static_cast<std::uint32_t>(now & 1);
  }
};

}  // namespace manifold
