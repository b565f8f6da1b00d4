// Fast path for frames of md.candles.
//
// The body has the newest schema of Candle; the caller has compared the layout. A frame is read
// here when it decodes, to its last byte, to a candle that passes every rule; all others are left
// to the codec, so that errors of a frame are named by one module (streams/records/codec.py).
#pragma once

#include <cstdint>
#include <cstring>

#include "io/avro_cursor.hpp"
#include "io/candle_columns.hpp"

namespace manifold {

/// Columns that receive the candles of frames.
struct FrameColumns {
  CandleColumns candles;
  std::int64_t* as_of_ms;
  std::int32_t* instrument;   // index in the instruments of this call
  std::uint8_t* granularity;  // index in the granularities given to the reader
  std::uint8_t* source;       // index in the sources given to the reader
};

class FrameReader {
 public:
  static constexpr std::int32_t kMostInstruments = 2048;
  static constexpr std::int32_t kLongestInstrument = 32;
  static constexpr std::int32_t kMostWords = 32;
  static constexpr std::int32_t kLongestWord = 16;
  static constexpr std::int64_t kPrefix = 5;

  FrameColumns columns{};
  std::uint8_t prefix[kPrefix] = {};
  std::int64_t hour_ms = 0, start_ms = 0, end_ms = 0;  // of streams/instants.py

  const Interner<kMostInstruments, kLongestInstrument>& instruments() const { return instruments_; }

  /// Add a granularity and its length; the order of calls gives the index.
  bool add_granularity(const std::uint8_t* bytes, std::int64_t length, std::int64_t length_ms) {
    return granularities_.add(bytes, length, length_ms);
  }
  bool add_source(const std::uint8_t* bytes, std::int64_t length) {
    return sources_.add(bytes, length, 0);
  }

  /// Read `n` frames of `data`: the i-th lies between offsets[i] and offsets[i + 1].
  /// Returns the number of frames left to the codec.
  std::int64_t read(const std::uint8_t* data, const std::int64_t* offsets, std::int64_t n) {
    instruments_.clear();
    std::int64_t slow = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      const bool plain = take(data + offsets[i], data + offsets[i + 1], i);
      columns.candles.status[i] =
          static_cast<std::uint8_t>(plain ? RowStatus::plain : RowStatus::slow);
      slow += !plain;
    }
    return slow;
  }

 private:
  /// A few short words, with a number each.
  struct Words {
    std::int32_t count = 0;
    std::int32_t lengths[kMostWords] = {};
    std::uint8_t bytes[kMostWords][kLongestWord] = {};
    std::int64_t numbers[kMostWords] = {};
    std::int32_t last = 0;

    bool add(const std::uint8_t* word, std::int64_t length, std::int64_t number) {
      if (count == kMostWords || length < 0 || length > kLongestWord) return false;
      lengths[count] = static_cast<std::int32_t>(length);
      std::memcpy(bytes[count], word, static_cast<std::size_t>(length));
      numbers[count++] = number;
      return true;
    }
    bool matches(std::int32_t index, const std::uint8_t* word, std::int64_t length) const {
      return lengths[index] == length &&
             std::memcmp(bytes[index], word, static_cast<std::size_t>(length)) == 0;
    }
    std::int32_t find(const std::uint8_t* word, std::int64_t length) {
      if (last < count && matches(last, word, length)) return last;
      for (std::int32_t i = 0; i < count; ++i) {
        if (matches(i, word, length)) return last = i;
      }
      return -1;
    }
  };

  struct Rest : AvroCursor {
    bool prices(double* to) {
      const std::uint8_t* from = bytes(4 * sizeof(double));
      if (good) std::memcpy(to, from, 4 * sizeof(double));
      return good && prices_hold(to);
    }
    bool optional_prices(double* to) {
      const std::uint8_t branch = byte();
      if (branch == 2) return prices(to);
      for (std::int32_t i = 0; i < 4; ++i) to[i] = kAbsent;
      return good && branch == 0;
    }
  };

  bool take(const std::uint8_t* at, const std::uint8_t* end, std::int64_t row) {
    if (end - at < kPrefix || std::memcmp(at, prefix, kPrefix) != 0) return false;
    Rest rest{{at + kPrefix, end}};
    const std::int64_t name_length = rest.number();
    const std::uint8_t* name = rest.bytes(name_length);
    const std::int64_t word_length = rest.number();
    const std::uint8_t* word = rest.bytes(word_length);
    if (!rest.good || !name_holds(name, name_length)) return false;
    const std::int32_t granularity = granularities_.find(word, word_length);
    if (granularity < 0) return false;
    const std::int64_t bar_ms = rest.number(), as_of_ms = rest.number();
    if (!rest.good || !time_holds(bar_ms, as_of_ms, granularities_.numbers[granularity])) {
      return false;
    }
    double prices[kPriceColumns];
    if (!rest.prices(prices) || !rest.optional_prices(prices + 4) ||
        !rest.optional_prices(prices + 8) || crossed(prices + 4, prices + 8)) {
      return false;
    }
    const std::uint8_t derived = rest.byte(), branch = rest.byte();
    std::int64_t volume = kNoVolume;
    if (branch == 2) {
      volume = rest.number();
      if (volume < 0) return false;
    }
    const std::int64_t source_length = rest.number();
    const std::uint8_t* source = rest.bytes(source_length);
    const std::uint8_t complete = rest.byte();
    if (!rest.good || rest.at != end || derived > 1 || (branch != 0 && branch != 2) ||
        complete != 1) {
      return false;
    }
    const std::int32_t source_index = sources_.find(source, source_length);
    if (source_index < 0) return false;
    const std::int32_t index = instruments_.intern(name, name_length);
    if (index < 0) return false;
    columns.candles.bar_ms[row] = bar_ms;
    columns.candles.put_prices(row, prices);
    columns.candles.volume[row] = volume;
    columns.candles.mid_derived[row] = derived;
    columns.as_of_ms[row] = as_of_ms;
    columns.instrument[row] = index;
    columns.granularity[row] = static_cast<std::uint8_t>(granularity);
    columns.source[row] = static_cast<std::uint8_t>(source_index);
    return true;
  }

  /// The form of an instrument's name (streams/candles/rules.py).
  static bool name_holds(const std::uint8_t* name, std::int64_t length) {
    if (length < 1 || length > kLongestInstrument) return false;
    for (std::int64_t i = 0; i < length; ++i) {
      const std::uint8_t c = name[i];
      const bool letter = static_cast<std::uint8_t>((c | 0x20) - 'a') < 26;
      const bool digit = static_cast<std::uint8_t>(c - '0') < 10;
      if (!letter && !digit && (i == 0 || (c != '_' && c != '.' && c != '-'))) return false;
    }
    return true;
  }

  bool time_holds(std::int64_t bar_ms, std::int64_t as_of_ms, std::int64_t length_ms) const {
    if (bar_ms < start_ms || as_of_ms > end_ms || as_of_ms - length_ms != bar_ms) return false;
    return bar_ms % (length_ms < hour_ms ? length_ms : hour_ms) == 0;
  }

  Interner<kMostInstruments, kLongestInstrument> instruments_;
  Words granularities_, sources_;
};

}  // namespace manifold
