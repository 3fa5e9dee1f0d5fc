#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "lorikeet/analysis/plan.h"
#include "lorikeet/config/run_config.h"

namespace lorikeet {

/// A training step's time, memory and phases.
struct StepTiming {
  double seconds = 0;  ///< the best of the repetitions
  int64_t tokens = 0;  ///< of a step
  double loss = 0;     ///< of the last one
  int64_t parameters = 0;
  int64_t peak_memory_bytes = 0;  ///< of the process so far, as the system counts it
  MemoryPlan planned_memory;      ///< of that configuration on a CPU
  double matrix_flops_per_second = 0;
  double peak_flops_per_second = 0;  ///< of the micro-kernel that the step uses
  /// Of the best step, in its order: "data", "forward attention", ..., "clip", "optimizer";
  /// seconds.
  std::vector<std::pair<std::string, double>> phases;
  double tokens_per_second() const { return static_cast<double>(tokens) / seconds; }
};

/// Takes training steps of `config` on random tokens, as the trainer takes them, on the CPU and in
/// one process: train.batch_sequences in micro-batches made from tokens in memory, forward,
/// backward, clipping, AdamW. train.threads and train.deterministic count, from then on.
/// @param repetitions steps that are timed, after one that is not
StepTiming bench_step(const RunConfig& config, int64_t repetitions);

std::string to_text(const StepTiming& timing);
/// One line.
std::string to_json(const StepTiming& timing);

}  // namespace lorikeet
