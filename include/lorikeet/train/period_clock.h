#pragma once
#include <chrono>
#include <cstdint>

#include "lorikeet/config/quantity.h"

namespace lorikeet {

/// Says when something periodic is due. Steps, tokens and percent are turned into a number of
/// steps, so that they fall on the same steps whenever a run was resumed; seconds count from the
/// last time.
class PeriodClock {
 public:
  PeriodClock(const Period& period, int64_t total_steps, int64_t tokens_per_step)
      : is_timed_(period.unit == Period::Unit::kSeconds && !period.is_never()) {
    if (is_timed_) {
      seconds_ = period.value;
    } else if (!period.is_never()) {
      steps_ = period.to_steps(total_steps, tokens_per_step);
    }
  }

  /// @param step steps taken so far
  bool is_due(int64_t step) {
    if (!is_timed_) return steps_ > 0 && step % steps_ == 0;
    const auto now = std::chrono::steady_clock::now();
    if (std::chrono::duration<double>(now - last_).count() < seconds_) return false;
    last_ = now;
    return true;
  }

  /// 0 for never and for a period in seconds.
  int64_t steps() const { return steps_; }

 private:
  bool is_timed_;
  int64_t steps_ = 0;
  double seconds_ = 0;
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

}  // namespace lorikeet
