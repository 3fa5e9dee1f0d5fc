#pragma once
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "lorikeet/config/run_config.h"
#include "lorikeet/model/parameter_count.h"

namespace lorikeet {

/// Bytes that one rank holds at the height of a step. It comes while the loss is computed or while
/// the last layer, the first in backward, has its turn: the larger of the two counts.
struct MemoryPlan {
  int64_t program = 0;      ///< code, libraries and their own memory, on a CPU
  int64_t parameters = 0;   ///< fp32 masters
  int64_t gradients = 0;    ///< fp32
  int64_t whole_units = 0;  ///< of shards: units that are whole while in use, and their gradients
  int64_t optimizer = 0;    ///< both moments, fp32
  int64_t compute_copies = 0;  ///< bf16 weights that the graph keeps until backward
  int64_t activations = 0;     ///< estimate: what the graph keeps of one micro-batch

  // While the loss is computed.
  int64_t logits = 0;          ///< estimate: they and their gradient, as many as exist at once
  int64_t head_gradients = 0;  ///< of the head, in fp32, and of the last hidden states

  // While one layer has its turn in backward.
  int64_t recomputed = 0;        ///< estimate: what checkpointing rebuilds of it
  int64_t merge_workspace = 0;   ///< of merged_ffn: merged weights of the segments in hand, their
                                 ///< fp32 gradients, and the products of the longest segment
  int64_t expert_copies = 0;     ///< fp32 copies of the experts; none where they are fp32
  int64_t expert_gradients = 0;  ///< fp32 sums over segments, before they join `gradients`

  int64_t head() const { return logits + head_gradients; }
  int64_t layer() const { return recomputed + merge_workspace + expert_copies + expert_gradients; }
  int64_t total() const {
    return program + parameters + gradients + whole_units + optimizer + compute_copies +
           activations + std::max(head(), layer());
  }
};

/// What some of a plan's memory is for.
struct MemoryKind {
  const char* name;
  int64_t bytes;
  const char* note;
};
/// All but those that are zero, in the order of the struct.
std::vector<MemoryKind> by_kind(const MemoryPlan& memory);

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
