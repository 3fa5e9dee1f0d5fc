#pragma once
#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <tuple>

namespace lorikeet::ops::cpu {

/// Which of x, routing, gate, up and down a gradient is asked for.
using Needed = std::array<bool, 5>;

/// merged_ffn on the CPU, tile by tile: no merged matrix is ever whole in memory, and no bit of a
/// result depends on the number of threads. Arguments as in lorikeet/ops/merged_ffn.h, checked,
/// contiguous; x fp32 or bf16, the experts fp32 or bf16.
/// @param save whether to keep what backward wants
/// @return y [N, D], and the products with gate and up, saved: [F * padded_columns(offsets)] in the
/// dtype of x, in the order of forward's panels; empty if not `save`
std::tuple<at::Tensor, at::Tensor, at::Tensor> merged_ffn_forward(
    const at::Tensor& x, at::IntArrayRef offsets, const at::Tensor& routing, const at::Tensor& gate,
    const at::Tensor& up, const at::Tensor& down, bool save);

/// @param a,b what merged_ffn_forward saved
/// @return gradients in the dtypes of their arguments; undefined where not needed
std::array<at::Tensor, 5> merged_ffn_backward(const at::Tensor& dy, const at::Tensor& x,
                                              at::IntArrayRef offsets, const at::Tensor& routing,
                                              const at::Tensor& gate, const at::Tensor& up,
                                              const at::Tensor& down, const at::Tensor& a,
                                              const at::Tensor& b, const Needed& needed);

}  // namespace lorikeet::ops::cpu
