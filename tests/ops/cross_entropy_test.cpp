// N tokens, D model, V vocabulary.
#include "lorikeet/ops/cross_entropy.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "lorikeet/ops/functions.h"
#include "lorikeet/ops/workspace.h"
#include "tests/ops/row_testing.h"
#include "tests/support/tensor_memory.h"

namespace lorikeet::ops {
namespace {

using torch::Tensor;

Tensor leaf(at::IntArrayRef sizes, torch::ScalarType dtype, double scale = 1) {
  return (torch::randn(sizes, torch::kDouble) * scale).to(dtype).requires_grad_();
}

/// Some do not count.
Tensor random_targets(int64_t N, int64_t V) {
  Tensor targets = torch::randint(V, {N}, torch::kLong);
  if (N > 2) targets.index_put_({torch::arange(0, N, 7)}, -100);
  return targets;
}

/// Sum, losses, and the gradients of 0.37 times the sum.
std::vector<Tensor> results(const Tensor& hidden, const Tensor& weight, const Tensor& targets,
                            bool reference) {
  const CrossEntropy loss = linear_cross_entropy(hidden, weight, targets, reference);
  EXPECT_FALSE(loss.losses_N.requires_grad());
  std::vector<Tensor> all{loss.sum.detach(), loss.losses_N};
  for (const Tensor& g : torch::autograd::grad({loss.sum * 0.37}, {hidden, weight})) {
    all.push_back(g);
  }
  return all;
}

// Sum, losses, gradients. fp64: another order of sums. fp32: sums of D, V or N products. bf16: the
// logits are rounded (2^-9 of numbers up to 4, absolute in a loss near 6), the gradient of the
// logits, its products and the scaled result each to 2^-9.
struct Tolerance {
  double losses, gradients;
};
Tolerance tolerance_of(torch::ScalarType dtype) {
  if (dtype == torch::kDouble) return {1e-13, 1e-13};
  return dtype == torch::kFloat ? Tolerance{2e-6, 2e-6} : Tolerance{4e-3, 1e-2};
}

void expect_near_reference(const Tensor& hidden, const Tensor& weight, const Tensor& targets) {
  const auto wide = [](const Tensor& t) { return t.detach().to(torch::kDouble).requires_grad_(); };
  const auto exact = results(wide(hidden), wide(weight), targets, /*reference=*/true);
  const Tolerance tolerance = tolerance_of(hidden.scalar_type());
  for (const std::string& level : all_levels()) {
    const AtLevel at(level);
    const auto ours = results(hidden, weight, targets, /*reference=*/false);
    for (size_t i = 0; i < ours.size(); ++i) {
      EXPECT_EQ(ours[i].sizes(), exact[i].sizes());
      EXPECT_LT(relative_error(ours[i], exact[i]), i < 2 ? tolerance.losses : tolerance.gradients)
          << level << ' ' << hidden.scalar_type() << ' ' << i;
    }
    EXPECT_EQ(ours[2].scalar_type(), hidden.scalar_type());
    EXPECT_EQ(ours[3].scalar_type(), weight.scalar_type());
  }
}

struct Case {
  int64_t N, D, V;
};
class CrossEntropyShapes : public testing::TestWithParam<Case> {};

TEST_P(CrossEntropyShapes, LossesAndGradientsEqualTheReferenceInFp64) {
  const auto& [N, D, V] = GetParam();
  torch::manual_seed(1);
  const Tensor targets = random_targets(N, V);
  for (const auto dtype : {torch::kDouble, torch::kFloat, torch::kBFloat16}) {
    const Tensor hidden = leaf({N, D}, dtype);
    expect_near_reference(hidden, leaf({V, D}, dtype, 0.3), targets);
    if (dtype != torch::kBFloat16) continue;
    expect_near_reference(hidden, leaf({V, D}, torch::kFloat, 0.3), targets);
  }
}

// One token, one word, odd widths, more tokens than a chunk of 1024 and no multiple of it.
INSTANTIATE_TEST_SUITE_P(All, CrossEntropyShapes,
                         testing::Values(Case{1, 4, 1}, Case{3, 8, 2}, Case{37, 16, 1001},
                                         Case{2500, 12, 70}, Case{300, 8, 1100}));

TEST(CrossEntropy, NoTokensLoseNothing) {
  const Tensor hidden = leaf({0, 4}, torch::kFloat), weight = leaf({5, 4}, torch::kFloat);
  const auto all = results(hidden, weight, torch::empty({0}, torch::kLong), false);
  EXPECT_EQ(all[0].item<float>(), 0);
  EXPECT_TRUE(all[3].equal(torch::zeros({5, 4})));
}

TEST(CrossEntropy, AllTargetsIgnoredGiveZeroGradients) {
  for (const auto dtype : {torch::kFloat, torch::kBFloat16}) {
    const Tensor hidden = leaf({6, 4}, dtype), weight = leaf({5, 4}, torch::kFloat);
    const auto all = results(hidden, weight, torch::full({6}, -100, torch::kLong), false);
    for (const Tensor& t : all) EXPECT_EQ(t.abs().sum().item<float>(), 0);
  }
}

TEST(CrossEntropy, WithoutAGraphTheLossesAreTheSame) {
  torch::manual_seed(2);
  const Tensor hidden = leaf({50, 8}, torch::kBFloat16), weight = leaf({33, 8}, torch::kFloat);
  const Tensor targets = random_targets(50, 33);
  const Tensor with = linear_cross_entropy(hidden, weight, targets).losses_N;
  const torch::NoGradGuard no_grad;
  const CrossEntropy without = linear_cross_entropy(hidden, weight, targets);
  EXPECT_TRUE(with.equal(without.losses_N));
  EXPECT_FALSE(without.sum.requires_grad());
}

TEST(CrossEntropy, OnlyWhatWantsAGradientGetsOne) {
  const Tensor targets = torch::zeros({3}, torch::kLong);
  const Tensor hidden = leaf({3, 4}, torch::kFloat), weight = leaf({5, 4}, torch::kFloat);
  linear_cross_entropy(hidden, weight.detach(), targets).sum.backward();
  EXPECT_TRUE(hidden.grad().defined());
  linear_cross_entropy(hidden.detach(), weight, targets).sum.backward();
  EXPECT_TRUE(weight.grad().defined());
}

TEST(CrossEntropy, LargeLogitsStayFiniteAndWhatIsNotFiniteShows) {
  for (const auto dtype : {torch::kFloat, torch::kBFloat16}) {
    const Tensor weight = torch::tensor({{1.0f}, {-1.0f}, {0.5f}}).to(dtype);
    const Tensor targets = torch::zeros({1}, torch::kLong);
    const auto loss = [&](float x) {
      return linear_cross_entropy(torch::full({1, 1}, x).to(dtype), weight, targets)
          .sum.item<float>();
    };
    EXPECT_EQ(loss(3e4f), 0);
    EXPECT_NEAR(loss(-1024), 2048, 1e-3);
    EXPECT_TRUE(std::isnan(loss(std::numeric_limits<float>::quiet_NaN())));
    EXPECT_FALSE(std::isfinite(loss(std::numeric_limits<float>::infinity())));
  }
}

TEST(CrossEntropy, GivesTheSameBitsForAnyNumberOfThreadsWhereProductsDo) {
  torch::manual_seed(3);
  const Tensor logits = torch::randn({40, 777}), targets = random_targets(40, 777);
  // The identity as weight: each product has one term, whoever computes it.
  const Tensor hidden = logits.detach().requires_grad_(), weight = torch::eye(777).requires_grad_();
  expect_same_bits_for_any_threads([&] {
    const auto loss = linear_cross_entropy(hidden, weight, targets);
    return std::vector<Tensor>{loss.losses_N, torch::autograd::grad({loss.sum}, {hidden})[0]};
  });
}

TEST(CrossEntropy, ASecondBackwardIsRefused) {
  const Tensor hidden = leaf({3, 4}, torch::kFloat), weight = leaf({5, 4}, torch::kFloat);
  const Tensor sum = linear_cross_entropy(hidden, weight, torch::zeros({3}, torch::kLong)).sum;
  sum.backward({}, /*retain_graph=*/true);
  EXPECT_THROW(sum.backward(), c10::Error);
  const Tensor other = linear_cross_entropy(hidden, weight, torch::zeros({3}, torch::kLong)).sum;
  EXPECT_THROW(torch::autograd::grad({other}, {hidden}, {}, std::nullopt, /*create_graph=*/true),
               c10::Error);
}

TEST(CrossEntropy, RefusesTargetsThatAreNoWord) {
  const Tensor hidden = torch::ones({2, 4}), weight = torch::ones({5, 4});
  for (const int64_t wrong : {5, -1}) {
    EXPECT_THROW(linear_cross_entropy(hidden, weight, torch::tensor({int64_t{0}, wrong})),
                 c10::IndexError);
  }
  EXPECT_THROW(linear_cross_entropy(hidden, weight, torch::zeros({3}, torch::kLong)), c10::Error);
}

TEST(CrossEntropy, RefusesArgumentsOnTwoDevices) {
  const Tensor hidden = torch::ones({2, 4}), weight = torch::ones({5, 4});
  const Tensor targets = torch::zeros({2}, torch::kLong);
  const auto refuses = [](const Tensor& h, const Tensor& w, const Tensor& t) {
    try {
      linear_cross_entropy(h, w, t);
    } catch (const c10::Error& e) {
      return std::string(e.what_without_backtrace()).find("one device") != std::string::npos;
    }
    return false;
  };
  EXPECT_TRUE(refuses(hidden.to(torch::kMeta), weight, targets));
  EXPECT_TRUE(refuses(hidden, weight.to(torch::kMeta), targets));
  EXPECT_TRUE(refuses(hidden, weight, targets.to(torch::kMeta)));
  EXPECT_FALSE(refuses(hidden, weight, targets));
}

// What the graph and the work need beside arguments and gradients: one chunk of logits, a block of
// the weight's gradient and a bf16 copy of the weight, however many tokens there are. Where bf16 is
// widened, the chunk is in fp32, and there is its gradient of the weight instead of block and copy,
// and what the tiled product works in.
TEST(CrossEntropy, NeverHoldsAllLogits) {
  constexpr int64_t D = 8, V = 4000;
  const int64_t N =
      6 * cross_entropy_chunk(V);  // whole chunks: the last product is as large as any
  torch::manual_seed(4);
  const Tensor hidden = leaf({N, D}, torch::kBFloat16), weight = leaf({V, D}, torch::kFloat);
  const Tensor targets = random_targets(N, V);
  const auto peak = [&](bool reference) {
    const TensorMemory memory;
    linear_cross_entropy(hidden, weight, targets, reference).sum.backward();
    hidden.mutable_grad().reset();
    weight.mutable_grad().reset();
    return memory.peak_bytes();
  };
  const int64_t gradients = 2 * N * D + 4 * V * D, copy = 2 * V * D, block = 2 * V * D;
  const int64_t widened = cpu::beats_library(torch::kBFloat16) ? 2 : 1;
  const int64_t chunk = widened * 2 * cross_entropy_chunk(V) * V, small = 1 << 20;
  const int64_t fused = peak(/*reference=*/false);
  const int64_t tiled = widened == 1 ? 0
                                     : std::max(tiled_workspace_bytes(/*backward=*/false),
                                                tiled_workspace_bytes(/*backward=*/true));
  EXPECT_LT(fused, chunk + gradients + copy + block + tiled + small);
  EXPECT_GT(peak(/*reference=*/true), N * V * (2 + 4 + 4));
}

}  // namespace
}  // namespace lorikeet::ops
