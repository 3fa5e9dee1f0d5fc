#pragma once
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "lorikeet/model/feed_forward.h"
#include "lorikeet/model/router.h"

namespace lorikeet {

/// The stacked matrices of all experts; names as in the model directory:
/// `{gate,up,down}_proj.weight`.
class ExpertsImpl : public torch::nn::Module {
 public:
  ExpertsImpl(const ModelConfig& config, const torch::TensorOptions& options);
  torch::Tensor gate, up;  ///< [E, F, D]
  torch::Tensor down;      ///< [E, D, F]
};
TORCH_MODULE(Experts);

/// Merged-expert feed-forward (Lory, arXiv 2405.03133, eq. 2-3; prefix and sequence routing as its
/// ablations). Segment by segment, the experts' weights are averaged with weights that the layout's
/// source segment decides, and the merged expert is applied to the segment's tokens.
class MergedFeedForward : public FeedForward {
 public:
  MergedFeedForward(const ModelConfig& config, const torch::TensorOptions& options);
  FeedForwardOutput forward(const torch::Tensor& x_BLD, const SequenceLayout& layout) override;
  /// @param routing kSegment is not for `sequence` routing, which has no segments
  std::unique_ptr<FeedForwardState> start_sequence(GenerationRouting routing) const override;
  torch::Tensor extend(const torch::Tensor& x_BLD, const SequenceLayout& layout,
                       FeedForwardState* state) override;

  /// Routing weights of every segment, [G, E] in fp32 (fp64 for fp64), with gradient. @param x_ND
  /// all tokens
  torch::Tensor route(const torch::Tensor& x_ND, const SequenceLayout& layout);

 private:
  struct State;
  void merge(const torch::Tensor& routing_1E, torch::ScalarType dtype, State& state) const;
  torch::Tensor read_prompt(const torch::Tensor& x_BLD, const SequenceLayout& layout, State& state);
  void route_token(const torch::Tensor& x_1D, State& state);

  Routing routing_;
  Kernel kernel_;
  int64_t segment_length_;
  Router router_{nullptr};
  Experts experts_{nullptr};
};

}  // namespace lorikeet
