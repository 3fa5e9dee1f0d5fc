#pragma once
#include <ATen/core/Tensor.h>

namespace lorikeet::ops {

/// A linear layer of merged experts over ragged segments (Lory, arXiv 2405.03133, eq. 2, for one
/// matrix): for every segment g, y = x (sum_e routing[g,e] weight[e])^T.
///
/// @param x        [N, I]  fp32, fp64 or bf16
/// @param offsets  G+1 row numbers from 0 to N, not decreasing: rows offsets[g] .. offsets[g+1] are
/// segment g
/// @param routing  [G, E]  fp32 (fp64 where x is)
/// @param weight   [E, O, I]  of x's dtype, or fp32 where x is bf16
/// @param reference  the plain statement in ATen instead of the CPU's tiled form; fp64 and CUDA
/// take it always
/// @return [N, O], x's dtype
/// Differentiable once in x, routing and weight. Saves its arguments; merges again in backward.
/// Throws c10::Error for arguments that don't go together.
at::Tensor merged_linear(const at::Tensor& x, at::IntArrayRef offsets, const at::Tensor& routing,
                         const at::Tensor& weight, bool reference = false);

}  // namespace lorikeet::ops
