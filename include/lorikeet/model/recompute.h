#pragma once
#include <torch/torch.h>

#include <functional>
#include <vector>

namespace lorikeet {

/// What a recomputed part of a model gives: y with gradient, and a record without one (may be
/// undefined).
struct RecomputeOutput {
  torch::Tensor y;
  torch::Tensor record;
};

/// Activation checkpointing: runs `body` without keeping its graph, and runs it again in backward,
/// from the same random state. Gradients have the bits of a plain run.
/// @param body a function of x and `parameters` alone; must outlive the backward pass
/// @param parameters every leaf that body uses and that wants a gradient
RecomputeOutput recompute(const std::function<RecomputeOutput(const torch::Tensor&)>& body,
                          const torch::Tensor& x, const std::vector<torch::Tensor>& parameters);

}  // namespace lorikeet
