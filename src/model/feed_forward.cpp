#include "lorikeet/model/feed_forward.h"

#include <torch/torch.h>

#include "lorikeet/model/merged_feed_forward.h"
#include "tiled_dense_feed_forward.h"

namespace lorikeet {

DenseFeedForward::DenseFeedForward(const ModelConfig& config, const torch::TensorOptions& options) {
  const int64_t D = config.hidden_size, F = config.ffn_size;
  gate_proj_ = register_module("gate_proj", Linear(D, F, config, options));
  up_proj_ = register_module("up_proj", Linear(D, F, config, options));
  down_proj_ = register_module("down_proj", Linear(F, D, config, options));
}

FeedForwardOutput DenseFeedForward::forward(const torch::Tensor& x_BLD, const SequenceLayout&) {
  return {down_proj_(torch::silu(gate_proj_(x_BLD)) * up_proj_(x_BLD)), {}};
}

std::shared_ptr<FeedForward> make_feed_forward(const ModelConfig& config,
                                               const torch::TensorOptions& options) {
  switch (config.feed_forward.kind) {
    case FeedForwardKind::kDense:
      if (config.feed_forward.kernel == Kernel::kReference) {
        return std::make_shared<DenseFeedForward>(config, options);
      }
      return std::make_shared<TiledDenseFeedForward>(config, options);
    case FeedForwardKind::kMerged:
      return std::make_shared<MergedFeedForward>(config, options);
  }
  TORCH_CHECK(false, "unknown feed-forward kind");
}

}  // namespace lorikeet
