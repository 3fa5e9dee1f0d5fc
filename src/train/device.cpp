#include "lorikeet/train/device.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "lorikeet/core/cuda_backend.h"
#include "lorikeet/core/error.h"

namespace lorikeet {

torch::Device select_device(DeviceChoice choice) {
  if (choice == DeviceChoice::kCpu) return torch::kCPU;
  std::string why_not;
  if (load_cuda_backend(&why_not) && torch::cuda::is_available()) return {torch::kCUDA, 0};
  if (choice == DeviceChoice::kCuda) {
    throw Error(ExitCode::kUsage,
                fmt::format("train.device: cuda is not available here{}{}",
                            why_not.empty() ? "" : ": ", why_not),
                "set train.device to cpu or auto");
  }
  return torch::kCPU;
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
