#pragma once
#include <ATen/core/Tensor.h>

namespace lorikeet {

/// A weight as ops::merged_ffn takes it for x of that dtype: bf16 merges straight from fp32, and a
/// copy of all weights every step is spared; otherwise cast like any other.
inline at::Tensor merged_operand(const at::Tensor& weight, at::ScalarType dtype) {
  const bool as_it_is = dtype == at::kBFloat16 && weight.scalar_type() == at::kFloat;
  return as_it_is ? weight : weight.to(dtype);
}

}  // namespace lorikeet
