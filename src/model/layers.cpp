#include "lorikeet/model/layers.h"

#include <torch/torch.h>

#include "lorikeet/ops/functions.h"

namespace lorikeet {

LinearImpl::LinearImpl(int64_t in, int64_t out, const torch::TensorOptions& options)
    : weight(register_parameter("weight", torch::empty({out, in}, options))) {}

torch::Tensor LinearImpl::forward(const torch::Tensor& x) {
  return torch::linear(x, weight.to(x.scalar_type()));
}

EmbeddingImpl::EmbeddingImpl(int64_t vocabulary, int64_t hidden,
                             const torch::TensorOptions& options)
    : weight(register_parameter("weight", torch::empty({vocabulary, hidden}, options))) {}

torch::Tensor EmbeddingImpl::forward(const torch::Tensor& ids) {
  return torch::embedding(weight, ids);
}

RmsNormImpl::RmsNormImpl(int64_t size, double eps, const torch::TensorOptions& options)
    : weight(register_parameter("weight", torch::empty({size}, options))), eps_(eps) {}

torch::Tensor RmsNormImpl::forward(const torch::Tensor& x) {
  return ops::rms_norm(x, weight, eps_);
}

}  // namespace lorikeet
