#pragma once
#include <torch/torch.h>

#include "lorikeet/config/run_config.h"

namespace lorikeet {

/// The device that `train.device` means here. @throws Error(kUsage) for cuda where there is none,
/// with the reason
torch::Device select_device(DeviceChoice choice);

/// FLOP/s of a large matrix product in `dtype` on this device, measured in about a quarter of a
/// second: the peak that MFU is a share of where none is given.
double measure_peak_flops(torch::Device device, torch::ScalarType dtype);

}  // namespace lorikeet
