#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>

namespace lorikeet::ops {

/// Segments whose merged weights (and in backward their gradients) exist together.
inline constexpr int64_t kSegmentsMergedAtOnce = 16;

/// Merged-expert SwiGLU feed-forward over ragged segments (Lory, arXiv 2405.03133, eq. 2-3):
/// for every segment g, with W_g = sum_e routing[g,e] W_e for each of gate, up, down,
///   y = (silu(x gate_g^T) * (x up_g^T)) down_g^T.
///
/// @param x        [N, D]  fp32, fp64 or bf16
/// @param offsets  G+1 row numbers from 0 to N, not decreasing: rows offsets[g] .. offsets[g+1] are
/// segment g
/// @param routing  [G, E]  fp32 (fp64 where x is)
/// @param gate,up  [E, F, D], @param down [E, D, F]: all of x's dtype, or all fp32 where x is bf16
/// (then merged from fp32, with gradients in fp32)
/// @param reference  the plain statement in ATen instead of the tiled form; fp64 takes it always.
/// On CUDA what our kernels don't take (docs/gpu_kernels.md) goes through LibTorch's batched
/// products
/// @return [N, D], x's dtype
/// Differentiable once in x, routing, gate, up and down. Saves the inputs and, tiled, the products
/// with gate and up; merges again in backward: merged weights are never kept.
at::Tensor merged_ffn(const at::Tensor& x, at::IntArrayRef offsets, const at::Tensor& routing,
                      const at::Tensor& gate, const at::Tensor& up, const at::Tensor& down,
                      bool reference = false);

/// Whether x is on a GPU and our kernels take it there, rather than batched products.
bool has_merged_ffn_kernels(const at::Tensor& x, at::IntArrayRef offsets, const at::Tensor& gate);

/// While one lives, CUDA tensors go through LibTorch's batched products even where our kernels
/// would take them: for comparing the two. For the whole process; not nested.
class WithBatchedProducts {
 public:
  WithBatchedProducts();
  ~WithBatchedProducts();
  WithBatchedProducts(const WithBatchedProducts&) = delete;
  WithBatchedProducts& operator=(const WithBatchedProducts&) = delete;
};

}  // namespace lorikeet::ops
