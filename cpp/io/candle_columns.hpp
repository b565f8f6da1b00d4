// Candles in columns, and what the bulk readers of files and of frames share.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>

#include "metrics/status.hpp"

namespace manifold {

constexpr std::int64_t kNoVolume = -1;
constexpr std::int32_t kPriceColumns = 12;  // mid, bid, ask: open, high, low, close each

/// plain: the fast path has read the row; slow: the row needs the full decoder.
enum class RowStatus : std::uint8_t { plain = 0, slow = 1 };

/// Columns of candles; the columns of prices are `stride` apart, and an absent price is NaN.
struct CandleColumns {
  std::int64_t* bar_ms;
  double* prices;
  std::int64_t stride;
  std::int64_t* volume;
  std::uint8_t* mid_derived;
  std::uint8_t* status;

  void put_prices(std::int64_t row, const double* from) const {
    for (std::int32_t i = 0; i < kPriceColumns; ++i) prices[i * stride + row] = from[i];
  }
};

constexpr double kAbsent = std::numeric_limits<double>::quiet_NaN();

/// Whether open, high, low and close are valid; the rules are in streams/candles/rules.py.
inline bool prices_hold(const double* ohlc) {
  const double open = ohlc[0], high = ohlc[1], low = ohlc[2], close = ohlc[3];
  return kLowestPrice <= low && low <= open && open <= high && high <= kHighestPrice &&
         low <= close && close <= high;
}

/// Whether a bid is above its ask (streams/candles/rules.py); an absent side never crosses.
inline bool crossed(const double* bid, const double* ask) {
  return bid[0] > ask[0] || bid[1] > ask[1] || bid[2] > ask[2] || bid[3] > ask[3];
}

/// Distinct byte strings in order of first occurrence.
template <std::int32_t kMost, std::int32_t kLongest>
class Interner {
 public:
  Interner() { clear(); }
  void clear() {
    count_ = 0;
    std::memset(slots_, 0xff, sizeof slots_);
  }
  std::int32_t count() const { return count_; }
  const std::uint8_t* bytes(std::int32_t index) const { return bytes_[index]; }
  std::int32_t length(std::int32_t index) const { return lengths_[index]; }

  /// Index of a string, added if it is new; -1 when it is too long or there are too many.
  std::int32_t intern(const std::uint8_t* bytes, std::int64_t length) {
    if (length > kLongest) return -1;
    std::uint32_t hash = 2166136261u;
    for (std::int64_t i = 0; i < length; ++i) hash = (hash ^ bytes[i]) * 16777619u;
    for (std::uint32_t slot = hash ^ (hash >> 15);; ++slot) {
      std::int32_t& index = slots_[slot % kSlots];
      if (index < 0) {
        if (count_ == kMost) return -1;
        std::memcpy(bytes_[count_], bytes, static_cast<std::size_t>(length));
        lengths_[count_] = static_cast<std::int32_t>(length);
        return index = count_++;
      }
      if (lengths_[index] == length &&
          std::memcmp(bytes_[index], bytes, static_cast<std::size_t>(length)) == 0) {
        return index;
      }
    }
  }

 private:
  static constexpr std::uint32_t kSlots = 4 * kMost;
  std::int32_t count_ = 0;
  std::int32_t slots_[kSlots];
  std::int32_t lengths_[kMost];
  std::uint8_t bytes_[kMost][kLongest];
};

}  // namespace manifold
