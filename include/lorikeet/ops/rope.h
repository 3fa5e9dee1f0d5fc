#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <utility>

namespace lorikeet::ops {

/// Cosines and sines of rotary position embeddings (arXiv 2104.09864) in Hugging Face's rotate-half
/// convention.
struct RopeTable {
  at::Tensor cos, sin;  ///< [L, H/2] where all sequences have one table, or [B, L, H/2]; fp32
};
/// @param positions_L [L], int64; the device decides where the table lies
RopeTable make_rope_table(const at::Tensor& positions_L, int64_t head_size, double theta);

/// Rotates the pairs (x[i], x[i + H/2]) of every head of queries and keys, in fp32 (fp64 for fp64).
/// Differentiable: the gradient is the inverse rotation.
/// @param q_BLAH, k_BLKH  of one dtype; heads of one size, which is even
/// @param reference  the plain composition of ATen on every device
/// @return both in their shape and dtype, contiguous
std::pair<at::Tensor, at::Tensor> apply_rope(const at::Tensor& q_BLAH, const at::Tensor& k_BLKH,
                                             const RopeTable& table, bool reference = false);

}  // namespace lorikeet::ops
