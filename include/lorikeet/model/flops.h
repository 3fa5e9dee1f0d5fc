#pragma once
#include "lorikeet/config/model_config.h"

namespace lorikeet {

/// Matrix FLOPs of one training step per token: 6 a weight that a token meets, 6 for attention's
/// scores and values over half a context, and for merging 8E/T of a feed-forward layer's weights
/// (merge, merge again in backward, gradients of experts and of routing, 2 each; docs/moe.md,
/// "Cost").
double training_flops_per_token(const ModelConfig& config);

}  // namespace lorikeet
