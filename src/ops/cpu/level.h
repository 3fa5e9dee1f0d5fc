#pragma once
#include <ATen/core/Tensor.h>

#include <string_view>

#include "kernels.h"

namespace lorikeet::ops::cpu {

/// Right operands of products lie in panes of some columns, each pane's rows close together: then a
/// processor fetches one ahead as it comes from the third level of cache, and its rows stay in the
/// first level (measured by tests/measure/product_rates.cpp; docs/performance.md).
inline constexpr int64_t kWidestPane = 64;

/// What this process computes merged feed-forwards with: the best that the processor has, or less
/// where LORIKEET_CPU asks for it (`avx512bf16`, `avx512`, `avx2`, `portable`, `reference`;
/// read once).
struct Level {
  std::string_view name;
  const VectorKernels* kernels;  ///< null: the reference form in ATen
  bool fast_product;             ///< fp32 products by oneDNN's micro-kernels
  bool bf16_product;             ///< and bf16 ones; without, bf16 is computed in fp32
  int64_t pane;                  ///< columns of a pane, at most kWidestPane
};

const Level& level();

/// Whether bf16 arguments of these widths are computed in fp32: there is no bf16 product, or a
/// width is odd, and depths come in pairs.
bool computes_bf16_in_fp32(int64_t inputs, int64_t outputs);
/// Whether x [N, inputs] is bf16 and computed as such.
inline bool is_computed_in_bf16(const at::Tensor& x, int64_t outputs) {
  return x.scalar_type() == at::kBFloat16 && !computes_bf16_in_fp32(x.size(1), outputs);
}

/// Whether a plain product of matrices of that dtype is faster by our loops than by ATen's: bf16
/// where the processor has no instructions for it, which MKL then does at a fifth of fp32's speed
/// (docs/performance.md).
bool beats_library(at::ScalarType dtype);

/// For tests: the level of that name ("portable_bf16" too: bf16 products by plain loops, which
/// every processor has) from now on, or what LORIKEET_CPU and the processor say for
/// "". Throws c10::Error for a level that this processor lacks. Not while an operator runs. Nor
/// between a forward and its backward: levels lay out differently what the one keeps for the other.
void force_level(std::string_view name);
bool has_level(std::string_view name);

}  // namespace lorikeet::ops::cpu
