#pragma once
#include <torch/nn/module.h>

#include <memory>

#include "lorikeet/config/model_config.h"
#include "lorikeet/model/decoding.h"
#include "lorikeet/model/layers.h"
#include "lorikeet/model/sequence_layout.h"

namespace lorikeet {

/// What a feed-forward layer decided, for metrics and analysis; outside the graph.
struct RoutingRecord {
  torch::Tensor weights_GE;  ///< routing weights of each segment, fp32; undefined for a dense layer
};

struct FeedForwardOutput {
  torch::Tensor y_BLD;
  RoutingRecord routing;
};

/// The family of feed-forward layers. Losses and records are returned, never stored, so that a
/// recomputed forward counts nothing twice.
class FeedForward : public torch::nn::Module {
 public:
  /// @param x_BLD normalised block input @return y_BLD of the same shape and dtype
  virtual FeedForwardOutput forward(const torch::Tensor& x_BLD, const SequenceLayout& layout) = 0;

  /// For a sequence that is written token by token. The default is for kinds that treat every token
  /// alone.
  virtual std::unique_ptr<FeedForwardState> start_sequence(GenerationRouting) const {
    return nullptr;
  }
  /// The sequence's next tokens: first the whole prompt, then one at a time. Without gradient.
  /// @param x_BLD [1, L, D] @param state start_sequence's
  virtual torch::Tensor extend(const torch::Tensor& x_BLD, const SequenceLayout& layout,
                               FeedForwardState* /*state*/) {
    return forward(x_BLD, layout).y_BLD;
  }
};

/// SwiGLU (arXiv 2002.05202): (silu(x gate^T) * (x up^T)) down^T.
class DenseFeedForward : public FeedForward {
 public:
  DenseFeedForward(const ModelConfig& config, const torch::TensorOptions& options);
  FeedForwardOutput forward(const torch::Tensor& x_BLD, const SequenceLayout& layout) override;

 private:
  Linear gate_proj_{nullptr}, up_proj_{nullptr}, down_proj_{nullptr};
};

/// The layer that config.feed_forward.kind names.
std::shared_ptr<FeedForward> make_feed_forward(const ModelConfig& config,
                                               const torch::TensorOptions& options);

}  // namespace lorikeet
