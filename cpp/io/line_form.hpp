// Form of a CSV file: the roles of its columns, and its time format.
#pragma once

#include <cstdint>

namespace manifold {

/// Role of a column of a file; prices follow in the order of CandleColumns.
enum class Role : std::uint8_t {
  ignored = 0,
  time = 1,
  volume = 2,
  complete = 3,
  instrument = 4,
  granularity = 5,
  first_price = 6,
};

/// Time format of a file (streams/candles/times.py); only rows of the format that is set are read.
enum class TimeForm : std::uint8_t {
  unknown = 0,
  iso = 1,
  iso_offset = 2,
  epoch_s = 3,
  epoch_ms = 4,
  epoch_us = 5,
  epoch_ns = 6,
};

constexpr std::int64_t kEarliestMs = 31'536'000'000;    // 1971-01-01, streams/instants.py
constexpr std::int64_t kLatestMs = 4'102'444'800'000;  // 2100-01-01

}  // namespace manifold
