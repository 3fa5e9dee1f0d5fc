#pragma once
#include <ATen/core/Tensor.h>

namespace lorikeet::ops {

/// RMSNorm (arXiv 1910.07467): x / sqrt(mean(x^2) + eps) * weight over the last dimension, in fp32
/// whatever x's dtype (fp64 for fp64), rounded once. Differentiable once in x and weight; keeps x
/// and one fp32 number a row.
///
/// @param x [..., D] @param weight [D], of x's dtype, or fp32
/// @param reference  the plain composition of ATen, which is differentiable twice
/// @return x's shape and dtype
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps,
                    bool reference = false);

}  // namespace lorikeet::ops
