#pragma once
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "lorikeet/config/model_config.h"

namespace lorikeet {

/// Routing weights from a pooled input: e = softmax(R x), R [E, D] (Lory, arXiv 2405.03133,
/// section 3.1), in fp32. SMEAR's options (arXiv 2306.03745 and its released code) are off unless
/// asked for; see docs/moe.md.
class RouterImpl : public torch::nn::Module {
 public:
  RouterImpl(const ModelConfig& config, const torch::TensorOptions& options);

  /// @param pooled_GD [G, D], fp32 or fp64 @return [G, E], rows that add up to 1, same dtype
  torch::Tensor forward(const torch::Tensor& pooled_GD);
  /// What routes a first segment that has no decision of its own: uniform, or softmax of the
  /// learned `prior`.
  /// @return [1, E] in `options`
  torch::Tensor prior(const torch::TensorOptions& options) const;

  torch::Tensor weight;  ///< [E, D]

 private:
  torch::Tensor drop_experts(const torch::Tensor& weights_GE) const;

  int64_t num_experts_;
  SmearConfig smear_;
  torch::Tensor bias_;                                 ///< [E], router_bias
  torch::Tensor gain_;                                 ///< [1], router_norm
  torch::Tensor input_norm_weight_, input_norm_bias_;  ///< [D], input_norm
  torch::Tensor prior_;                                ///< [E] logits, first_segment: learned
};
TORCH_MODULE(Router);

}  // namespace lorikeet
