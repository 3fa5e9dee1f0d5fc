#pragma once
#include <torch/torch.h>

#include "lorikeet/parallel/sharded_parameters.h"
#include "lorikeet/parallel/world.h"

namespace lorikeet {

/// Ranks that hold the same parameters compare checksums of them. On all ranks together.
/// @throws Error(kCommunication) on all, naming two ranks that differ
void require_replicas_agree(const ShardedParameters& parameters, World& world);

/// The same for what all ranks know already: sum_of_squares of each rank's gradients.
/// @param squares_PK  double, on the CPU, a row a rank
void require_same_gradients(const torch::Tensor& squares_PK, World& world);

}  // namespace lorikeet
