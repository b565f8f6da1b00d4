// Avro frames out of columns and columns out of frames, by a program made of a record's schema.
//
// A program is the schema's fields in order. The body of an optional and the items of an array are
// the steps up to their `next`; inside an array columns go by item instead of by record.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "io/avro_cursor.hpp"
#include "io/candle_columns.hpp"

namespace manifold {

enum class Kind : std::int32_t {
  literal,   // the same bytes in every record
  text,      // one of several texts, which stand here as they are written
  number,    // int64
  real,      // double
  boolean,   // one byte, 0 or 1
  optional,  // one byte, 1 where it is there
  array,     // int64: how many items there are up to and with this record
};

/// One step of a program; the layout is FIELD_DTYPE of streams/core/layout.py.
struct Field {
  Kind kind;
  std::int32_t next;          // of an optional and an array: the step behind it
  std::uint8_t* column;       // its first element; reading passes over what has none
  std::int64_t stride;        // bytes from element to element
  const std::uint8_t* words;  // of a literal and of texts: their bytes
  const std::int64_t* ends;   // of texts: where each ends; of a literal: its length
  // of a number; of the bytes of a text; of the items of an array: what is read lies between
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();

  template <class T>
  bool admits(T value) const {
    const double real = static_cast<double>(value);
    return low <= real && real <= high;
  }

  template <class T>
  T at(std::int64_t i) const {
    T value;
    std::memcpy(&value, column + i * stride, sizeof value);
    return value;
  }
  template <class T>
  void put(std::int64_t i, T value) const {
    if (column != nullptr) std::memcpy(column + i * stride, &value, sizeof value);
  }
};
static_assert(sizeof(Field) == 56, "FIELD_DTYPE is 56 bytes");

/// Writes records; what it has written stays until it writes again.
class RecordWriter {
 public:
  const std::uint8_t* bytes() const { return bytes_.data(); }

  /// Write records [0, n), one behind the other; `ends` is told where each ends.
  void write(const Field* fields, std::int32_t count, std::int64_t n, std::int64_t* ends) {
    fields_ = fields;
    length_ = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      put(0, count, i);
      ends[i] = static_cast<std::int64_t>(length_);
    }
  }

 private:
  static constexpr std::size_t kLongestNumber = 10;

  void put(std::int32_t from, std::int32_t to, std::int64_t i) {
    for (std::int32_t at = from; at < to; ++at) {
      const Field& field = fields_[at];
      switch (field.kind) {
        case Kind::literal:
          put_bytes(field.words, field.ends[0]);
          break;
        case Kind::text: {
          const std::int64_t word = field.at<std::int64_t>(i);
          const std::int64_t first = word == 0 ? 0 : field.ends[word - 1];
          put_bytes(field.words + first, field.ends[word] - first);
          break;
        }
        case Kind::number:
          put_number(field.at<std::int64_t>(i));
          break;
        case Kind::real:
          put_bytes(field.column + i * field.stride, sizeof(double));
          break;
        case Kind::boolean:
          put_byte(field.at<std::uint8_t>(i));
          break;
        case Kind::optional:
          if (field.at<std::uint8_t>(i) == 0) {
            put_byte(0);
            at = field.next - 1;
          } else {
            put_byte(2);
          }
          break;
        case Kind::array: {
          const std::int64_t end = field.at<std::int64_t>(i);
          const std::int64_t first = i == 0 ? 0 : field.at<std::int64_t>(i - 1);
          if (end > first) put_number(end - first);
          for (std::int64_t item = first; item < end; ++item) put(at + 1, field.next, item);
          put_byte(0);
          at = field.next - 1;
          break;
        }
      }
    }
  }

  std::uint8_t* room(std::size_t more) {
    if (length_ + more > bytes_.size()) bytes_.resize(2 * (length_ + more));
    return bytes_.data() + length_;
  }
  void put_byte(std::uint8_t value) {
    *room(1) = value;
    ++length_;
  }
  void put_bytes(const std::uint8_t* from, std::int64_t length) {
    const std::size_t size = static_cast<std::size_t>(length);
    std::memcpy(room(size), from, size);
    length_ += size;
  }
  void put_number(std::int64_t value) {
    std::uint64_t rest = (static_cast<std::uint64_t>(value) << 1) ^
                         static_cast<std::uint64_t>(value >> 63);
    std::uint8_t* at = room(kLongestNumber);
    for (; rest >= 0x80; rest >>= 7, ++length_) *at++ = static_cast<std::uint8_t>(rest | 0x80);
    *at = static_cast<std::uint8_t>(rest);
    ++length_;
  }

  const Field* fields_ = nullptr;
  std::vector<std::uint8_t> bytes_;
  std::size_t length_ = 0;
};

/// Reads records whose frames are beyond doubt; all others are left to the codec.
///
/// Arrays are passed over. A text is the place of its bytes among the words met in this call.
class RecordReader {
 public:
  static constexpr std::int32_t kMostWords = 2048;
  static constexpr std::int32_t kLongestWord = 32;
  static constexpr std::int64_t kPrefix = 5;

  std::uint8_t prefix[kPrefix] = {};

  const Interner<kMostWords, kLongestWord>& words() const { return words_; }

  /// Read `n` frames of `data`, which end at `ends`; `plain` is told of each whether it was read.
  void read(const Field* fields, std::int32_t count, const std::uint8_t* data,
            const std::int64_t* ends, std::int64_t n, std::uint8_t* plain) {
    fields_ = fields;
    words_.clear();
    std::int64_t first = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      rest_.at = data + first;
      rest_.end = data + ends[i];
      first = ends[i];
      rest_.good = rest_.end - rest_.at >= kPrefix && std::memcmp(rest_.at, prefix, kPrefix) == 0;
      if (rest_.good) {
        rest_.at += kPrefix;
        take(0, count, i, true);
      }
      plain[i] = rest_.good && rest_.at == rest_.end;
    }
  }

 private:
  void take(std::int32_t from, std::int32_t to, std::int64_t i, bool keep) {
    for (std::int32_t at = from; rest_.good && at < to; ++at) {
      const Field& field = fields_[at];
      const bool kept = keep && field.column != nullptr;
      switch (field.kind) {
        case Kind::literal:
          rest_.good = false;
          break;
        case Kind::text: {
          const std::int64_t length = rest_.number();
          const std::uint8_t* text = rest_.bytes(length);
          rest_.good = rest_.good && field.admits(length) && ascii(text, length);
          if (!rest_.good) break;
          if (kept) {
            const std::int64_t word = words_.intern(text, length);
            rest_.good = word >= 0;
            field.put(i, word);
          }
          break;
        }
        case Kind::number: {
          const std::int64_t value = rest_.number();
          rest_.good = rest_.good && field.admits(value);
          if (kept) field.put(i, value);
          break;
        }
        case Kind::real: {
          double value = 0.0;
          const std::uint8_t* from_frame = rest_.bytes(sizeof value);
          if (!rest_.good) break;
          std::memcpy(&value, from_frame, sizeof value);
          rest_.good = value - value == 0.0 && field.admits(value);
          if (kept) field.put(i, value);
          break;
        }
        case Kind::boolean: {
          const std::uint8_t value = rest_.byte();
          rest_.good = rest_.good && value <= 1;
          if (kept) field.put(i, value);
          break;
        }
        case Kind::optional: {
          const std::uint8_t branch = rest_.byte();
          rest_.good = rest_.good && (branch == 0 || branch == 2);
          if (kept) field.put(i, static_cast<std::uint8_t>(branch == 2));
          if (branch == 0) at = field.next - 1;
          break;
        }
        case Kind::array: {
          // the codec writes one block, without its size
          const std::int64_t items = rest_.number();
          rest_.good = rest_.good && items >= 0 && field.admits(items);
          for (std::int64_t item = 0; rest_.good && item < items; ++item) {
            take(at + 1, field.next, item, false);
          }
          if (items > 0) rest_.good = rest_.byte() == 0 && rest_.good;
          at = field.next - 1;
          break;
        }
      }
    }
  }

  /// What else is text is the codec's to say.
  static bool ascii(const std::uint8_t* bytes, std::int64_t length) {
    std::uint8_t all = 0;
    for (std::int64_t i = 0; i < length; ++i) all |= bytes[i];
    return all < 0x80;
  }

  const Field* fields_ = nullptr;
  AvroCursor rest_;
  Interner<kMostWords, kLongestWord> words_;
};

}  // namespace manifold
