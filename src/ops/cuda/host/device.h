#pragma once
#include <ATen/core/Tensor.h>

#include "src/ops/cuda/geometry.h"

/// What every operator of liblorikeet_cuda.so asks of LibTorch and CUDA.
namespace lorikeet::ops::cuda {

/// The row of known_gpus() for a CUDA device, with its own SMs and L2. @param device  its index;
/// -1: the current one
Gpu device_gpu(int device);

/// Contiguous and 16-byte aligned, which a view with an odd offset is not.
at::Tensor prepared(const at::Tensor& t);

}  // namespace lorikeet::ops::cuda
