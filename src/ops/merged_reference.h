#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <tuple>

namespace lorikeet::ops {

/// What merged_ffn computes, in a few lines of ATen for any device and dtype: the truth that every
/// faster kernel is tested against. Arguments as in lorikeet/ops/merged_ffn.h, already checked.
at::Tensor merged_ffn_reference(const at::Tensor& x, at::IntArrayRef offsets,
                                const at::Tensor& routing, const at::Tensor& gate,
                                const at::Tensor& up, const at::Tensor& down);

/// @param dy [N, D], the gradient of merged_ffn's result
/// @return gradients of x, routing, gate, up and down, each in its argument's shape and dtype
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>
merged_ffn_backward_reference(const at::Tensor& dy, const at::Tensor& x, at::IntArrayRef offsets,
                              const at::Tensor& routing, const at::Tensor& gate,
                              const at::Tensor& up, const at::Tensor& down);

/// The same for merged_linear (lorikeet/ops/merged_linear.h).
at::Tensor merged_linear_reference(const at::Tensor& x, at::IntArrayRef offsets,
                                   const at::Tensor& routing, const at::Tensor& weight);

/// @param dy [N, O], the gradient of merged_linear's result
/// @return gradients of x, routing and weight, each in its argument's shape and dtype
std::tuple<at::Tensor, at::Tensor, at::Tensor> merged_linear_backward_reference(
    const at::Tensor& dy, const at::Tensor& x, at::IntArrayRef offsets, const at::Tensor& routing,
    const at::Tensor& weight);

}  // namespace lorikeet::ops
