#pragma once
#include <ATen/core/Tensor.h>

#include <array>
#include <tuple>

#include "geometry.h"

/// The merged feed-forward through LibTorch's matrix products (cuBLAS on CUDA), over the same slabs
/// as the kernels: merged as [segments x E] by [E x weights] in fp32, consumed by one batched
/// product for each run of segments of one length. What the kernels are compared with, and the way
/// of shapes and dtypes that they don't take. Any device and widths; fp32, fp64, and bf16 with
/// experts in either dtype. Sums have one order.
namespace lorikeet::ops::cuda {

/// What forward and backward take at most, beyond arguments, results and what forward saves.
int64_t batched_workspace_bytes(const ForwardPlan& plan, const FfnShape& shape, int64_t bytes);
int64_t batched_workspace_bytes(const BackwardPlan& plan, const FfnShape& shape, int64_t bytes);

/// Arguments as in lorikeet/ops/merged_ffn.h, already checked, with a token at least.
/// @param gpu  by which slabs are cut
/// @return y, and a = x gate^T and b = x up^T [N * F] for backward, empty if not `save`
std::tuple<at::Tensor, at::Tensor, at::Tensor> batched_forward(
    const Gpu& gpu, const at::Tensor& x, at::IntArrayRef offsets, const at::Tensor& routing,
    const at::Tensor& gate, const at::Tensor& up, const at::Tensor& down, bool save);

/// @param a,b  what forward saved
/// @return gradients of x, routing, gate, up and down; undefined where not needed
std::array<at::Tensor, 5> batched_backward(const Gpu& gpu, const at::Tensor& dy,
                                           const at::Tensor& x, at::IntArrayRef offsets,
                                           const at::Tensor& routing, const at::Tensor& gate,
                                           const at::Tensor& up, const at::Tensor& down,
                                           const at::Tensor& a, const at::Tensor& b,
                                           const std::array<bool, 5>& needed);

}  // namespace lorikeet::ops::cuda
