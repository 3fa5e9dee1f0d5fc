#include "lorikeet/train/device.h"

#include <c10/core/CachingDeviceAllocator.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "lorikeet/core/cuda_backend.h"
#include "lorikeet/core/error.h"
#include "lorikeet/core/measure.h"

namespace lorikeet {

torch::Device select_device(DeviceChoice choice, int local_rank) {
  if (choice == DeviceChoice::kCpu) return torch::kCPU;
  std::string why_not;
  if (load_cuda_backend(&why_not) && torch::cuda::is_available())
    return {torch::kCUDA, static_cast<torch::DeviceIndex>(local_rank)};
  if (choice == DeviceChoice::kCuda) {
    throw Error(ExitCode::kUsage,
                fmt::format("train.device: cuda is not available here{}{}",
                            why_not.empty() ? "" : ": ", why_not),
                "set train.device to cpu or auto");
  }
  return torch::kCPU;
}

void set_up_computation(const TrainConfig& config) {
  if (config.threads > 0) at::set_num_threads(static_cast<int>(config.threads));
  if (config.deterministic) {
    at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false);
    at::globalContext().setDeterministicFillUninitializedMemory(false);
  }
}

int64_t peak_memory_bytes(torch::Device device) {
  if (!device.is_cuda()) return peak_memory_bytes();
  constexpr auto kAll = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
  return c10::getDeviceAllocator(device.type())
      ->getDeviceStats(device.index())
      .allocated_bytes[kAll]
      .peak;
}

void release_cached_memory(torch::Device device) {
  if (device.is_cuda()) c10::getDeviceAllocator(device.type())->emptyCache();
}

double measure_peak_flops(torch::Device device, torch::ScalarType dtype) {
  const torch::NoGradGuard no_grad;
  const int64_t size = device.is_cuda() ? 4096 : 1024;
  const auto options = torch::TensorOptions(device).dtype(dtype);
  const torch::Tensor a = torch::ones({size, size}, options), b = torch::ones_like(a);
  torch::Tensor c = a.mm(b);
  double best = 1e30, spent = 0;
  while (spent < 0.25) {
    const auto start = std::chrono::steady_clock::now();
    torch::mm_out(c, a, b);
    c[0][0].item<float>();  // waits for a CUDA device
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    best = std::min(best, elapsed.count());
    spent += elapsed.count();
  }
  return 2.0 * static_cast<double>(size) * static_cast<double>(size) * static_cast<double>(size) /
         best;
}

}  // namespace lorikeet
