#pragma once
#include <cstdint>

#include "lorikeet/config/model_config.h"

namespace lorikeet {

/// Parameters by kind, counted on a model that is built on the meta device: exactly what training
/// would allocate, without allocating it.
struct ParameterCount {
  int64_t embeddings = 0;    ///< input embedding and head
  int64_t attention = 0;     ///< projections and their norms
  int64_t feed_forward = 0;  ///< dense layers
  int64_t experts = 0;
  int64_t routers = 0;
  int64_t norms = 0;
  int64_t num_experts = 1;

  int64_t total() const {
    return embeddings + attention + feed_forward + experts + routers + norms;
  }
  /// What one token meets: a merged layer counts as one expert.
  int64_t active() const { return total() - experts + experts / num_experts; }
};

ParameterCount count_parameters(const ModelConfig& config);

}  // namespace lorikeet
