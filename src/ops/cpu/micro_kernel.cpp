#include "lorikeet/ops/micro_kernel.h"

#include <algorithm>
#include <chrono>

#include "level.h"
#include "product.h"
#include "workers.h"

namespace lorikeet::ops {

namespace {

constexpr int64_t kM = 64, kN = 64, kK = 512;

/// @return floating point operations of all threads
template <class T>
int64_t repeat(int64_t repetitions) {
  using cpu::Scratch;
  const cpu::Workers workers(Scratch::bytes<T>(kM * kK) + Scratch::bytes<T>(kK * kN) +
                             Scratch::bytes<float>(kM * kN));
  const int64_t threads = std::max(1, at::get_num_threads());
  workers.run(
      threads,
      [&](int64_t, Scratch scratch) {
        T* const left = scratch.take<T>(kM * kK);
        T* const right = scratch.take<T>(kK * kN);
        float* const result = scratch.take<float>(kM * kN);
        std::fill_n(left, kM * kK, T{0});
        std::fill_n(right, kK * kN, T{0});
        for (int64_t i = 0; i < repetitions; ++i) {
          cpu::multiply({kM, kN, kK, kK, kN, kN, false}, left, right, result);
        }
      },
      cpu::release_products);
  return threads * repetitions * 2 * kM * kN * kK;
}

}  // namespace

double measure_micro_kernel(c10::ScalarType dtype, int64_t repetitions) {
  const bool is_fp32 = dtype == c10::kFloat;
  if (!is_fp32 && !cpu::level().bf16_product) return 0;
  const auto start = std::chrono::steady_clock::now();
  const int64_t flops = is_fp32 ? repeat<float>(repetitions) : repeat<uint16_t>(repetitions);
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  return static_cast<double>(flops) / elapsed.count();
}

}  // namespace lorikeet::ops
