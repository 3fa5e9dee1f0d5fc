// N tokens, I inputs, O outputs.
#include "lorikeet/ops/linear.h"

#include <ATen/ATen.h>

#include "cpu/level.h"
#include "lorikeet/ops/merged_linear.h"

namespace lorikeet::ops {

namespace {

using at::Tensor;

/// Tokens from which the tiled form is taken: it lays the weight out anew at each use.
constexpr int64_t kTokensToTile = 64;

bool is_tiled(const Tensor& x, const Tensor& weight, int64_t tokens) {
  const auto dtype = x.scalar_type();
  return x.is_cpu() && tokens >= kTokensToTile && cpu::beats_library(dtype) &&
         (weight.scalar_type() == dtype || weight.scalar_type() == at::kFloat);
}

}  // namespace

Tensor linear(const Tensor& x, const Tensor& weight_OI, bool reference) {
  const int64_t I = weight_OI.size(1), N = I > 0 ? x.numel() / I : 0;
  if (reference || !is_tiled(x, weight_OI, N)) {
    return at::linear(x, weight_OI.to(x.scalar_type()));
  }
  // One expert, one segment.
  const Tensor routing = at::ones({1, 1}, x.options().dtype(at::kFloat));
  const Tensor y_NO =
      merged_linear(x.reshape({-1, x.size(-1)}), {0, N}, routing, weight_OI.unsqueeze(0));
  auto sizes = x.sizes().vec();
  sizes.back() = weight_OI.size(0);
  return y_NO.view(sizes);
}

}  // namespace lorikeet::ops
