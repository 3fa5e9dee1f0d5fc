#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "lorikeet/config/run_config.h"
#include "lorikeet/model/parameter_count.h"

namespace lorikeet {

/// Bytes that one rank holds at the height of a step. The sum is a little too much: logits are gone
/// before the layers' backward needs its workspace.
struct MemoryPlan {
  int64_t parameters = 0;      ///< fp32 masters
  int64_t gradients = 0;       ///< fp32
  int64_t optimizer = 0;       ///< both moments, fp32
  int64_t compute_copies = 0;  ///< bf16 weights that the graph keeps until backward
  int64_t activations = 0;     ///< estimate: what the graph keeps of one micro-batch
  int64_t recomputed = 0;      ///< estimate: what checkpointing rebuilds of one layer in backward
  int64_t logits = 0;          ///< estimate: logits and their gradient, as many as exist at once

  // The workspace of merged_ffn's backward: one layer at a time.
  int64_t merge_workspace = 0;   ///< merged weights of the segments in hand, their fp32 gradients,
                                 ///< and the products of the longest segment
  int64_t expert_copies = 0;     ///< fp32 copies of the experts; none where they are fp32
  int64_t expert_gradients = 0;  ///< fp32 sums over segments, before they join `gradients`

  int64_t total() const {
    return parameters + gradients + optimizer + compute_copies + activations + recomputed + logits +
           merge_workspace + expert_copies + expert_gradients;
  }
};

/// Bytes that one rank sends in a step (docs/parallel.md), padding left out.
struct WirePlan {
  int64_t gradients = 0;
  int64_t parameters = 0;
};

/// What a configuration asks for, computed without allocating or reading anything.
struct RunPlan {
  ParameterCount parameters;
  MemoryPlan memory;
  WirePlan wire;
  int64_t ranks = 1;  ///< replicate x shard x slice; `replicate: auto` counts as 1
  int64_t total_steps = 0;
  int64_t tokens_per_step = 0;
  int64_t accumulation = 1;  ///< micro-batches a rank takes a step
  int64_t warmup_steps = 0;
  int64_t dense_warmup_steps = 0;
  double flops_per_token = 0;  ///< matrix products, forward and backward, merging included
  int64_t total_tokens() const { return total_steps * tokens_per_step; }
};

RunPlan plan_run(const RunConfig& config);

/// The plan as aligned text, numbers with thousands separators.
std::string to_text(const RunPlan& plan, const RunConfig& config);

}  // namespace lorikeet
