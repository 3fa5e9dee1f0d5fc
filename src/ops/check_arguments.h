#pragma once
#include <ATen/core/Tensor.h>

#include <initializer_list>

namespace lorikeet::ops {

/// One matrix of all experts, by its name in the operator's schema.
struct NamedWeight {
  const char* name;
  const at::Tensor& tensor;
};

/// Refuses what no merged operator takes, with messages that begin with the operator's name:
/// offsets that are not those of x [N, ...], routing that is not [G, E], dtypes and devices that
/// don't go together.
void check_merged_arguments(const char* op, const at::Tensor& x, at::IntArrayRef offsets,
                            const at::Tensor& routing, std::initializer_list<NamedWeight> weights);

/// Refuses a dy that is not the gradient of a result of those sizes and that dtype.
void check_result_gradient(const char* op, const at::Tensor& dy, at::IntArrayRef sizes,
                           at::ScalarType dtype);

/// Whether the tiled form of src/ops/cpu computes these arguments where the device is a CPU, at the
/// processor's level: fp64 is for checking only. @param weight one of the experts' matrices
bool is_tiled(const at::Tensor& x, const at::Tensor& weight, bool reference);

}  // namespace lorikeet::ops
