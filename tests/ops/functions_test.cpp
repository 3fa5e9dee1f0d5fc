#include "lorikeet/ops/functions.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "src/ops/ragged_mean.h"

namespace lorikeet::ops {
namespace {

using torch::Tensor;

TEST(SegmentMean, UniformAndRaggedSegmentsGiveRowMeans) {
  const Tensor x = torch::arange(12, torch::kFloat).view({6, 2});
  const Tensor uniform = torch::tensor({{2.0f, 3.0f}, {8.0f, 9.0f}});
  EXPECT_TRUE(torch::equal(segment_mean(x, {0, 3, 6}), uniform));
  const Tensor ragged = torch::tensor({{0.0f, 1.0f}, {6.0f, 7.0f}});
  EXPECT_TRUE(torch::equal(segment_mean(x, {0, 1, 6}), ragged));
  EXPECT_EQ(segment_mean(x.to(torch::kBFloat16), {0, 1, 6}).scalar_type(), torch::kFloat);
  EXPECT_THROW(segment_mean(x, {0, 6, 6}), c10::Error) << "an empty segment has no mean";
}

// On a CPU segment_mean takes them one by one.
TEST(RaggedMean, GivesTheMeansAndGradientsOfSegmentMean) {
  torch::manual_seed(5);
  const std::vector<int64_t> offsets = {0, 1, 70, 73, 300};
  const Tensor dy = torch::randn({4, 24}, torch::kDouble);
  for (const auto& [type, tolerance] :
       {std::pair{torch::kDouble, 1e-14}, {torch::kFloat, 1e-5}, {torch::kBFloat16, 1e-5}}) {
    const Tensor values = torch::randn({300, 24}).to(type);
    const auto results = [&](auto&& mean) {
      const Tensor x = values.clone().requires_grad_();
      const Tensor y = mean(x, offsets);
      y.backward(dy.to(y.scalar_type()));
      return std::pair(y.detach(), x.grad());
    };
    const auto [y, dx] = results(segment_mean);
    const auto [ragged_y, ragged_dx] = results(ragged_mean);
    EXPECT_EQ(ragged_y.scalar_type(), y.scalar_type());
    EXPECT_TRUE(torch::allclose(ragged_y, y, tolerance, tolerance)) << type;
    EXPECT_EQ(ragged_dx.scalar_type(), type);
    EXPECT_TRUE(torch::allclose(ragged_dx, dx, type == torch::kBFloat16 ? 1e-2 : tolerance, 1e-7))
        << type;
  }
}

TEST(TokenLosses, AreNegativeLogProbabilitiesAndIgnoredTargetsCostNothing) {
  const Tensor logits = torch::tensor({{0.0f, std::log(3.0f)}, {5.0f, 5.0f}, {1.0f, 2.0f}});
  const Tensor losses = token_losses(logits, torch::tensor({1, 0, -100}, torch::kLong));
  const Tensor expected = torch::tensor({std::log(4.0f / 3), std::log(2.0f), 0.0f});
  EXPECT_TRUE(torch::allclose(losses, expected, 1e-6, 1e-6));
}

}  // namespace
}  // namespace lorikeet::ops
