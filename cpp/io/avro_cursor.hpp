// What is left of an Avro frame while it is read.
#pragma once

#include <cstdint>

namespace manifold {

/// `good` turns false where the frame is cut short or not plain; nothing is read from then on.
struct AvroCursor {
  const std::uint8_t* at = nullptr;
  const std::uint8_t* end = nullptr;
  bool good = true;

  std::uint8_t byte() {
    good = good && at < end;
    return good ? *at++ : 0;
  }
  /// Nine bytes are 63 bits: what is longer is the codec's.
  std::int64_t number() {
    std::uint64_t value = 0;
    for (std::int32_t shift = 0; shift < 63; shift += 7) {
      const std::uint8_t next = byte();
      value |= static_cast<std::uint64_t>(next & 0x7f) << shift;
      if (next < 0x80) {
        return static_cast<std::int64_t>(value >> 1) ^ -static_cast<std::int64_t>(value & 1);
      }
    }
    good = false;
    return 0;
  }
  const std::uint8_t* bytes(std::int64_t length) {
    const std::uint8_t* first = at;
    good = good && length >= 0 && length <= end - at;
    if (good) at += length;
    return first;
  }
};

}  // namespace manifold
