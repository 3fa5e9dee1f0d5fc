#pragma once
// What the tests of the decoder's row-wise operators share.
#include <string>
#include <vector>

#include "tests/ops/merged_testing.h"

namespace lorikeet::ops {

/// Every level that this processor has.
inline std::vector<std::string> all_levels() {
  std::vector<std::string> names;
  for (const char* name : {"avx512bf16", "avx512", "avx2", "portable", "reference"}) {
    if (cpu::has_level(name)) names.emplace_back(name);
  }
  return names;
}

/// Results of `compute` at one thread and at three.
template <class Compute>
void expect_same_bits_for_any_threads(const Compute& compute) {
  const int threads = torch::get_num_threads();
  torch::set_num_threads(1);
  const std::vector<torch::Tensor> one = compute();
  torch::set_num_threads(3);
  const std::vector<torch::Tensor> three = compute();
  torch::set_num_threads(threads);
  ASSERT_EQ(one.size(), three.size());
  for (size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(one[i].equal(three[i])) << i;
}

}  // namespace lorikeet::ops
