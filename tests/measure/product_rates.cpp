// The micro-kernel's rate by how wide a pane of its right operand is, in GFLOP/s of one thread:
// with operands in cache, and with right operands that come from the third level, as merged_ffn's
// do. `Level::pane` is chosen by it.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "src/ops/cpu/level.h"
#include "src/ops/cpu/product.h"

namespace lorikeet::ops::cpu {
namespace {

constexpr int64_t kM = 64, kK = 512, kTokens = 4096;  // fp32: 8 MB of right operands
constexpr int kRounds = 40;

/// One pass over all tokens.
template <class T>
double gigaflops(int64_t width, bool is_in_cache, const T* left, const T* right, float* out) {
  const auto begin = std::chrono::steady_clock::now();
  for (int64_t t = 0; t < kTokens; t += width) {
    multiply({kM, width, kK, kK, width, width, false}, left, is_in_cache ? right : right + t * kK,
             out);
  }
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
  return 2e-9 * kM * kTokens * kK / elapsed.count();
}

/// Widths take turns, since a processor's speed moves. Prints medians.
template <class T>
void measure(const char* name, at::ScalarType dtype) {
  constexpr int64_t kWidths[] = {16, 32, 64, 128};
  const at::Tensor left = at::randn({kM, kK}).to(dtype);
  const at::Tensor right = at::randn({kTokens, kK}).to(dtype);
  std::vector<float> out(kM * 128);
  std::vector<double> rates[std::size(kWidths)][2];
  for (int round = 0; round < kRounds; ++round) {
    for (size_t w = 0; w < std::size(kWidths); ++w) {
      for (const bool is_in_cache : {false, true}) {
        rates[w][is_in_cache].push_back(
            gigaflops(kWidths[w], is_in_cache, static_cast<const T*>(left.const_data_ptr()),
                      static_cast<const T*>(right.const_data_ptr()), out.data()));
      }
    }
  }
  const auto median = [](std::vector<double>& v) {
    std::nth_element(v.begin(), v.begin() + kRounds / 2, v.end());
    return v[kRounds / 2];
  };
  for (size_t w = 0; w < std::size(kWidths); ++w) {
    std::printf("| %s | %ld | %.0f | %.0f |\n", name, static_cast<long>(kWidths[w]),
                median(rates[w][true]), median(rates[w][false]));
  }
}

}  // namespace
}  // namespace lorikeet::ops::cpu

int main() {
  using namespace lorikeet::ops::cpu;
  at::set_num_threads(1);
  std::printf("| dtype | columns | in cache | from the third level |\n|---|---:|---:|---:|\n");
  measure<float>("fp32", at::kFloat);
  if (level().bf16_product) measure<uint16_t>("bf16", at::kBFloat16);
}
