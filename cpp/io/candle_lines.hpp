// Fast path for lines of CSV.
//
// A line is read here when every cell has a common form: a whole or decimal number of at most 18
// digits, an ISO time to the second, an epoch. All others are left to the caller, so that one
// module (streams/candles/rows.py) decides what a cell means and why a row is refused.
#pragma once

#include <cstdint>
#include <cstring>

#include "io/candle_columns.hpp"
#include "io/line_form.hpp"

namespace manifold {

/// Columns that receive the rows of a file: the candle, its line and byte offset.
struct LineColumns {
  CandleColumns candles;
  std::int32_t* pair;  // index of the row's instrument and granularity
  std::int64_t* line;
  std::int64_t* offset;
};

class LineReader {
 public:
  static constexpr std::int32_t kMostCells = 64;
  static constexpr std::int32_t kMostPairs = 1024;
  static constexpr std::int32_t kLongestPair = 64;
  static constexpr std::int32_t kLongestName = 40;

  LineColumns columns{};
  TimeForm time_form = TimeForm::unknown;
  std::int64_t rows = 0;    // filled so far; the caller empties the columns and resets this
  std::int64_t lines = 0;   // read so far in this file
  std::int64_t offset = 0;  // where reading stopped

  bool describe(const std::uint8_t* roles, std::int64_t cells) {
    if (cells < 1 || cells > kMostCells) return false;
    cells_ = static_cast<std::int32_t>(cells);
    names_ = false;
    for (std::int32_t i = 0; i < cells_; ++i) {
      roles_[i] = roles[i];
      names_ |= is(roles[i], Role::instrument) || is(roles[i], Role::granularity);
    }
    return true;
  }

  /// Instruments and granularities named by rows, separated by a comma.
  const Interner<kMostPairs, kLongestPair>& pairs() const { return pairs_; }

  /// Read lines of `data` from `from` on until the columns are full or the data ends.
  ///
  /// Returns false at a line that may continue on the next one (a quote) or contains a single
  /// carriage return: `offset` is its start, and the caller continues there. The byte after
  /// `length` is read.
  bool read(const std::uint8_t* data, std::int64_t from, std::int64_t length,
            std::int64_t capacity) {
    const std::uint8_t* at = data + from;
    end_ = data + length;
    bool whole = true;
    while (at < end_ && rows < capacity) {
      const std::uint8_t* next = line_end(at);
      if (next) {  // an empty line is not a row
        ++lines;
        at = next;
        continue;
      }
      next = take(at);
      columns.candles.status[rows] =
          static_cast<std::uint8_t>(next ? RowStatus::plain : RowStatus::slow);
      if (!next) {
        columns.candles.bar_ms[rows] = 0;
        columns.pair[rows] = 0;
        const void* found = std::memchr(at, '\n', static_cast<std::size_t>(end_ - at));
        next = found ? static_cast<const std::uint8_t*>(found) + 1 : end_;
        whole = ends_only_there(at, next);
        if (!whole) break;
      }
      columns.line[rows] = ++lines;
      columns.offset[rows] = at - data;
      ++rows;
      at = next;
    }
    offset = at - data;
    return whole;
  }

 private:
  /// A decimal number: `number` without the point, and `digits` after the point.
  struct Decimal {
    std::int64_t number;
    std::int64_t digits;
  };

  static bool is(std::uint8_t role, Role wanted) {
    return role == static_cast<std::uint8_t>(wanted);
  }
  static bool digit(std::uint8_t c) { return static_cast<std::uint8_t>(c - '0') < 10; }

  bool cell_ends(const std::uint8_t* at) const {
    return at == end_ || *at == ',' || *at == '\n' || *at == '\r';
  }

  /// Start of the next line when a line ends at `at`, else null.
  const std::uint8_t* line_end(const std::uint8_t* at) const {
    if (at == end_) return at;
    if (*at == '\n') return at + 1;
    if (*at == '\r' && at + 1 < end_ && at[1] == '\n') return at + 2;
    return nullptr;
  }

  static bool ends_only_there(const std::uint8_t* at, const std::uint8_t* next) {
    const std::size_t length = static_cast<std::size_t>(next - at);
    if (std::memchr(at, '"', length)) return false;
    const void* found = std::memchr(at, '\r', length);
    return !found || (static_cast<const std::uint8_t*>(found) + 2 == next && next[-1] == '\n');
  }

  /// Read a line into the columns; returns the start of the next one, null for the full parser.
  const std::uint8_t* take(const std::uint8_t* at) {
    double prices[kPriceColumns];
    for (double& price : prices) price = kAbsent;
    Decimal decimals[kPriceColumns];
    std::uint32_t there = 0;
    const std::uint8_t* instrument = at;
    const std::uint8_t* granularity = at;
    std::int64_t instrument_length = 0, granularity_length = 0;
    std::int64_t bar_ms = -1, volume = kNoVolume;
    for (std::int32_t i = 0; i < cells_; ++i) {
      if (i > 0) {
        if (at == end_ || *at != ',') return nullptr;
        ++at;
      }
      const std::uint8_t role = roles_[i];
      bool plain = true;
      if (role >= static_cast<std::uint8_t>(Role::first_price)) {
        const std::uint32_t price = role - static_cast<std::uint32_t>(Role::first_price);
        if (!cell_ends(at)) {
          plain = decimal(at, decimals[price]);
          if (plain) prices[price] = nearest(decimals[price]);
          there |= 1u << price;
        }
      } else if (is(role, Role::time)) {
        plain = time(at, bar_ms);
      } else if (is(role, Role::volume)) {
        if (!cell_ends(at)) plain = whole_number(at, volume);
      } else if (is(role, Role::complete)) {
        plain = complete(at);
      } else {
        const std::uint8_t* first = at;
        plain = text(at);
        if (is(role, Role::instrument)) {
          instrument = first;
          instrument_length = at - first;
        } else if (is(role, Role::granularity)) {
          granularity = first;
          granularity_length = at - first;
        }
      }
      if (!plain) return nullptr;
    }
    at = line_end(at);
    if (!at || bar_ms < kEarliestMs || bar_ms >= kLatestMs) return nullptr;
    std::uint8_t derived = 0;
    if (!usable(prices, decimals, there, derived)) return nullptr;
    const std::int32_t pair =
        names_ ? pair_of(instrument, instrument_length, granularity, granularity_length) : 0;
    if (pair < 0) return nullptr;
    columns.candles.bar_ms[rows] = bar_ms;
    columns.candles.put_prices(rows, prices);
    columns.candles.volume[rows] = volume;
    columns.candles.mid_derived[rows] = derived;
    columns.pair[rows] = pair;
    return at;
  }

  /// Whether each side is valid and complete, or absent. With bid and ask the mid is computed from
  /// them, and a mid in the line is ignored.
  static bool usable(double* prices, const Decimal* decimals, std::uint32_t there,
                     std::uint8_t& derived) {
    derived = (there & 0xff0) == 0xff0;
    if (derived) {
      if (crossed(prices + 4, prices + 8)) return false;
      for (std::int32_t i = 0; i < 4; ++i) {
        if (!mid_of(decimals[4 + i], decimals[8 + i], prices[i])) return false;
      }
      there |= 15;
    }
    for (std::int32_t side = 0; side < 3; ++side) {
      const std::uint32_t found = (there >> (4 * side)) & 15;
      if (found != 0 && (found != 15 || !prices_hold(prices + 4 * side))) return false;
    }
    return (there & 15) != 0;
  }

  std::int32_t pair_of(const std::uint8_t* instrument, std::int64_t instrument_length,
                       const std::uint8_t* granularity, std::int64_t granularity_length) {
    if (instrument_length + granularity_length >= kLongestPair) return -1;
    std::uint8_t pair[kLongestPair];
    std::memcpy(pair, instrument, static_cast<std::size_t>(instrument_length));
    pair[instrument_length] = ',';
    std::memcpy(pair + instrument_length + 1, granularity,
                static_cast<std::size_t>(granularity_length));
    return pairs_.intern(pair, instrument_length + 1 + granularity_length);
  }

  /// Digits, with or without a point; at most 18, and a number below 2^53.
  static bool decimal(const std::uint8_t*& at, Decimal& value) {
    std::uint64_t number = 0;
    const std::uint8_t* first = at;
    for (; digit(*at); ++at) number = number * 10 + (*at - '0');
    const std::int64_t before = at - first;
    std::int64_t behind = 0;
    if (*at == '.') {
      first = ++at;
      for (; digit(*at); ++at) number = number * 10 + (*at - '0');
      behind = at - first;
      if (behind == 0) return false;
    }
    if (before == 0 || before + behind > kMostDigits ||
        number > static_cast<std::uint64_t>(kExact)) {
      return false;
    }
    value = {static_cast<std::int64_t>(number), behind};
    return true;
  }

  /// The nearest double. The whole number and the power of ten are exact doubles, so that the one
  /// division rounds once.
  static double nearest(const Decimal& value) {
    return static_cast<double>(value.number) / kPowers[value.digits];
  }

  /// The mid of bid and ask: their exact decimal mean, to the nearest double (docs/mid-price.md,
  /// streams/candles/mid_price.py). The sum and twice a power of ten are exact doubles, so that the
  /// one division rounds once; false where the sum is not exact.
  static bool mid_of(Decimal bid, Decimal ask, double& mid) {
    if (bid.digits != ask.digits) {
      Decimal& shorter = bid.digits < ask.digits ? bid : ask;
      const std::int64_t digits = bid.digits < ask.digits ? ask.digits : bid.digits;
      for (; shorter.digits < digits; ++shorter.digits) {
        if (shorter.number > kExact / 10) return false;
        shorter.number *= 10;
      }
    }
    const std::int64_t sum = bid.number + ask.number;
    mid = static_cast<double>(sum) / (2.0 * kPowers[bid.digits]);
    return sum <= kExact;
  }

  static bool whole_number(const std::uint8_t*& at, std::int64_t& value) {
    Decimal written;
    if (!decimal(at, written)) return false;
    value = written.number;
    for (; written.digits > 0; --written.digits) {
      if (value % 10 != 0) return false;
      value /= 10;
    }
    return true;
  }

  bool time(const std::uint8_t*& at, std::int64_t& ms) const {
    switch (time_form) {
      case TimeForm::iso:
      case TimeForm::iso_offset:
        return end_ - at >= 19 && at[4] == '-' && iso_time(at, ms);
      case TimeForm::epoch_s:
        return epoch(at, 10, ms) && (ms *= 1'000, true);
      case TimeForm::epoch_ms:
        return epoch(at, 13, ms);
      case TimeForm::epoch_us:
        return epoch(at, 16, ms) && whole_ms(ms, 1'000);
      case TimeForm::epoch_ns:
        return epoch(at, 19, ms) && whole_ms(ms, 1'000'000);
      default:
        return false;
    }
  }

  static std::int32_t two(const std::uint8_t* at) {
    return digit(at[0]) && digit(at[1]) ? (at[0] - '0') * 10 + (at[1] - '0') : -1;
  }

  bool iso_time(const std::uint8_t*& at, std::int64_t& ms) const {
    const std::int32_t century = two(at), years = two(at + 2), month = two(at + 5);
    const std::int32_t day = two(at + 8), hour = two(at + 11), minute = two(at + 14);
    const std::int32_t second = two(at + 17);
    if (at[7] != '-' || (at[10] != 'T' && at[10] != ' ') || at[13] != ':' || at[16] != ':') {
      return false;
    }
    const std::int32_t year = century * 100 + years;
    if (century < 0 || years < 0 || year < 1970 || month < 1 || month > 12 || day < 1 ||
        day > days_in(year, month) || hour < 0 || hour > 23 || minute < 0 || minute > 59 ||
        second < 0 || second > 59) {
      return false;
    }
    ms = ((days_since_epoch(year, month, day) * 24 + hour) * 60 + minute) * 60'000LL +
         second * 1'000LL;
    at += 19;
    if (*at == '.') {
      const std::uint8_t* first = ++at;
      while (*at == '0') ++at;
      if (at == first || at - first > 9) return false;
    }
    if (time_form == TimeForm::iso) return cell_ends(at);
    if (*at == 'Z') {
      ++at;
      return true;
    }
    if (end_ - at < 6 || std::memcmp(at, "+00:00", 6) != 0) return false;
    at += 6;
    return true;
  }

  static bool leap(std::int32_t year) {
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
  }
  static std::int32_t days_in(std::int32_t year, std::int32_t month) {
    static constexpr std::int32_t kDays[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return kDays[month - 1] + (month == 2 && leap(year));
  }
  static std::int64_t days_since_epoch(std::int32_t year, std::int32_t month, std::int32_t day) {
    static constexpr std::int32_t kBefore[] = {0,   31,  59,  90,  120, 151,
                                               181, 212, 243, 273, 304, 334};
    const std::int32_t past = year - 1;
    const std::int64_t leaps = past / 4 - past / 100 + past / 400 - 477;
    return (year - 1970) * 365LL + leaps + kBefore[month - 1] + (month > 2 && leap(year)) + day - 1;
  }

  /// Exactly `count` digits. 19 digits fit into 64 bits without a sign; a value beyond 63 bits is
  /// not a time.
  static bool epoch(const std::uint8_t*& at, std::int32_t count, std::int64_t& value) {
    std::uint64_t number = 0;
    const std::uint8_t* first = at;
    for (; digit(*at) && at - first < count; ++at) number = number * 10 + (*at - '0');
    value = static_cast<std::int64_t>(number);
    return at - first == count && !digit(*at) && value >= 0;
  }

  static bool whole_ms(std::int64_t& value, std::int64_t divide) {
    const std::int64_t ms = value / divide;
    const bool whole = ms * divide == value;
    value = ms;
    return whole;
  }

  bool complete(const std::uint8_t*& at) const {
    static constexpr const char* kYes[] = {"true", "True", "TRUE", "1", "yes"};
    if (cell_ends(at)) return true;
    for (const char* yes : kYes) {
      const std::size_t length = std::strlen(yes);
      if (static_cast<std::size_t>(end_ - at) >= length && std::memcmp(at, yes, length) == 0) {
        at += length;
        return true;  // the caller checks that a comma follows
      }
    }
    return false;
  }

  /// Printing ASCII without quotes, short enough for any limit on a field.
  bool text(const std::uint8_t*& at) const {
    const std::uint8_t* first = at;
    while (!cell_ends(at)) {
      if (*at < ' ' || *at > '~' || *at == '"') return false;
      ++at;
    }
    return at - first <= kLongestName;
  }

  static constexpr std::int64_t kExact = std::int64_t{1} << 53;
  static constexpr std::int64_t kMostDigits = 18;
  static constexpr double kPowers[kMostDigits + 1] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,
                                                      1e7,  1e8,  1e9,  1e10, 1e11, 1e12, 1e13,
                                                      1e14, 1e15, 1e16, 1e17, 1e18};

  Interner<kMostPairs, kLongestPair> pairs_;
  std::uint8_t roles_[kMostCells] = {};
  std::int32_t cells_ = 0;
  bool names_ = false;
  const std::uint8_t* end_ = nullptr;
};

}  // namespace manifold
