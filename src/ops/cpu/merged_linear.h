#pragma once
#include <ATen/core/Tensor.h>

#include <array>

namespace lorikeet::ops::cpu {

/// merged_linear on the CPU, tile by tile, as merged_ffn.h says of merged_ffn. Arguments as in
/// lorikeet/ops/merged_linear.h, checked, contiguous; x fp32 or bf16, the experts fp32 or bf16.
at::Tensor merged_linear_forward(const at::Tensor& x, at::IntArrayRef offsets,
                                 const at::Tensor& routing, const at::Tensor& weight);

/// @param needed which of x, routing and weight a gradient is asked for
/// @return gradients in the dtypes of their arguments; undefined where not needed
std::array<at::Tensor, 3> merged_linear_backward(const at::Tensor& dy, const at::Tensor& x,
                                                 at::IntArrayRef offsets, const at::Tensor& routing,
                                                 const at::Tensor& weight,
                                                 const std::array<bool, 3>& needed);

}  // namespace lorikeet::ops::cpu
