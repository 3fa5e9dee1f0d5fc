#include "lorikeet/ops/linear.h"

#include <gtest/gtest.h>

#include "tests/ops/row_testing.h"
#include "tests/support/tensor_memory.h"

namespace lorikeet::ops {
namespace {

using torch::Tensor;

struct Case {
  std::vector<int64_t> x;
  int64_t O;
  torch::ScalarType dtype, weight;
};

Tensor leaf(at::IntArrayRef sizes, torch::ScalarType dtype) {
  return torch::randn(sizes).to(dtype).requires_grad_();
}

/// The result and both gradients.
std::vector<Tensor> results(const Tensor& x, const Tensor& weight, const Tensor& dy,
                            bool reference) {
  const Tensor y = linear(x, weight, reference);
  std::vector<Tensor> all{y.detach()};
  for (const Tensor& g : torch::autograd::grad({y}, {x, weight}, {dy})) all.push_back(g);
  return all;
}

// fp32: sums of some hundred rounded products. bf16: results are rounded to 8 bits, and so is the
// weight.
double tolerance_of(torch::ScalarType dtype) { return dtype == torch::kFloat ? 2e-6 : 6e-3; }

class Linear : public testing::TestWithParam<Case> {};

TEST_P(Linear, EqualsTheReferenceInFp64AtEveryLevel) {
  const Case& c = GetParam();
  torch::manual_seed(1);
  const Tensor x = leaf(c.x, c.dtype), weight = leaf({c.O, c.x.back()}, c.weight);
  std::vector<int64_t> sizes = c.x;
  sizes.back() = c.O;
  const Tensor dy = torch::randn(sizes).to(c.dtype);
  const auto wide = [](const Tensor& t) { return t.detach().to(torch::kDouble).requires_grad_(); };
  const auto exact = results(wide(x), wide(weight), wide(dy).detach(), /*reference=*/true);
  for (const std::string& level : all_levels()) {
    const AtLevel at(level);
    const auto ours = results(x, weight, dy, /*reference=*/false);
    for (size_t i = 0; i < ours.size(); ++i) {
      EXPECT_EQ(ours[i].sizes(), exact[i].sizes());
      EXPECT_LT(relative_error(ours[i], exact[i]), tolerance_of(c.dtype)) << level << ' ' << i;
    }
    EXPECT_EQ(ours[0].scalar_type(), c.dtype);
    EXPECT_EQ(ours[2].scalar_type(), c.weight);
  }
}

// Few tokens, some dimensions, odd widths, whole blocks.
INSTANTIATE_TEST_SUITE_P(All, Linear,
                         testing::Values(Case{{3, 40}, 24, torch::kFloat, torch::kFloat},
                                         Case{{2, 100, 40}, 24, torch::kFloat, torch::kFloat},
                                         Case{{2, 100, 40}, 24, torch::kBFloat16, torch::kFloat},
                                         Case{{130, 33}, 17, torch::kBFloat16, torch::kFloat},
                                         Case{{130, 33}, 17, torch::kBFloat16, torch::kBFloat16},
                                         Case{{256, 128}, 192, torch::kFloat, torch::kFloat}));

TEST(LinearGraph, KeepsNoCopyOfTheWeightWhereItIsTiled) {
  const AtLevel avx2(cpu::has_level("avx2") ? "avx2" : "reference");
  if (!cpu::beats_library(torch::kBFloat16)) GTEST_SKIP() << "not on this processor";
  const Tensor x = leaf({64, 256}, torch::kBFloat16), weight = leaf({2048, 256}, torch::kFloat);
  const auto kept = [&](bool reference) {
    const TensorMemory memory;
    const Tensor y = linear(x, weight, reference);
    return memory.bytes() - static_cast<int64_t>(y.nbytes());
  };
  constexpr int64_t kCopy = 2 * 2048 * 256;
  EXPECT_GE(kept(/*reference=*/true), kCopy);
  EXPECT_LT(kept(/*reference=*/false), kCopy / 16);
}

}  // namespace
}  // namespace lorikeet::ops
