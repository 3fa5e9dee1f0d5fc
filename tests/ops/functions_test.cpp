#include "lorikeet/ops/functions.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

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

TEST(TokenLosses, AreNegativeLogProbabilitiesAndIgnoredTargetsCostNothing) {
  const Tensor logits = torch::tensor({{0.0f, std::log(3.0f)}, {5.0f, 5.0f}, {1.0f, 2.0f}});
  const Tensor losses = token_losses(logits, torch::tensor({1, 0, -100}, torch::kLong));
  const Tensor expected = torch::tensor({std::log(4.0f / 3), std::log(2.0f), 0.0f});
  EXPECT_TRUE(torch::allclose(losses, expected, 1e-6, 1e-6));
}

}  // namespace
}  // namespace lorikeet::ops
