#pragma once
#include <torch/torch.h>

#include <cstdint>
#include <vector>

#include "lorikeet/parallel/world.h"
#include "lorikeet/train/batch_loss.h"

namespace lorikeet {

/// What the ranks tell each other at the end of a step, in one exchange.
struct StepSums {
  double loss_sum = 0, first_segment_sum = 0;  ///< over the global batch
  int64_t num_tokens = 0, num_first_segment_tokens = 0;
  torch::Tensor norm;                                 ///< double [], of the global gradient
  bool wants_stop = false, wants_checkpoint = false;  ///< of any rank
  std::vector<double> rank_seconds = {};              ///< each rank's part of the step
  double clock = 0;                                   ///< the first rank's
};

/// One rank's share of them.
struct StepShare {
  const BatchLoss& loss;
  torch::Tensor squares_2;  ///< sum_of_squares of this rank's gradients
  double seconds = 0, clock = 0;
  bool wants_stop = false, wants_checkpoint = false;
};

/// Sums in the order of the ranks, in double.
/// @throws Error(kCommunication) where replicas' gradients are not the same
StepSums add_over_ranks(const StepShare& share, World& world);

}  // namespace lorikeet
