#include "lorikeet/ops/micro_kernel.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <chrono>

#include "level.h"
#include "product.h"
#include "workers.h"

namespace lorikeet::ops {

namespace {

constexpr int64_t kM = 64, kN = 64, kK = 512;

/// @param operands of the two matrices, one after the other
/// @return FLOP/s of all threads together
template <class T>
double repeat(const T* operands, int64_t repetitions) {
  const cpu::Workers workers(cpu::Scratch::bytes<float>(kM * kN));
  const int64_t threads = std::max(1, at::get_num_threads());
  const auto start = std::chrono::steady_clock::now();
  workers.run(
      threads,
      [&](int64_t, cpu::Scratch scratch) {
        float* const result = scratch.take<float>(kM * kN);
        for (int64_t i = 0; i < repetitions; ++i) {
          cpu::multiply({kM, kN, kK, kK, kN, kN, false}, operands, operands + kM * kK, result);
        }
      },
      cpu::release_products);
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  return static_cast<double>(threads * repetitions * 2 * kM * kN * kK) / elapsed.count();
}

}  // namespace

double measure_micro_kernel(c10::ScalarType dtype, int64_t repetitions) {
  const bool is_fp32 = dtype == c10::kFloat;
  if (!is_fp32 && !cpu::level().bf16_product) return 0;
  // Random, since a processor may clock higher on zeros; from a generator of its own, so that a
  // measurement changes no run.
  const at::Tensor operands =
      at::randn({kM * kK + kK * kN}, at::detail::createCPUGenerator(/*seed_val=*/1)).to(dtype);
  const void* const numbers = operands.const_data_ptr();
  return is_fp32 ? repeat(static_cast<const float*>(numbers), repetitions)
                 : repeat(static_cast<const uint16_t*>(numbers), repetitions);
}

}  // namespace lorikeet::ops
