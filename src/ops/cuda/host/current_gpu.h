#pragma once
#include "src/ops/cuda/geometry.h"

namespace lorikeet::ops::cuda {

/// The row of known_gpus() for the current CUDA device, with its own SMs and L2.
Gpu current_gpu();

}  // namespace lorikeet::ops::cuda
