#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

/// The small differentiable functions of the decoder, as compositions of ATen. Whatever the inputs'
/// dtype, the arithmetic inside is fp32 (fp64 for fp64 inputs).
namespace lorikeet::ops {

/// RMSNorm (arXiv 1910.07467): x / sqrt(mean(x^2) + eps) * weight over the last dimension.
/// @param x [..., D], @param weight [D] @return x's shape and dtype
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);

/// Cosines and sines of rotary position embeddings (arXiv 2104.09864) in Hugging Face's rotate-half
/// convention.
struct RopeTable {
  at::Tensor cos_LH, sin_LH;  ///< [L, H/2], fp32
};
/// @param positions_L [L], int64; the device decides where the table lies
RopeTable make_rope_table(const at::Tensor& positions_L, int64_t head_size, double theta);
/// Rotates the pairs (x[i], x[i + H/2]) of every head. @param x [B, heads, L, H] @return the same
/// shape and dtype
at::Tensor apply_rope(const at::Tensor& x, const RopeTable& table);

/// Means of consecutive rows. @param x [N, D] @param offsets G+1 row numbers from 0 to N; no
/// segment may be empty
/// @return [G, D], fp32 (fp64 for fp64)
at::Tensor segment_mean(const at::Tensor& x, at::IntArrayRef offsets);

/// Negative log-likelihood (natural logarithm) of each target. @param logits [N, V] @param targets
/// [N], int64; -100 marks a position that does not count @return [N], fp32; 0 where the target does
/// not count
at::Tensor token_losses(const at::Tensor& logits, const at::Tensor& targets);

}  // namespace lorikeet::ops
