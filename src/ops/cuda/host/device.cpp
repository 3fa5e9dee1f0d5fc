#include "src/ops/cuda/host/device.h"

#include <ATen/ATen.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAFunctions.h>
#include <cuda_runtime_api.h>

#include <map>

namespace lorikeet::ops::cuda {

namespace {

Gpu ask_device(int device) {
  const auto attribute = [&](cudaDeviceAttr which) {
    int value = 0;
    C10_CUDA_CHECK(cudaDeviceGetAttribute(&value, which, device));
    return value;
  };
  return gpu_of(attribute(cudaDevAttrComputeCapabilityMajor) * 10 +
                    attribute(cudaDevAttrComputeCapabilityMinor),
                {.num_sms = attribute(cudaDevAttrMultiProcessorCount),
                 .l2_bytes = attribute(cudaDevAttrL2CacheSize),
                 .block_shared_bytes = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin),
                 .sm_shared_bytes = attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor)});
}

}  // namespace

Gpu device_gpu(int device) {
  thread_local std::map<int, Gpu> asked;
  if (device < 0) device = c10::cuda::current_device();
  const auto found = asked.find(device);
  return found != asked.end() ? found->second
                              : asked.emplace(device, ask_device(device)).first->second;
}

at::Tensor prepared(const at::Tensor& t) {
  const at::Tensor contiguous = t.contiguous();
  const bool is_aligned = reinterpret_cast<uintptr_t>(contiguous.const_data_ptr()) % 16 == 0;
  return is_aligned ? contiguous : contiguous.clone();
}

}  // namespace lorikeet::ops::cuda
