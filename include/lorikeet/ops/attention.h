#pragma once
#include <ATen/core/Tensor.h>

namespace lorikeet::ops {

/// softmax(q k^T / sqrt(H)) v, where a query sees the keys up to its own position; query head a
/// uses key-value head a K / A. Differentiable once. On the CPU, fp32 and bf16 go through the
/// micro-kernels (src/ops/cpu/attention.h); everything else is LibTorch's
/// scaled_dot_product_attention.
///
/// @param q_BALH  B sequences, A heads, L tokens, head size H
/// @param k_BKLH, v_BKLH  K divides A
/// @param reference  take LibTorch's everywhere
/// @return [B, A, L, H]; on the CPU its memory lies as [B, L, A, H], as the projection after it
/// wants
at::Tensor causal_attention(const at::Tensor& q_BALH, const at::Tensor& k_BKLH,
                            const at::Tensor& v_BKLH, bool reference = false);

}  // namespace lorikeet::ops
