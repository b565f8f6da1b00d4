// The state of a stream as bytes: a head, and rows of 64 candles in a ring.
//
// Only what cannot be recomputed is stored: bar_ms, close and bit of the candles, and the values
// of the last candle that the next one is compared with. Per candle the head and the newest row
// change.
// Little endian throughout.
//
//   head   "QH" u16 layout | char[16] engine | i32 candle_count, lookback_minutes, precision |
//          i64 first_seq, seen, last_bar_ms | f64 last close, range | i64 last volume
//   chunk  i64 number | u8 candles | u64 bits | i64 first bar_ms | f64 closes[] |
//          varint bar_ms minus the one before, for all but the first
#pragma once

#include <cstdint>
#include <cstring>

#include "metrics/bytes.hpp"
#include "metrics/stream.hpp"

namespace manifold {

constexpr std::uint16_t kLayout = 1;
constexpr std::int32_t kHeadBytes = 2 + 2 + kEngineChars + 3 * 4 + 6 * 8;
constexpr std::int32_t kChunkHeadBytes = 8 + 1 + 8 + 8;
constexpr std::int32_t kMaxVarintBytes = 10;
constexpr std::int32_t kMaxChunkBytes =
    kChunkHeadBytes + kChunkCandles * 8 + (kChunkCandles - 1) * kMaxVarintBytes;

struct Rows {
  /// Chunks whose rows the newest manifold needs: [oldest_chunk, newest_chunk].
  static std::int64_t newest_chunk(const Stream& s) { return (s.seen() - 1) / kChunkCandles; }
  static std::int64_t oldest_chunk(const Stream& s) { return s.oldest_seq() / kChunkCandles; }
  /// The oldest chunk whose row is in the ring and which is still in memory.
  static std::int64_t oldest_kept_chunk(const Stream& s) {
    const std::int64_t in_ring = newest_chunk(s) - s.parameters_.chunks() + 1;
    const std::int64_t begun = s.first_seq_ / kChunkCandles;
    return in_ring > begun ? in_ring : begun;
  }

  /// Write the head (kHeadBytes); returns its length.
  static std::int32_t write_head(const Stream& s, std::uint8_t* to) {
    Writer w{to};
    w.put('Q');
    w.put('H');
    w.put(kLayout);
    w.put_engine();
    w.put(s.parameters_.candle_count);
    w.put(s.parameters_.lookback_minutes);
    w.put(s.parameters_.precision);
    w.put(s.first_seq_);
    w.put(s.seen());
    w.put(s.last_bar_ms_);
    w.put(s.last_.close);
    w.put(s.last_.range);
    w.put(s.last_.volume);
    return static_cast<std::int32_t>(w.at - to);
  }

  /// Write the row of a chunk (at most kMaxChunkBytes); returns its length.
  static std::int32_t write_chunk(const Stream& s, std::int64_t number, std::uint8_t* to) {
    const std::int64_t begin = s.tape_.position_of(number * kChunkCandles);
    const std::int64_t left = s.tape_.end - begin;
    const std::int32_t candles =
        left < kChunkCandles ? static_cast<std::int32_t>(left) : kChunkCandles;
    std::uint64_t bits = 0;
    for (std::int32_t i = 0; i < candles; ++i) {
      bits |= static_cast<std::uint64_t>(s.tape_.bit[begin + i] & 1) << i;
    }
    Writer w{to};
    w.put(number);
    w.put(static_cast<std::uint8_t>(candles));
    w.put(bits);
    w.put(s.tape_.bar_ms[begin]);
    for (std::int32_t i = 0; i < candles; ++i) w.put(s.tape_.close[begin + i]);
    for (std::int32_t i = 1; i < candles; ++i) {
      w.put_varint(static_cast<std::uint64_t>(s.tape_.bar_ms[begin + i]) -
                   static_cast<std::uint64_t>(s.tape_.bar_ms[begin + i - 1]));
    }
    return static_cast<std::int32_t>(w.at - to);
  }

  /// Open `s` from a head; then add its chunks, oldest first, then call `finish`.
  static Status read_head(Stream& s, const std::uint8_t* bytes, std::int64_t length) {
    Reader r{bytes, bytes + length};
    const Status origin = r.take_origin('Q', 'H', kLayout);
    if (origin != Status::ok) return origin;
    Parameters parameters;
    parameters.candle_count = r.take<std::int32_t>();
    parameters.lookback_minutes = r.take<std::int32_t>();
    parameters.precision = r.take<std::int32_t>();
    const std::int64_t first_seq = r.take<std::int64_t>();
    const std::int64_t seen = r.take<std::int64_t>();
    const std::int64_t last_bar_ms = r.take<std::int64_t>();
    Footprint last{};
    last.close = r.take<double>();
    last.range = r.take<double>();
    last.volume = r.take<std::int64_t>();
    if (!r.good || r.at != r.end) return Status::truncated;
    if (first_seq < 0 || seen < first_seq || seen > (std::int64_t{1} << 60)) {
      return Status::inconsistent;
    }
    const Status status = s.open(parameters);
    if (status != Status::ok) return status;
    s.first_seq_ = first_seq;
    s.last_ = last;
    s.last_bar_ms_ = last_bar_ms;
    const std::int64_t reach = seen - parameters.candle_count;
    const std::int64_t oldest = reach > first_seq ? reach : first_seq;
    s.tape_.front_seq = oldest - oldest % kChunkCandles;
    return Status::ok;
  }

  /// Append the candles of the next chunk, which must hold `candles` of them.
  static Status read_chunk(Stream& s, const std::uint8_t* bytes, std::int64_t length,
                           std::int64_t seen) {
    Reader r{bytes, bytes + length};
    const std::int64_t number = r.take<std::int64_t>();
    const std::int32_t candles = r.take<std::uint8_t>();
    const std::uint64_t bits = r.take<std::uint64_t>();
    std::int64_t bar_ms = r.take<std::int64_t>();
    if (!r.good) return Status::truncated;
    const std::int64_t left = seen - s.seen();
    if (number * kChunkCandles != s.seen() ||
        candles != (left < kChunkCandles ? left : kChunkCandles)) {
      return Status::inconsistent;
    }
    for (std::int32_t i = 0; i < candles; ++i) {
      const double close = r.take<double>();
      if (r.good && check_price(close) != Status::ok) return Status::inconsistent;
      s.tape_.close[s.tape_.end + i] = r.good ? close : 1.0;
      s.tape_.bit[s.tape_.end + i] = -static_cast<std::int64_t>((bits >> i) & 1);
    }
    for (std::int32_t i = 0; i < candles; ++i) {
      if (i > 0) {
        bar_ms = static_cast<std::int64_t>(static_cast<std::uint64_t>(bar_ms) + r.take_varint());
      }
      s.tape_.bar_ms[s.tape_.end + i] = bar_ms;
    }
    if (!r.good || r.at != r.end) return Status::truncated;
    s.tape_.end += candles;
    return Status::ok;
  }

  /// Recompute what is not stored; the last candle of head and rows must be the same.
  static Status finish(Stream& s) {
    const std::int64_t newest = s.tape_.end - 1;
    const bool empty = s.seen() == 0;
    if (!empty && (s.tape_.bar_ms[newest] != s.last_bar_ms_ ||
                   s.tape_.close[newest] != s.last_.close)) {
      return Status::inconsistent;
    }
    for (std::int64_t p = kFront + 1; p <= newest; ++p) {
      if (s.tape_.bar_ms[p] <= s.tape_.bar_ms[p - 1]) return Status::inconsistent;
    }
    s.recompute();
    return Status::ok;
  }
};

}  // namespace manifold
