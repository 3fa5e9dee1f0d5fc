#pragma once
#include <ATen/core/Tensor.h>

namespace lorikeet::ops {

/// segment_mean (lorikeet/ops/functions.h) for segments of any lengths on any device, in as many
/// launches for a hundred segments as for one.
at::Tensor ragged_mean(const at::Tensor& x, at::IntArrayRef offsets);

}  // namespace lorikeet::ops
