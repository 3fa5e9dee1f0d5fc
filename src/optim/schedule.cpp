#include "lorikeet/optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace lorikeet {
namespace {

constexpr double kMultiStepFactor = 0.316;

/// Progress from `begin`, 0, to `end`, 1; an empty stretch is over.
double progress(int64_t step, int64_t begin, int64_t end) {
  if (step >= end) return 1;
  return static_cast<double>(step - begin) / static_cast<double>(end - begin);
}

/// @param main_steps   the run without the anneal
/// @param decay_steps  last phase of warmup_stable_decay
double shape(const ScheduleConfig& config, int64_t step, int64_t main_steps, int64_t decay_steps) {
  const double done = progress(step, 0, main_steps);
  const double f = config.final_fraction;
  switch (config.kind) {
    case ScheduleKind::kCosine:
      return f + (1 - f) * 0.5 * (1 + std::cos(std::numbers::pi * done));
    case ScheduleKind::kLinear:
      return 1 - (1 - f) * done;
    case ScheduleKind::kConstant:
      return 1;
    case ScheduleKind::kMultiStep:
      // In whole numbers: 0.8 * 10 in floating point must not decide which step is the first.
      if (step >= main_steps - main_steps / 10) return kMultiStepFactor * kMultiStepFactor;
      return step >= main_steps - main_steps / 5 ? kMultiStepFactor : 1;
    case ScheduleKind::kWarmupStableDecay: {
      const int64_t decay_begin = main_steps - decay_steps;
      if (step < decay_begin || decay_steps == 0) return 1;
      return 1 - (1 - f) * progress(step, decay_begin, main_steps);
    }
  }
  return 1;
}

}  // namespace

double learning_rate(const ScheduleConfig& config, int64_t step, int64_t total_steps,
                     int64_t tokens_per_step) {
  const auto steps = [&](const Period& p) { return p.to_steps(total_steps, tokens_per_step); };
  const int64_t warmup = steps(config.warmup);
  const int64_t main_steps = total_steps - steps(config.anneal);
  const int64_t decay = steps(config.decay);

  double rate = config.peak * shape(config, std::min(step, main_steps), main_steps, decay);
  if (step < warmup) rate *= static_cast<double>(step + 1) / static_cast<double>(warmup);
  if (step >= main_steps && main_steps < total_steps) {
    rate *= 1 - progress(step, main_steps, total_steps);
  }
  return rate;
}

}  // namespace lorikeet
