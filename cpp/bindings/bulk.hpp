// Python bindings of the bulk readers: handles, addresses of columns, counts.
#pragma once

#include <cstdint>
#include <new>

#include "io/candle_frames.hpp"
#include "io/candle_lines.hpp"
#include "io/record_frames.hpp"

namespace manifold {
namespace bindings {

inline CandleColumns candle_columns(std::uintptr_t bar_ms, std::uintptr_t prices,
                                    std::int64_t stride, std::uintptr_t volume,
                                    std::uintptr_t mid_derived, std::uintptr_t status) {
  return {reinterpret_cast<std::int64_t*>(bar_ms),      reinterpret_cast<double*>(prices),
          stride,                                       reinterpret_cast<std::int64_t*>(volume),
          reinterpret_cast<std::uint8_t*>(mid_derived), reinterpret_cast<std::uint8_t*>(status)};
}

/// A reader of lines; it fills the same columns until it is given others.
class LineHandle {
 public:
  bool describe(std::uintptr_t roles, std::int64_t cells) {
    return reader_.describe(reinterpret_cast<const std::uint8_t*>(roles), cells);
  }
  void expect_time(std::int32_t form) { reader_.time_form = static_cast<TimeForm>(form); }
  void fill(const CandleColumns& candles, std::uintptr_t pair, std::uintptr_t line,
            std::uintptr_t offset) {
    reader_.columns = {candles, reinterpret_cast<std::int32_t*>(pair),
                       reinterpret_cast<std::int64_t*>(line),
                       reinterpret_cast<std::int64_t*>(offset)};
  }
  bool read(std::uintptr_t data, std::int64_t from, std::int64_t length, std::int64_t row,
            std::int64_t capacity, std::int64_t lines) {
    reader_.rows = row;
    reader_.lines = lines;
    return reader_.read(reinterpret_cast<const std::uint8_t*>(data), from, length, capacity);
  }
  std::int64_t rows() const { return reader_.rows; }
  std::int64_t lines() const { return reader_.lines; }
  std::int64_t offset() const { return reader_.offset; }

  std::int32_t pairs() const { return reader_.pairs().count(); }
  std::uintptr_t pair_address(std::int32_t place) const {
    return reinterpret_cast<std::uintptr_t>(reader_.pairs().bytes(place));
  }
  std::int32_t pair_length(std::int32_t place) const { return reader_.pairs().length(place); }

 private:
  LineReader reader_;
};

/// A reader of frames of one schema id.
class FrameHandle {
 public:
  void expect(std::uintptr_t prefix, std::int64_t hour_ms, std::int64_t start_ms,
              std::int64_t end_ms) {
    std::memcpy(reader_.prefix, reinterpret_cast<const std::uint8_t*>(prefix),
                FrameReader::kPrefix);
    reader_.hour_ms = hour_ms;
    reader_.start_ms = start_ms;
    reader_.end_ms = end_ms;
  }
  bool add_granularity(std::uintptr_t name, std::int64_t length, std::int64_t length_ms) {
    return reader_.add_granularity(reinterpret_cast<const std::uint8_t*>(name), length, length_ms);
  }
  bool add_source(std::uintptr_t name, std::int64_t length) {
    return reader_.add_source(reinterpret_cast<const std::uint8_t*>(name), length);
  }
  void fill(const CandleColumns& candles, std::uintptr_t as_of_ms, std::uintptr_t instrument,
            std::uintptr_t granularity, std::uintptr_t source) {
    reader_.columns = {candles, reinterpret_cast<std::int64_t*>(as_of_ms),
                       reinterpret_cast<std::int32_t*>(instrument),
                       reinterpret_cast<std::uint8_t*>(granularity),
                       reinterpret_cast<std::uint8_t*>(source)};
  }
  std::int64_t read(std::uintptr_t data, std::uintptr_t offsets, std::int64_t n) {
    return reader_.read(reinterpret_cast<const std::uint8_t*>(data),
                        reinterpret_cast<const std::int64_t*>(offsets), n);
  }

  std::int32_t instruments() const { return reader_.instruments().count(); }
  std::uintptr_t instrument_address(std::int32_t place) const {
    return reinterpret_cast<std::uintptr_t>(reader_.instruments().bytes(place));
  }
  std::int32_t instrument_length(std::int32_t place) const {
    return reader_.instruments().length(place);
  }

 private:
  FrameReader reader_;
};

/// Writes and reads frames of records according to programs.
class RecordHandle {
 public:
  void expect(std::uintptr_t prefix) {
    std::memcpy(reader_.prefix, reinterpret_cast<const std::uint8_t*>(prefix),
                RecordReader::kPrefix);
  }
  void write(std::uintptr_t fields, std::int32_t count, std::int64_t n, std::uintptr_t ends) {
    writer_.write(reinterpret_cast<const Field*>(fields), count, n,
                  reinterpret_cast<std::int64_t*>(ends));
  }
  std::uintptr_t written() const { return reinterpret_cast<std::uintptr_t>(writer_.bytes()); }

  void read(std::uintptr_t fields, std::int32_t count, std::uintptr_t data, std::uintptr_t ends,
            std::int64_t n, std::uintptr_t plain) {
    reader_.read(reinterpret_cast<const Field*>(fields), count,
                 reinterpret_cast<const std::uint8_t*>(data),
                 reinterpret_cast<const std::int64_t*>(ends), n,
                 reinterpret_cast<std::uint8_t*>(plain));
  }
  std::int32_t words() const { return reader_.words().count(); }
  std::uintptr_t word_address(std::int32_t place) const {
    return reinterpret_cast<std::uintptr_t>(reader_.words().bytes(place));
  }
  std::int32_t word_length(std::int32_t place) const { return reader_.words().length(place); }

 private:
  RecordWriter writer_;
  RecordReader reader_;
};

inline LineHandle* make_lines() { return new (std::nothrow) LineHandle; }
inline FrameHandle* make_frames() { return new (std::nothrow) FrameHandle; }
inline RecordHandle* make_records() { return new (std::nothrow) RecordHandle; }

}  // namespace bindings
}  // namespace manifold
