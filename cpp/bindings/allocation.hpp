// Python bindings of the allocator.
#pragma once

#include <cstdint>
#include <memory>
#include <new>

#include "allocation/allocation.hpp"

namespace manifold {
namespace bindings {

class AllocatorHandle {
 public:
  AllocationRules rules{};

  /// Close `epochs` epochs; row e of `open` and `scores` has one cell per member. Row e of
  /// `actions` and `reasons` has the result; the shares are appended to `shares`, whose capacity
  /// is `room`, and end before `ends[e]`. Returns the number of epochs closed.
  std::int64_t run(std::int64_t epochs, std::int64_t members, std::uintptr_t epoch_ms,
                   std::uintptr_t ids, std::uintptr_t open, std::uintptr_t scores,
                   std::uintptr_t actions, std::uintptr_t reasons, std::uintptr_t since,
                   std::uintptr_t shares, std::int64_t room, std::uintptr_t ends) {
    Share* to = as<Share>(shares);
    std::int64_t written = 0;
    for (std::int64_t e = 0; e < epochs; ++e) {
      const Allocator::Outcome outcome =
          allocator_.step(as<std::int64_t>(epoch_ms)[e], members, as<std::int64_t>(ids),
                          as<std::uint8_t>(open) + e * members,
                          as<double>(scores) + e * members, rules);
      as<std::int32_t>(actions)[e] = static_cast<std::int32_t>(outcome.action);
      as<std::int32_t>(reasons)[e] = static_cast<std::int32_t>(outcome.why);
      as<std::int64_t>(since)[e] = allocator_.since_ms();
      for (const Share& share : allocator_.shares()) {
        if (written < room) to[written++] = share;
      }
      as<std::int64_t>(ends)[e] = written;
    }
    return epochs;
  }

  void restore(std::uintptr_t shares, std::int64_t count, std::int64_t since_ms) {
    allocator_.restore(as<Share>(shares), count, since_ms);
  }

 private:
  template <class T>
  static T* as(std::uintptr_t address) {
    return reinterpret_cast<T*>(address);
  }

  Allocator allocator_;
};

inline AllocatorHandle* make_allocator() { return new (std::nothrow) AllocatorHandle; }
inline void drop_allocator(AllocatorHandle* allocator) { delete allocator; }

}  // namespace bindings
}  // namespace manifold
