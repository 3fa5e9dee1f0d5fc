// B batch, L tokens, N = B*L, D model, F feed-forward width, E experts, G segments.
#include "lorikeet/model/merged_feed_forward.h"

#include <torch/torch.h>

#include "lorikeet/ops/merged_ffn.h"

namespace lorikeet {

namespace {

/// A child that holds nothing but `weight`, so that parameters get their names in the model
/// directory.
struct WeightHolder : torch::nn::Module {
  explicit WeightHolder(const torch::Tensor& value) : weight(register_parameter("weight", value)) {}
  torch::Tensor weight;
};

}  // namespace

ExpertsImpl::ExpertsImpl(const ModelConfig& config, const torch::TensorOptions& options) {
  const int64_t E = config.feed_forward.num_experts, F = config.ffn_size, D = config.hidden_size;
  const auto stacked = [&](const char* name, int64_t rows, int64_t columns) {
    const auto holder = std::make_shared<WeightHolder>(torch::empty({E, rows, columns}, options));
    return register_module(name, holder)->weight;
  };
  gate = stacked("gate_proj", F, D);
  up = stacked("up_proj", F, D);
  down = stacked("down_proj", D, F);
}

MergedFeedForward::MergedFeedForward(const ModelConfig& config,
                                     const torch::TensorOptions& options) {
  router_ = register_module("router", Router(config, options));
  experts_ = register_module("experts", Experts(config, options));
}

torch::Tensor MergedFeedForward::route(const torch::Tensor& x_ND, const SequenceLayout& layout) {
  const torch::Tensor pooled_GD = ops::segment_mean(x_ND, layout.segments.offsets);
  const torch::Tensor own_GE = router_(pooled_GD);
  const torch::Tensor candidates =
      torch::cat({own_GE, own_GE.detach(), router_->prior(own_GE.options().requires_grad(false))});
  return candidates.index_select(0, layout.sources_G);
}

FeedForwardOutput MergedFeedForward::forward(const torch::Tensor& x_BLD,
                                             const SequenceLayout& layout) {
  const torch::Tensor x_ND = x_BLD.reshape({-1, x_BLD.size(-1)});
  const torch::Tensor routing_GE = route(x_ND, layout);
  const auto dtype = x_ND.scalar_type();
  const torch::Tensor y_ND =
      ops::merged_ffn(x_ND, layout.segments.offsets, routing_GE, experts_->gate.to(dtype),
                      experts_->up.to(dtype), experts_->down.to(dtype));
  return {y_ND.view(x_BLD.sizes()), {routing_GE.detach()}};
}

}  // namespace lorikeet
