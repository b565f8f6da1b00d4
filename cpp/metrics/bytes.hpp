// Writes and reads state bytes, little endian throughout.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "metrics/status.hpp"

namespace manifold {

constexpr std::int32_t kEngineChars = 16;

struct Writer {
  std::uint8_t* at;
  template <class T>
  void put(T value) {
    std::memcpy(at, &value, sizeof value);
    at += sizeof value;
  }
  void put_varint(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) *at++ = static_cast<std::uint8_t>(value | 0x80);
    *at++ = static_cast<std::uint8_t>(value);
  }
  void put_engine() {
    std::memset(at, 0, kEngineChars);
    std::memcpy(at, kEngineVersion, sizeof kEngineVersion);
    at += kEngineChars;
  }
};

struct Reader {
  const std::uint8_t* at;
  const std::uint8_t* end;
  bool good = true;
  template <class T>
  T take() {
    T value{};
    good = good && end - at >= static_cast<std::ptrdiff_t>(sizeof value);
    if (!good) return value;
    std::memcpy(&value, at, sizeof value);
    at += sizeof value;
    return value;
  }
  template <class T>
  void take_into(T& value) {
    value = take<T>();
  }
  std::uint64_t take_varint() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const std::uint8_t byte = take<std::uint8_t>();
      value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    good = false;
    return value;
  }
  /// Read the start of a head: two letters, layout, engine.
  Status take_origin(char first, char second, std::uint16_t layout) {
    const bool named = take<char>() == first && take<char>() == second;
    if (!good) return Status::truncated;
    if (!named || take<std::uint16_t>() != layout) return Status::other_version;
    char engine[kEngineChars] = {};
    for (char& c : engine) c = take<char>();
    if (!good) return Status::truncated;
    if (std::memcmp(engine, kEngineVersion, sizeof kEngineVersion) != 0) {
      return Status::other_engine;
    }
    return Status::ok;
  }
};

}  // namespace manifold
