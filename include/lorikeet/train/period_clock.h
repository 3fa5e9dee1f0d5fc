#pragma once
#include <cstdint>

#include "lorikeet/config/quantity.h"

namespace lorikeet {

/// Says when something periodic is due. Steps, tokens and percent are turned into a number of
/// steps, so that they fall on the same steps whenever a run was resumed; seconds count from the
/// last time, on the first rank's clock, so that the ranks agree.
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

  /// @param step steps taken so far @param now StepReport::clock
  bool is_due(int64_t step, double now) {
    if (!is_timed_) return is_due_at(step);
    if (now - last_ < seconds_) return false;
    last_ = now;
    return true;
  }
  /// For a period that is not in seconds.
  bool is_due_at(int64_t step) const { return steps_ > 0 && step % steps_ == 0; }
  bool is_timed() const { return is_timed_; }

 private:
  bool is_timed_;
  int64_t steps_ = 0;
  double seconds_ = 0, last_ = 0;
};

}  // namespace lorikeet
