// B batch, L tokens, N = B*L, D model, F feed-forward width, E experts, G segments.
#include "lorikeet/model/merged_feed_forward.h"

#include <ATen/OpMathType.h>
#include <torch/torch.h>

#include "lorikeet/ops/functions.h"
#include "lorikeet/ops/merged_ffn.h"
#include "merged_operand.h"

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

MergedFeedForward::MergedFeedForward(const ModelConfig& config, const torch::TensorOptions& options)
    : routing_(config.feed_forward.routing),
      kernel_(config.feed_forward.kernel),
      segment_length_(config.feed_forward.segment_length) {
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
  const auto operand = [&](const torch::Tensor& weight) {
    return merged_operand(weight, x_ND.scalar_type());
  };
  const torch::Tensor y_ND = ops::merged_ffn(
      x_ND, layout.segments.offsets, routing_GE, operand(experts_->gate), operand(experts_->up),
      operand(experts_->down), kernel_ == Kernel::kReference);
  return {y_ND.view(x_BLD.sizes()), {routing_GE.detach()}};
}

/// The merged expert in use, and what the next decision will be made from.
struct MergedFeedForward::State : FeedForwardState {
  explicit State(GenerationRouting how) : routing(how) {}
  torch::Tensor apply(const torch::Tensor& x) const {
    const torch::Tensor h = torch::silu(torch::linear(x, gate_FD)) * torch::linear(x, up_FD);
    return torch::linear(h, down_DF);
  }

  GenerationRouting routing;
  torch::Tensor gate_FD, up_FD, down_DF;  // undefined until the prompt is read
  bool decides_again = false;  // the segment's end brings a new decision: its mean is needed
  torch::Tensor sum_1D;        // over the segment's tokens so far, and how many they are
  int64_t segment_tokens = 0;
};

void MergedFeedForward::merge(const torch::Tensor& routing_1E, torch::ScalarType dtype,
                              State& state) const {
  const auto merged = [&](const torch::Tensor& experts) {
    const torch::Tensor flat_EK = experts.flatten(1).to(routing_1E.scalar_type());
    return torch::mm(routing_1E, flat_EK).view(experts.sizes().slice(1)).to(dtype);
  };
  state.gate_FD = merged(experts_->gate);
  state.up_FD = merged(experts_->up);
  state.down_DF = merged(experts_->down);
}

torch::Tensor MergedFeedForward::read_prompt(const torch::Tensor& x_BLD,
                                             const SequenceLayout& layout, State& state) {
  const torch::Tensor x_ND = x_BLD.reshape({-1, x_BLD.size(-1)});
  const auto dtype = x_ND.scalar_type(), compute = at::toOpMathType(dtype);
  if (state.routing == GenerationRouting::kPrompt) {
    merge(router_(x_ND.mean(0, /*keepdim=*/true, compute)), dtype, state);
    return state.apply(x_BLD);
  }
  const FeedForwardOutput output = forward(x_BLD, layout);
  const int64_t last = layout.segments.num_segments() - 1, begin = layout.segments.offsets[last];
  merge(output.routing.weights_GE.narrow(0, last, 1), dtype, state);
  state.decides_again = routing_ == Routing::kCausalSegment || last == 0;
  state.segment_tokens = x_ND.size(0) - begin;
  state.sum_1D = x_ND.narrow(0, begin, state.segment_tokens).sum(0, /*keepdim=*/true, compute);
  return output.y_BLD;
}

void MergedFeedForward::route_token(const torch::Tensor& x_1D, State& state) {
  if (!state.decides_again) return;
  if (state.segment_tokens == segment_length_) {  // the token opens a segment
    merge(router_(state.sum_1D / static_cast<double>(segment_length_)), x_1D.scalar_type(), state);
    state.decides_again = routing_ == Routing::kCausalSegment;
    state.segment_tokens = 0;
    state.sum_1D.zero_();
  }
  state.sum_1D.add_(x_1D);
  ++state.segment_tokens;
}

std::unique_ptr<FeedForwardState> MergedFeedForward::start_sequence(
    GenerationRouting routing) const {
  TORCH_CHECK(routing == GenerationRouting::kPrompt || routing_ != Routing::kSequence,
              "sequence routing has no segments");
  return std::make_unique<State>(routing);
}

torch::Tensor MergedFeedForward::extend(const torch::Tensor& x_BLD, const SequenceLayout& layout,
                                        FeedForwardState* kept) {
  State& state = static_cast<State&>(*kept);
  if (!state.gate_FD.defined()) return read_prompt(x_BLD, layout, state);
  route_token(x_BLD.reshape({-1, x_BLD.size(-1)}), state);
  return state.apply(x_BLD);
}

}  // namespace lorikeet
