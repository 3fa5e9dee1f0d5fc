#include "lorikeet/model/layers.h"

#include <torch/torch.h>

#include "lorikeet/ops/linear.h"
#include "lorikeet/ops/rms_norm.h"

namespace lorikeet {

LinearImpl::LinearImpl(int64_t in, int64_t out, const ModelConfig& config,
                       const torch::TensorOptions& options)
    : weight(register_parameter("weight", torch::empty({out, in}, options))),
      is_reference_(config.feed_forward.kernel == Kernel::kReference) {}

torch::Tensor LinearImpl::forward(const torch::Tensor& x) {
  return ops::linear(x, weight, is_reference_);
}

EmbeddingImpl::EmbeddingImpl(int64_t vocabulary, int64_t hidden,
                             const torch::TensorOptions& options)
    : weight(register_parameter("weight", torch::empty({vocabulary, hidden}, options))) {}

torch::Tensor EmbeddingImpl::forward(const torch::Tensor& ids) {
  return torch::embedding(weight, ids);
}

RmsNormImpl::RmsNormImpl(int64_t size, const ModelConfig& config,
                         const torch::TensorOptions& options)
    : weight(register_parameter("weight", torch::empty({size}, options))),
      eps_(config.norm_eps),
      is_reference_(config.feed_forward.kernel == Kernel::kReference) {}

torch::Tensor RmsNormImpl::forward(const torch::Tensor& x) {
  return ops::rms_norm(x, weight, eps_, is_reference_);
}

}  // namespace lorikeet
