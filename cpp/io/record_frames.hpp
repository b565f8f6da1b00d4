// Avro frames from columns and columns from frames, by a program made of a record's schema.
//
// A program is the schema's fields in order. The body of an optional and the items of an array are
// the steps up to their `next`; inside an array, columns have one element per item, not per record.
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
  text,      // one of several texts, encoded as in a frame
  number,    // int64
  real,      // double
  boolean,   // one byte, 0 or 1
  optional,  // one byte, 1 where a value is present
  array,     // int64: number of items up to and including this record
};

/// One step of a program; the layout is FIELD_DTYPE of streams/core/layout.py.
struct Field {
  Kind kind;
  std::int32_t next;          // of an optional and an array: the step after it
  std::uint8_t* column;       // its first element; null: the field is skipped when reading
  std::int64_t stride;        // bytes from element to element
  const std::uint8_t* words;  // of a literal and of texts: their bytes
  const std::int64_t* ends;   // of texts: the end of each; of a literal: its length
  // of a number; of the bytes of a text; of the items of an array: the accepted range
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

/// Writes records; its bytes are valid until the next call of `write`.
class RecordWriter {
 public:
  const std::uint8_t* bytes() const { return bytes_.data(); }

  /// Write records [0, n), one after the other; `ends` receives the end of each.
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

/// Fast path for frames of records; frames that need the full decoder are left to the codec.
///
/// Arrays are skipped. A text is the index of its bytes in the words of this call.
class RecordReader {
 public:
  static constexpr std::int32_t kMostWords = 2048;
  static constexpr std::int32_t kLongestWord = 32;
  static constexpr std::int64_t kPrefix = 5;

  std::uint8_t prefix[kPrefix] = {};

  const Interner<kMostWords, kLongestWord>& words() const { return words_; }

  /// Read `n` frames of `data`, which end at `ends`; `plain[i]` is 1 where frame i was read.
  void read(const Field* fields, std::int32_t count, const std::uint8_t* data,
            const std::int64_t* ends, std::int64_t n, std::uint8_t* plain) {
    fields_ = fields;
    words_.clear();
    std::int64_t first = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      cursor_.at = data + first;
      cursor_.end = data + ends[i];
      first = ends[i];
      cursor_.good =
          cursor_.end - cursor_.at >= kPrefix && std::memcmp(cursor_.at, prefix, kPrefix) == 0;
      if (cursor_.good) {
        cursor_.at += kPrefix;
        take(0, count, i, true);
      }
      plain[i] = cursor_.good && cursor_.at == cursor_.end;
    }
  }

 private:
  void take(std::int32_t from, std::int32_t to, std::int64_t i, bool keep) {
    for (std::int32_t at = from; cursor_.good && at < to; ++at) {
      const Field& field = fields_[at];
      const bool kept = keep && field.column != nullptr;
      switch (field.kind) {
        case Kind::literal:
          cursor_.good = false;
          break;
        case Kind::text: {
          const std::int64_t length = cursor_.number();
          const std::uint8_t* text = cursor_.bytes(length);
          cursor_.good = cursor_.good && field.admits(length) && ascii(text, length);
          if (!cursor_.good) break;
          if (kept) {
            const std::int64_t word = words_.intern(text, length);
            cursor_.good = word >= 0;
            field.put(i, word);
          }
          break;
        }
        case Kind::number: {
          const std::int64_t value = cursor_.number();
          cursor_.good = cursor_.good && field.admits(value);
          if (kept) field.put(i, value);
          break;
        }
        case Kind::real: {
          double value = 0.0;
          const std::uint8_t* from_frame = cursor_.bytes(sizeof value);
          if (!cursor_.good) break;
          std::memcpy(&value, from_frame, sizeof value);
          cursor_.good = value - value == 0.0 && field.admits(value);
          if (kept) field.put(i, value);
          break;
        }
        case Kind::boolean: {
          const std::uint8_t value = cursor_.byte();
          cursor_.good = cursor_.good && value <= 1;
          if (kept) field.put(i, value);
          break;
        }
        case Kind::optional: {
          const std::uint8_t branch = cursor_.byte();
          cursor_.good = cursor_.good && (branch == 0 || branch == 2);
          if (kept) field.put(i, static_cast<std::uint8_t>(branch == 2));
          if (branch == 0) at = field.next - 1;
          break;
        }
        case Kind::array: {
          // the codec writes one block, without its size
          const std::int64_t items = cursor_.number();
          cursor_.good = cursor_.good && items >= 0 && field.admits(items);
          for (std::int64_t item = 0; cursor_.good && item < items; ++item) {
            take(at + 1, field.next, item, false);
          }
          if (items > 0) cursor_.good = cursor_.byte() == 0 && cursor_.good;
          at = field.next - 1;
          break;
        }
      }
    }
  }

  /// Other text is left to the codec.
  static bool ascii(const std::uint8_t* bytes, std::int64_t length) {
    std::uint8_t all = 0;
    for (std::int64_t i = 0; i < length; ++i) all |= bytes[i];
    return all < 0x80;
  }

  const Field* fields_ = nullptr;
  AvroCursor cursor_;
  Interner<kMostWords, kLongestWord> words_;
};

}  // namespace manifold
