#pragma once
#include "lorikeet/model/feed_forward.h"

namespace lorikeet {

/// DenseFeedForward as ops::merged_ffn with one expert, on a CPU in fp32 and bf16; elsewhere, and
/// where tokens are few, DenseFeedForward's composition of ATen.
class TiledDenseFeedForward : public DenseFeedForward {
 public:
  TiledDenseFeedForward(const ModelConfig& config, const torch::TensorOptions& options);
  FeedForwardOutput forward(const torch::Tensor& x_BLD, const SequenceLayout& layout) override;

 private:
  torch::Tensor gate_FD_, up_FD_, down_DF_;  // the parameters
};

}  // namespace lorikeet
