#pragma once
#include <torch/torch.h>

#include "lorikeet/config/run_config.h"

namespace lorikeet {

/// The device that `train.device` means here. @throws Error(kUsage) for cuda where there is none,
/// with the reason
/// @param local_rank  which of the node's GPUs
torch::Device select_device(DeviceChoice choice, int local_rank = 0);
/// What `train.threads` and `train.deterministic` ask of LibTorch, for the whole process from now
/// on.
void set_up_computation(const TrainConfig& config);

/// The most memory that this process has held so far: of a GPU what LibTorch's allocator has handed
/// out, else as the system counts it.
int64_t peak_memory_bytes(torch::Device device);
/// Gives a GPU's memory that nothing uses back to the driver, for other processes.
void release_cached_memory(torch::Device device);

/// FLOP/s of a large matrix product in `dtype` on this device, measured in about a quarter of a
/// second: the peak that MFU is a share of where none is given.
double measure_peak_flops(torch::Device device, torch::ScalarType dtype);

}  // namespace lorikeet
