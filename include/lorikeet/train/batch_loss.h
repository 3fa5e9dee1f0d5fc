#pragma once
#include <torch/torch.h>

#include <cstdint>
#include <vector>

#include "lorikeet/data/packing.h"
#include "lorikeet/model/language_model.h"

namespace lorikeet {

/// Sequences on the model's device: L inputs, L targets, and the documents among the inputs.
struct TokenBatch {
  torch::Tensor inputs_BL, targets_BL;  ///< int64
  std::vector<DocumentLengths> documents;
  int64_t num_tokens() const { return inputs_BL.numel(); }
};

/// @param sequences all of one length; copied through pinned memory to a CUDA device
TokenBatch make_batch(const std::vector<Sequence>& sequences, torch::Device device);

/// The loss of a batch as sums, so that batches of any size add up to the loss of the global batch:
/// sum over tokens / number of tokens.
struct BatchLoss {
  torch::Tensor sum;                ///< [], fp32, with gradient
  torch::Tensor first_segment_sum;  ///< [], without
  int64_t num_tokens = 0;
  int64_t num_first_segment_tokens = 0;
  std::vector<RoutingRecord> routing;
};

/// Next-token cross-entropy. First segments (of contexts, or of documents where segment_scope says
/// so) are summed apart too: their routing is special, and for dense models they are the
/// comparison.
BatchLoss compute_loss(LanguageModel& model, const TokenBatch& batch);

}  // namespace lorikeet
