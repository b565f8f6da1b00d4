// Unit tests of the frames of records in C++. Prints what fails; exit code 1.
//
// Compiled with sanitizers it also tests that no damaged frame is read beyond its end.
#include <cstdio>
#include <limits>
#include <string>
#include <vector>

#include "io/record_frames.hpp"

using namespace manifold;

namespace {

int failures = 0;

void expect(bool good, const char* what) {
  if (good) return;
  ++failures;
  std::printf("FAILED: %s\n", what);
}

struct Chance {
  std::uint64_t state = 20260101;
  std::uint64_t next() {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state >> 11;
  }
};

constexpr std::int64_t kRecords = 200;
const std::uint8_t kPrefix[] = {0, 0, 0, 1, 2};

/// Columns of a record: a text, a number, an optional real, items of a text and a boolean, a flag.
struct Columns {
  std::vector<std::int64_t> word, number, items, item_word;
  std::vector<double> real;
  std::vector<std::uint8_t> there, item_flag, flag;
  std::vector<std::uint8_t> words = {2, 'a', 4, 'b', 'c', 0};
  std::vector<std::int64_t> ends = {2, 5, 6};
  std::int64_t prefix = sizeof kPrefix;

  explicit Columns(Chance& chance) {
    std::int64_t total = 0;
    for (std::int64_t i = 0; i < kRecords; ++i) {
      word.push_back(static_cast<std::int64_t>(chance.next() % 3));
      const std::int64_t size = static_cast<std::int64_t>(chance.next() % 62);
      const std::int64_t value = static_cast<std::int64_t>(chance.next()) & ((1LL << size) - 1);
      number.push_back(chance.next() % 2 == 0 ? value : -value);
      there.push_back(chance.next() % 2 == 0);
      real.push_back(static_cast<double>(chance.next() % 1000) / 7.0);
      flag.push_back(chance.next() % 2 == 0);
      const std::int64_t more = static_cast<std::int64_t>(chance.next() % 4);
      for (std::int64_t item = 0; item < more; ++item) {
        item_word.push_back(static_cast<std::int64_t>(chance.next() % 3));
        item_flag.push_back(chance.next() % 2 == 0);
      }
      items.push_back(total += more);
    }
  }

  template <class T>
  static Field field(Kind kind, std::vector<T>& column, std::int32_t next = 0) {
    return {kind, next, reinterpret_cast<std::uint8_t*>(column.data()), sizeof(T), nullptr, nullptr};
  }
  Field text(std::vector<std::int64_t>& column) {
    Field made = field(Kind::text, column);
    made.words = words.data();
    made.ends = ends.data();
    return made;
  }
  /// `first` is the number of steps before the record's own.
  std::vector<Field> record(std::int32_t first) {
    return {text(word),
            field(Kind::number, number),
            field(Kind::optional, there, first + 4),
            field(Kind::real, real),
            field(Kind::array, items, first + 7),
            text(item_word),
            field(Kind::boolean, item_flag),
            field(Kind::boolean, flag)};
  }
  std::vector<Field> writing() {
    std::vector<Field> fields = record(1);
    fields.insert(fields.begin(), Field{Kind::literal, 0, nullptr, 0, kPrefix, &prefix});
    return fields;
  }
};

std::vector<std::vector<std::uint8_t>> written(Columns& columns) {
  RecordWriter writer;
  std::vector<std::int64_t> ends(kRecords);
  const std::vector<Field> fields = columns.writing();
  writer.write(fields.data(), static_cast<std::int32_t>(fields.size()), kRecords, ends.data());
  std::vector<std::vector<std::uint8_t>> frames;
  std::int64_t first = 0;
  for (const std::int64_t end : ends) {
    frames.emplace_back(writer.bytes() + first, writer.bytes() + end);
    first = end;
  }
  return frames;
}

/// Values of one frame; false where it was left to the codec.
struct Found {
  std::int64_t word = -1, number = 0;
  double real = 0.0;
  std::uint8_t there = 0, flag = 0;
  std::string text;

  bool read(const std::vector<std::uint8_t>& frame) {
    const auto step = [](Kind kind, void* to, std::int32_t next = 0) {
      return Field{kind, next, static_cast<std::uint8_t*>(to), 8, nullptr, nullptr};
    };
    const Field fields[] = {
        step(Kind::text, &word),    step(Kind::number, &number), step(Kind::optional, &there, 4),
        step(Kind::real, &real),    step(Kind::array, nullptr, 7), step(Kind::text, nullptr),
        step(Kind::boolean, nullptr), step(Kind::boolean, &flag)};
    RecordReader reader;
    std::memcpy(reader.prefix, kPrefix, sizeof kPrefix);
    // a buffer of exactly that size, so that a sanitizer sees the first byte beyond it
    std::uint8_t* data = new std::uint8_t[frame.size()];
    if (!frame.empty()) std::memcpy(data, frame.data(), frame.size());
    const std::int64_t end = static_cast<std::int64_t>(frame.size());
    std::uint8_t plain = 2;
    reader.read(fields, 8, data, &end, 1, &plain);
    delete[] data;
    if (plain == 1) {
      const std::int32_t place = static_cast<std::int32_t>(word);
      text.assign(reinterpret_cast<const char*>(reader.words().bytes(place)),
                  static_cast<std::size_t>(reader.words().length(place)));
    }
    expect(plain <= 1, "a frame is read or left");
    return plain == 1;
  }
};

void test_what_is_written_is_read() {
  Chance chance;
  Columns columns(chance);
  const std::string texts[] = {"a", "bc", ""};
  const auto frames = written(columns);
  for (std::size_t i = 0; i < frames.size(); ++i) {
    Found found;
    expect(found.read(frames[i]), "a whole frame is read");
    expect(found.text == texts[columns.word[i]], "its text");
    expect(found.number == columns.number[i], "its number");
    expect(found.there == columns.there[i], "whether the optional is there");
    expect(!found.there || found.real == columns.real[i], "its real");
    expect(found.flag == columns.flag[i], "its flag");
  }
}

void test_numbers_at_their_bounds_are_written() {
  std::vector<std::int64_t> numbers = {std::numeric_limits<std::int64_t>::min(),
                                       std::numeric_limits<std::int64_t>::max(), 0, -1, 63, -64};
  const Field field = Columns::field(Kind::number, numbers);
  std::vector<std::int64_t> ends(numbers.size());
  RecordWriter writer;
  writer.write(&field, 1, static_cast<std::int64_t>(numbers.size()), ends.data());
  expect(ends == std::vector<std::int64_t>({10, 20, 21, 22, 23, 24}), "lengths of numbers");
  expect(writer.bytes()[0] == 0xff && writer.bytes()[9] == 0x01, "the least number");
  expect(writer.bytes()[10] == 0xfe && writer.bytes()[19] == 0x01, "the greatest number");
  expect(writer.bytes()[20] == 0 && writer.bytes()[21] == 1, "nothing, and one less");
}

void test_damage_is_noticed() {
  Chance chance;
  Columns columns(chance);
  for (const auto& frame : written(columns)) {
    for (std::size_t length = 0; length < frame.size(); ++length) {
      Found found;
      expect(!found.read({frame.begin(), frame.begin() + static_cast<std::ptrdiff_t>(length)}),
             "a frame that is cut short is left");
    }
    std::vector<std::uint8_t> longer = frame;
    longer.push_back(0);
    expect(!Found().read(longer), "a frame with something behind it is left");
    for (int i = 0; i < 50; ++i) {
      std::vector<std::uint8_t> other = frame;
      other[chance.next() % other.size()] = static_cast<std::uint8_t>(chance.next());
      Found().read(other);
    }
  }
}

}  // namespace

int main() {
  test_what_is_written_is_read();
  test_numbers_at_their_bounds_are_written();
  test_damage_is_noticed();
  if (failures == 0) std::printf("all good\n");
  return failures == 0 ? 0 : 1;
}
