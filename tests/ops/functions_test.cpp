#include "lorikeet/ops/functions.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

namespace lorikeet::ops {
namespace {

using torch::Tensor;

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

TEST(Rope, RotatesPairsHalfAHeadApartByPositionTimesFrequency) {
  const RopeTable table = make_rope_table(torch::tensor({0, 1, 5}, torch::kLong), 4, 100.0);
  const Tensor x = torch::tensor({1.0, 2.0, 3.0, 4.0}, torch::kDouble).expand({1, 1, 3, 4});
  const Tensor y = apply_rope(x, table);
  EXPECT_TRUE(torch::equal(y[0][0][0], x[0][0][0])) << "position 0 is not rotated";
  for (const auto& [row, position] : {std::pair{1, 1.0}, {2, 5.0}}) {
    const double a = position, b = position / 10;  // theta^(-0/4), theta^(-2/4)
    const Tensor expected =
        torch::tensor({std::cos(a) - 3 * std::sin(a), 2 * std::cos(b) - 4 * std::sin(b),
                       3 * std::cos(a) + std::sin(a), 4 * std::cos(b) + 2 * std::sin(b)},
                      torch::kDouble);
    EXPECT_TRUE(torch::allclose(y[0][0][row], expected, 0, 1e-6)) << "angles are fp32";
  }
}

TEST(Rope, ScoresDependOnDistanceAlone) {
  torch::manual_seed(1);
  const Tensor q = torch::randn({1, 1, 1, 64}, torch::kDouble), k = torch::randn_like(q);
  const auto score = [&](int64_t at_q, int64_t at_k) {
    const auto turned = [](const Tensor& x, int64_t position) {
      return apply_rope(x, make_rope_table(torch::tensor({position}, torch::kLong), 64, 1e4));
    };
    return (turned(q, at_q) * turned(k, at_k)).sum().item<double>();
  };
  EXPECT_NEAR(score(7, 3), score(1004, 1000), 1e-2);  // fp32 angles near 1000 are good to 6e-5
  EXPECT_GT(std::abs(score(7, 3) - score(7, 4)), 1e-2);
}

TEST(SegmentMean, UniformAndRaggedSegmentsGiveRowMeans) {
  const Tensor x = torch::arange(12, torch::kFloat).view({6, 2});
  const Tensor uniform = torch::tensor({{2.0f, 3.0f}, {8.0f, 9.0f}});
  EXPECT_TRUE(torch::equal(segment_mean(x, {0, 3, 6}), uniform));
  const Tensor ragged = torch::tensor({{0.0f, 1.0f}, {6.0f, 7.0f}});
  EXPECT_TRUE(torch::equal(segment_mean(x, {0, 1, 6}), ragged));
  EXPECT_EQ(segment_mean(x.to(torch::kBFloat16), {0, 1, 6}).scalar_type(), torch::kFloat);
  EXPECT_THROW(segment_mean(x, {0, 6, 6}), c10::Error) << "an empty segment has no mean";
}

TEST(TokenLosses, AreNegativeLogProbabilitiesAndIgnoredTargetsCostNothing) {
  const Tensor logits = torch::tensor({{0.0f, std::log(3.0f)}, {5.0f, 5.0f}, {1.0f, 2.0f}});
  const Tensor losses = token_losses(logits, torch::tensor({1, 0, -100}, torch::kLong));
  const Tensor expected = torch::tensor({std::log(4.0f / 3), std::log(2.0f), 0.0f});
  EXPECT_TRUE(torch::allclose(losses, expected, 1e-6, 1e-6));
}

}  // namespace
}  // namespace lorikeet::ops
