// Top-K selection and weights of an epoch, and holding of weights (docs/spec/trading-loop.md 4).
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace manifold {

struct AllocationRules {
  std::int64_t top_k, max_hold_ms;
  double target_pct, max_position_pct;
};

/// One instrument's share; the layout is ENTRY_DTYPE of streams/core/allocation.py.
struct Share {
  std::int64_t id;  // the caller's number of the instrument
  double score, weight, exposure;
};
static_assert(sizeof(Share) == 32, "ENTRY_DTYPE is 32 bytes");

class Allocator {
 public:
  static constexpr std::int64_t kNever = INT64_MIN;

  enum class Action : std::int32_t { published = 0, held = 1, cleared = 2 };
  enum class Why : std::int32_t { selected = 0, none_eligible = 1, hold_expired = 2 };

  struct Outcome {
    Action action;
    Why why;
  };

  /// Close an epoch. `ids` are the members, sorted by name; `open` is 1 where a member may get a
  /// weight; a score that is not above zero (NaN included) gets none. `shares()` has the result.
  Outcome step(std::int64_t epoch_ms, std::int64_t members, const std::int64_t* ids,
               const std::uint8_t* open, const double* scores, const AllocationRules& rules) {
    ranked_.clear();
    for (std::int64_t i = 0; i < members; ++i) {
      const bool finite = scores[i] - scores[i] == 0.0;
      if (open[i] && finite && scores[i] > 0.0) ranked_.push_back(i);
    }
    if (!ranked_.empty()) {
      select(ids, scores, rules);
      since_ms_ = kNever;
      return {Action::published, Why::selected};
    }
    // members are in the order of their names: one that left the universe keeps no weight
    const auto gone = [&](const Share& share) {
      return std::find(ids, ids + members, share.id) == ids + members;
    };
    shares_.erase(std::remove_if(shares_.begin(), shares_.end(), gone), shares_.end());
    if (shares_.empty()) return cleared(Why::none_eligible);
    if (since_ms_ == kNever) since_ms_ = epoch_ms;
    if (epoch_ms - since_ms_ >= rules.max_hold_ms) return cleared(Why::hold_expired);
    return {Action::held, Why::none_eligible};
  }

  const std::vector<Share>& shares() const { return shares_; }
  std::int64_t since_ms() const { return since_ms_; }

  /// Restore the shares published last.
  void restore(const Share* shares, std::int64_t count, std::int64_t since_ms) {
    shares_.assign(shares, shares + count);
    since_ms_ = since_ms;
  }

 private:
  /// Sort by score, descending, ties by name; weights are proportional to the scores.
  void select(const std::int64_t* ids, const double* scores, const AllocationRules& rules) {
    const auto better = [&](std::int64_t a, std::int64_t b) {
      return scores[a] != scores[b] ? scores[a] > scores[b] : a < b;
    };
    std::sort(ranked_.begin(), ranked_.end(), better);
    if (static_cast<std::int64_t>(ranked_.size()) > rules.top_k) {
      ranked_.resize(static_cast<std::size_t>(rules.top_k));
    }
    double total = 0.0;
    for (const std::int64_t i : ranked_) total += scores[i];
    std::sort(ranked_.begin(), ranked_.end());
    shares_.clear();
    for (const std::int64_t i : ranked_) {
      const double weight = scores[i] / total;
      const double wanted = weight * rules.target_pct;
      const double exposure = wanted < rules.max_position_pct ? wanted : rules.max_position_pct;
      shares_.push_back({ids[i], scores[i], weight, exposure});
    }
  }

  Outcome cleared(Why why) {
    shares_.clear();
    since_ms_ = kNever;
    return {Action::cleared, why};
  }

  std::vector<Share> shares_;
  std::vector<std::int64_t> ranked_;
  std::int64_t since_ms_ = kNever;
};

}  // namespace manifold
