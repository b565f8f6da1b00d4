// Cursor over the unread bytes of an Avro frame.
#pragma once

#include <cstdint>

namespace manifold {

/// `good` becomes false where the frame is cut short or needs the full decoder; reading then stops.
struct AvroCursor {
  const std::uint8_t* at = nullptr;
  const std::uint8_t* end = nullptr;
  bool good = true;

  std::uint8_t byte() {
    good = good && at < end;
    return good ? *at++ : 0;
  }
  /// Nine bytes are 63 bits; longer numbers are left to the codec.
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
