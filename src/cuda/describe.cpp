#include <cuda_runtime_api.h>
#include <nccl.h>

#include "lorikeet/core/cuda_backend.h"

namespace {

std::string dotted(int major, int minor) {
  return std::to_string(major) + "." + std::to_string(minor);
}

// NCCL encodes 2.28.9 as 22809.
std::string nccl_version() {
  int code = 0;
  if (ncclGetVersion(&code) != ncclSuccess) return "unknown";
  return dotted(code / 10000, code / 100 % 100) + "." + std::to_string(code % 100);
}

lorikeet::CudaDevice describe_device(const cudaDeviceProp& properties) {
  return {.name = properties.name,
          .major = properties.major,
          .minor = properties.minor,
          .memory_bytes = static_cast<int64_t>(properties.totalGlobalMem)};
}

}  // namespace

// The one symbol that the program looks up; see lorikeet::detail::DescribeCuda.
extern "C" const char* lorikeet_cuda_describe(lorikeet::CudaBackend* backend) {
  int version = 0;  // 13000 is 13.0
  if (const cudaError_t error = cudaRuntimeGetVersion(&version); error != cudaSuccess) {
    return cudaGetErrorString(error);
  }
  backend->runtime_version = dotted(version / 1000, version % 1000 / 10);
  backend->nccl_version = nccl_version();

  int count = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess) {
    return cudaGetErrorString(error);
  }
  for (int index = 0; index < count; ++index) {
    cudaDeviceProp properties;
    if (const cudaError_t error = cudaGetDeviceProperties(&properties, index);
        error != cudaSuccess) {
      return cudaGetErrorString(error);
    }
    backend->devices.push_back(describe_device(properties));
  }
  return count > 0 ? nullptr : "no GPU is visible";
}
