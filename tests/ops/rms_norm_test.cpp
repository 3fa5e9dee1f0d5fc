// D numbers a row.
#include "lorikeet/ops/rms_norm.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "tests/ops/row_testing.h"

namespace lorikeet::ops {
namespace {

using torch::Tensor;

constexpr double kEps = 1e-5;

/// y and the gradients of x and weight.
std::vector<Tensor> results(const Tensor& x, const Tensor& weight, const Tensor& dy,
                            bool reference) {
  const Tensor y = rms_norm(x, weight, kEps, reference);
  std::vector<Tensor> all{y.detach()};
  for (const Tensor& g : torch::autograd::grad({y}, {x, weight}, {dy})) all.push_back(g);
  return all;
}

Tensor leaf(at::IntArrayRef sizes, torch::ScalarType dtype) {
  return torch::randn(sizes, torch::kDouble).to(dtype).requires_grad_();
}

Tensor wide(const Tensor& t) { return t.detach().to(torch::kDouble).requires_grad_(); }

// fp64: another order of sums. fp32: sums of D and of N products, each rounded. bf16: one rounding
// of each result, 2^-9; an fp32 weight's gradient sums exact products.
double tolerance_of(torch::ScalarType dtype) {
  return dtype == torch::kDouble ? 1e-14 : dtype == torch::kFloat ? 1e-6 : 4e-3;
}

void expect_near_reference(const Tensor& x, const Tensor& weight, const Tensor& dy) {
  const auto exact = results(wide(x), wide(weight), dy.to(torch::kDouble), /*reference=*/true);
  for (const std::string& level : all_levels()) {
    const AtLevel at(level);
    const auto ours = results(x, weight, dy, /*reference=*/false);
    for (size_t i = 0; i < ours.size(); ++i) {
      EXPECT_EQ(ours[i].sizes(), exact[i].sizes());
      EXPECT_EQ(ours[i].scalar_type(), i == 2 ? weight.scalar_type() : x.scalar_type());
      EXPECT_LT(relative_error(ours[i], exact[i]), tolerance_of(ours[i].scalar_type()))
          << level << ' ' << x.scalar_type() << ' ' << i;
    }
  }
}

class RmsNormShapes : public testing::TestWithParam<std::vector<int64_t>> {};

TEST_P(RmsNormShapes, ForwardAndBackwardEqualTheReferenceInFp64) {
  torch::manual_seed(1);
  for (const auto dtype : {torch::kDouble, torch::kFloat, torch::kBFloat16}) {
    for (const auto weight_dtype : {dtype, torch::kFloat}) {
      const Tensor x = leaf(GetParam(), dtype), weight = leaf({GetParam().back()}, weight_dtype);
      if (dtype == torch::kDouble && weight_dtype == torch::kFloat) continue;
      expect_near_reference(x, weight, torch::randn(x.sizes()).to(dtype));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, RmsNormShapes,
                         testing::Values(std::vector<int64_t>{2, 3, 16}, std::vector<int64_t>{5, 3},
                                         std::vector<int64_t>{37}, std::vector<int64_t>{300, 80},
                                         std::vector<int64_t>{2, 7, 3, 33},
                                         std::vector<int64_t>{131, 512}));

TEST(RmsNorm, DividesByTheRootMeanSquareInFp32) {
  const Tensor x = torch::tensor({{3.0, 4.0}, {0.0, 0.0}}, torch::kDouble);
  const Tensor weight = torch::tensor({2.0, 10.0}, torch::kDouble);
  const double rms = std::sqrt(12.5 + 1e-5);
  const Tensor expected = torch::tensor({{6 / rms, 40 / rms}, {0.0, 0.0}}, torch::kDouble);
  EXPECT_TRUE(torch::allclose(rms_norm(x, weight, 1e-5), expected, 1e-14));
  // bf16 in and out, but squares of 300 would overflow nothing and lose nothing in between: one
  // rounding in all.
  const Tensor big = torch::full({1, 4}, 300.0, torch::kBFloat16);
  EXPECT_TRUE(
      torch::equal(rms_norm(big, torch::ones({4}), 1e-5), torch::ones({1, 4}, torch::kBFloat16)));
}

TEST(RmsNorm, TakesMemoryOfAnyLayout) {
  torch::manual_seed(2);
  for (const auto dtype : {torch::kFloat, torch::kBFloat16}) {
    const Tensor weight = leaf({24}, torch::kFloat);
    const Tensor turned = leaf({24, 10}, dtype).t().detach().requires_grad_();
    expect_near_reference(turned, weight, torch::ones({}).to(dtype).expand({10, 24}));
    const Tensor part = leaf({10, 49}, dtype).narrow(1, 1, 24).detach().requires_grad_();
    expect_near_reference(part, weight, torch::randn({10, 24}).to(dtype));
  }
}

TEST(RmsNorm, GivesTheSameBitsForAnyNumberOfThreads) {
  torch::manual_seed(3);
  for (const auto dtype : {torch::kFloat, torch::kBFloat16}) {
    const Tensor x = leaf({1000, 48}, dtype), weight = leaf({48}, torch::kFloat);
    const Tensor dy = torch::randn(x.sizes()).to(dtype);
    expect_same_bits_for_any_threads([&] { return results(x, weight, dy, false); });
  }
}

TEST(RmsNorm, NoRowsGiveAZeroGradient) {
  const Tensor x = leaf({0, 8}, torch::kFloat), weight = leaf({8}, torch::kFloat);
  const auto all = results(x, weight, torch::zeros({0, 8}), false);
  EXPECT_EQ(all[0].sizes(), torch::IntArrayRef({0, 8}));
  EXPECT_TRUE(all[2].equal(torch::zeros({8})));
}

TEST(RmsNorm, OnlyWhatIsAskedForGetsAGradient) {
  const Tensor x = leaf({3, 8}, torch::kFloat), weight = torch::ones({8});
  rms_norm(x, weight, kEps).sum().backward();
  EXPECT_TRUE(x.grad().defined());
  const Tensor fixed = torch::randn({3, 8}), gain = leaf({8}, torch::kFloat);
  rms_norm(fixed, gain, kEps).sum().backward();
  EXPECT_TRUE(gain.grad().defined());
}

TEST(RmsNorm, DoubleBackwardIsRefusedRatherThanWrong) {
  const Tensor x = leaf({3, 8}, torch::kFloat), weight = leaf({8}, torch::kFloat);
  const Tensor dx = torch::autograd::grad({rms_norm(x, weight, kEps).square().sum()}, {x}, {},
                                          std::nullopt, /*create_graph=*/true)[0];
  EXPECT_THROW(dx.sum().backward(), c10::Error);
}

TEST(RmsNorm, RefusesAWeightThatDoesNotFit) {
  EXPECT_THROW(rms_norm(torch::ones({3, 8}), torch::ones({7}), kEps), c10::Error);
  EXPECT_THROW(rms_norm(torch::ones({3, 8}), torch::ones({8}, torch::kDouble), kEps), c10::Error);
  EXPECT_THROW(rms_norm(torch::ones({3, 8}, torch::kLong), torch::ones({8}), kEps), c10::Error);
}

}  // namespace
}  // namespace lorikeet::ops
