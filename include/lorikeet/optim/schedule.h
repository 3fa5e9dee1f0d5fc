#pragma once
#include <cstdint>

#include "lorikeet/config/run_config.h"

namespace lorikeet {

/// The learning rate of one optimizer step; a pure function, nothing to save or restore.
///
/// With n = total_steps, w, d and a the warm-up, decay and anneal in steps, m = n - a, s = step,
/// peak and f = final_fraction of the configuration:
///
///     rate(s)  = peak * ramp(s) * shape(s)                       for s < m
///     rate(s)  = peak * ramp(s) * shape(m) * (1 - (s - m) / a)   from m on: linear to 0
///     ramp(s)  = min(1, (s + 1) / w), and 1 where w is 0: the first step takes peak / w, not 0
///     shape(s) =
///       cosine               f + (1 - f) * (1 + cos(pi * s / m)) / 2
///       linear               1 - (1 - f) * s / m
///       constant             1
///       multi_step           1; 0.316 once s >= 0.8 m; 0.316^2 once s >= 0.9 m (arXiv 2401.06066)
///       warmup_stable_decay  1; from m - d on linear: 1 - (1 - f) * (s - (m - d)) / d
///
/// Cosine and linear run over all m steps and are multiplied by the ramp, as common training
/// scripts do; others begin the cosine where the warm-up ends, and those curves differ slightly. A
/// rate is that of the step's beginning: f (and, annealed, 0) is reached at the end of the last
/// step, so that no step is taken with a rate of 0.
/// @param step  0-based, the step about to be taken; from total_steps on the final value
/// Periods in seconds have no steps: the configuration refuses them here.
double learning_rate(const ScheduleConfig& config, int64_t step, int64_t total_steps,
                     int64_t tokens_per_step);

}  // namespace lorikeet
