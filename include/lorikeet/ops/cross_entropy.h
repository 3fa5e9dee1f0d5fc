#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>

namespace lorikeet::ops {

/// Tokens whose logits exist together in linear_cross_entropy: as many as make 2^24 numbers, 256 to
/// 1024. Fewer would make its products slow, since each chunk adds to all of the weight's gradient.
int64_t cross_entropy_chunk(int64_t vocabulary);

struct CrossEntropy {
  at::Tensor sum;       ///< []; with gradient
  at::Tensor losses_N;  ///< without; 0 where the target does not count
};

/// Cross-entropy (natural logarithm) of a linear head, chunk by chunk of tokens: logits are
/// hidden weight^T in hidden's dtype, softmax and sums are fp32 (fp64 for fp64). Since what comes
/// from above in backward is one number, forward already computes the gradients, from each chunk's
/// logits while they are there; [N, V] is never stored (as Liger's kernel, arXiv 2410.10989).
///
/// The graph can be used once: backward scales the gradients where they are. Not differentiable
/// twice.
/// @param hidden [N, D] @param weight [V, D], of hidden's dtype, or fp32 for hidden in bf16: then
/// its gradient is summed over chunks in fp32
/// @param targets [N], int64, below V; -100 marks a position that does not count
/// @param reference  token_losses of all logits at once
CrossEntropy linear_cross_entropy(const at::Tensor& hidden, const at::Tensor& weight,
                                  const at::Tensor& targets, bool reference = false);

}  // namespace lorikeet::ops
