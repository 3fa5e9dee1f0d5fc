#pragma once
#include <torch/torch.h>

#include "lorikeet/model/initialise.h"
#include "lorikeet/model/language_model.h"
#include "lorikeet/ops/functions.h"

namespace lorikeet::testing_models {

/// A model of a few thousand parameters: 2 layers, segments of 4, contexts of 16.
inline ModelConfig tiny_config(FeedForwardKind kind = FeedForwardKind::kMerged) {
  ModelConfig config;
  config.hidden_size = 16;
  config.num_layers = 2;
  config.num_heads = 2;
  config.ffn_size = 24;
  config.vocab_size = 50;
  config.context_length = 16;
  config.init_std = 0.3;  // large enough that routing and attention are far from uniform
  config.feed_forward.kind = kind;
  config.feed_forward.num_experts = 3;
  config.feed_forward.segment_length = 4;
  config.feed_forward.router_init_std = 1.0;
  return config;
}

inline LanguageModel make_model(const ModelConfig& config,
                                torch::ScalarType dtype = torch::kFloat32, int64_t seed = 1) {
  LanguageModel model(config, torch::TensorOptions(dtype));
  initialise_parameters(*model, seed);
  return model;
}

inline torch::Tensor random_ids(const ModelConfig& config, int64_t batch, int64_t length,
                                int64_t seed = 5) {
  torch::manual_seed(seed);
  return torch::randint(config.vocab_size, {batch, length}, torch::kLong);
}

/// [B, L, V]
inline torch::Tensor log_probabilities(LanguageModel& model, const torch::Tensor& ids,
                                       const std::vector<DocumentLengths>& documents = {}) {
  const torch::NoGradGuard no_grad;
  return torch::log_softmax(model->logits(model->forward(ids, documents).hidden_BLD), -1);
}

/// Mean loss of predicting each next token of ids [B, L+1].
inline torch::Tensor mean_loss(LanguageModel& model, const torch::Tensor& ids) {
  const auto output = model->forward(ids.narrow(1, 0, ids.size(1) - 1));
  return ops::token_losses(model->logits(output.hidden_BLD).flatten(0, 1),
                           ids.narrow(1, 1, ids.size(1) - 1).flatten())
      .mean();
}

}  // namespace lorikeet::testing_models
