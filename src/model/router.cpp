#include "lorikeet/model/router.h"

#include <torch/torch.h>

namespace lorikeet {

namespace {
constexpr double kLayerNormEps = 1e-5;
constexpr double kDropoutFloor =
    1e-10;  // SMEAR's code: with all experts dropped, the weights are uniform
}  // namespace

RouterImpl::RouterImpl(const ModelConfig& config, const torch::TensorOptions& options)
    : num_experts_(config.feed_forward.num_experts), smear_(config.feed_forward.smear) {
  const int64_t E = num_experts_, D = config.hidden_size;
  weight = register_parameter("weight", torch::empty({E, D}, options));
  if (smear_.router_bias) bias_ = register_parameter("bias", torch::empty({E}, options));
  if (smear_.router_norm) gain_ = register_parameter("gain", torch::empty({1}, options));
  if (smear_.input_norm) {
    input_norm_weight_ = register_parameter("input_norm_weight", torch::empty({D}, options));
    input_norm_bias_ = register_parameter("input_norm_bias", torch::empty({D}, options));
  }
  const bool has_first = config.feed_forward.routing != Routing::kSequence;
  if (has_first && config.feed_forward.first_segment == FirstSegment::kLearned) {
    prior_ = register_parameter("prior", torch::empty({E}, options));
  }
}

torch::Tensor RouterImpl::forward(const torch::Tensor& pooled_GD) {
  const auto dtype = pooled_GD.scalar_type();
  const int64_t D = pooled_GD.size(-1);
  torch::Tensor x = pooled_GD, rows = weight.to(dtype);
  if (smear_.input_norm) {
    x = torch::layer_norm(x, {D}, input_norm_weight_.to(dtype), input_norm_bias_.to(dtype),
                          kLayerNormEps);
  }
  if (smear_.router_norm) {
    rows = torch::layer_norm(rows, {D}, {}, {}, kLayerNormEps) * gain_.to(dtype);
  }
  const torch::Tensor bias = bias_.defined() ? bias_.to(dtype) : torch::Tensor();
  const torch::Tensor weights_GE = torch::softmax(torch::linear(x, rows, bias), -1);
  return is_training() && smear_.expert_dropout > 0 ? drop_experts(weights_GE) : weights_GE;
}

torch::Tensor RouterImpl::drop_experts(const torch::Tensor& weights_GE) const {
  const torch::Tensor keep = torch::rand_like(weights_GE) >= smear_.expert_dropout;
  const torch::Tensor kept = weights_GE * keep + kDropoutFloor;
  return kept / kept.sum(-1, /*keepdim=*/true);
}

torch::Tensor RouterImpl::prior(const torch::TensorOptions& options) const {
  if (prior_.defined()) return torch::softmax(prior_.to(options), -1).unsqueeze(0);
  return torch::full({1, num_experts_}, 1.0 / static_cast<double>(num_experts_), options);
}

}  // namespace lorikeet
