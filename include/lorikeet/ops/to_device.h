#pragma once
#include <ATen/core/Tensor.h>

namespace lorikeet::ops {

/// Numbers that the host has made, on the device. To a GPU they go through pinned memory and nobody
/// waits; from ordinary memory the host would wait until the GPU has come that far.
at::Tensor to_device(const at::Tensor& host, at::Device device);

}  // namespace lorikeet::ops
