#pragma once
#include <ATen/core/Tensor.h>

namespace lorikeet::ops {

/// x W^T. On a CPU whose micro-kernels beat ATen's products (src/ops/cpu/level.h) it goes through
/// them: differentiable once, straight from an fp32 weight where x is bf16, no copy of which is
/// made or kept. Everywhere else it is at::linear with the weight cast to the dtype of x.
///
/// @param x          [..., I]
/// @param weight_OI  fp32, or the dtype of x
/// @param reference  take ATen's everywhere
/// @return [..., O], the dtype of x
at::Tensor linear(const at::Tensor& x, const at::Tensor& weight_OI, bool reference = false);

}  // namespace lorikeet::ops
