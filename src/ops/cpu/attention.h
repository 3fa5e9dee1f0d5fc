#pragma once
#include <ATen/core/Tensor.h>

#include <array>
#include <utility>

namespace lorikeet::ops::cpu {

/// Causal attention in fp32 or bf16 by blocks of keys and queries, through the micro-kernels (the
/// algorithms of arXiv 2205.14135 and 2307.08691). Every head of keys and values, with the query
/// heads that use it, is one thread's work: bits do not depend on the number of threads.
///
/// Scores are computed transposed, [keys, queries]: keys and values are then left operands as they
/// lie in memory, and the softmax runs along columns.
/// @return y [B, A, L, H], in memory [B, L, A, H]; and log of the softmax's denominators, [B, A, L]
std::pair<at::Tensor, at::Tensor> attention_forward(const at::Tensor& q_BALH,
                                                    const at::Tensor& k_BKLH,
                                                    const at::Tensor& v_BKLH);

/// @return gradients of q, k, v, in memory [B, L, heads, H]
std::array<at::Tensor, 3> attention_backward(const at::Tensor& dy_BALH, const at::Tensor& q_BALH,
                                             const at::Tensor& k_BKLH, const at::Tensor& v_BKLH,
                                             const at::Tensor& y_BALH, const at::Tensor& lse_BAL);

}  // namespace lorikeet::ops::cpu
