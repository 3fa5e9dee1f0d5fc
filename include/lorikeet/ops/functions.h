#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

/// The small differentiable functions of the decoder, as compositions of ATen. Whatever the inputs'
/// dtype, the arithmetic inside is fp32 (fp64 for fp64 inputs).
namespace lorikeet::ops {

/// Means of consecutive rows. @param x [N, D] @param offsets G+1 row numbers from 0 to N; no
/// segment may be empty
/// @return [G, D], fp32 (fp64 for fp64)
at::Tensor segment_mean(const at::Tensor& x, at::IntArrayRef offsets);

/// Negative log-likelihood (natural logarithm) of each target. @param logits [N, V] @param targets
/// [N], int64; -100 marks a position that does not count @return [N], fp32; 0 where the target does
/// not count
at::Tensor token_losses(const at::Tensor& logits, const at::Tensor& targets);

}  // namespace lorikeet::ops
