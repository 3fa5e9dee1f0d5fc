#include "tiled_dense_feed_forward.h"

#include <torch/torch.h>

#include "lorikeet/ops/merged_ffn.h"
#include "merged_operand.h"

namespace lorikeet {

namespace {

/// Tokens from which the tiled form is taken: it lays all weights out anew at each use.
constexpr int64_t kTokensToTile = 64;

bool is_tiled(const torch::Tensor& x_ND) {
  return x_ND.is_cpu() && x_ND.scalar_type() != torch::kDouble && x_ND.size(0) >= kTokensToTile;
}

}  // namespace

TiledDenseFeedForward::TiledDenseFeedForward(const ModelConfig& config,
                                             const torch::TensorOptions& options)
    : DenseFeedForward(config, options) {
  const auto parameters = named_parameters();
  gate_FD_ = parameters["gate_proj.weight"];
  up_FD_ = parameters["up_proj.weight"];
  down_DF_ = parameters["down_proj.weight"];
}

FeedForwardOutput TiledDenseFeedForward::forward(const torch::Tensor& x_BLD,
                                                 const SequenceLayout& layout) {
  const torch::Tensor x_ND = x_BLD.reshape({-1, x_BLD.size(-1)});
  if (!is_tiled(x_ND)) return DenseFeedForward::forward(x_BLD, layout);
  const auto expert = [&](const torch::Tensor& weight) {
    return merged_operand(weight, x_ND.scalar_type()).unsqueeze(0);
  };
  const torch::Tensor y_ND =
      ops::merged_ffn(x_ND, {0, x_ND.size(0)}, /*routing=*/torch::ones({1, 1}), expert(gate_FD_),
                      expert(up_FD_), expert(down_DF_));
  return {y_ND.view(x_BLD.sizes()), {}};
}

}  // namespace lorikeet
