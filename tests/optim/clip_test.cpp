#include "lorikeet/optim/clip.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace lorikeet {
namespace {

std::vector<torch::Tensor> make_parameters(const std::vector<std::vector<int64_t>>& shapes) {
  torch::manual_seed(3);
  std::vector<torch::Tensor> parameters;
  for (const auto& shape : shapes) {
    parameters.push_back(torch::zeros(shape).requires_grad_());
    parameters.back().mutable_grad() = torch::randn(shape);
  }
  return parameters;
}

std::vector<torch::Tensor> gradients(const std::vector<torch::Tensor>& parameters) {
  std::vector<torch::Tensor> copies;
  for (const auto& parameter : parameters) copies.push_back(parameter.grad().clone());
  return copies;
}

TEST(ClipGradients, ScalesAllGradientsByTheGlobalNorm) {
  const auto parameters = make_parameters({{2}, {1}});
  parameters[0].mutable_grad() = torch::tensor({2.0f, 3.0f});
  parameters[1].mutable_grad() = torch::tensor({6.0f});
  EXPECT_EQ(clip_gradients(parameters, 1.4), 7.0);
  EXPECT_TRUE(torch::allclose(parameters[0].grad(), torch::tensor({0.4f, 0.6f})));
  EXPECT_TRUE(torch::allclose(parameters[1].grad(), torch::tensor({1.2f})));
}

TEST(ClipGradients, EqualsTorchs) {
  for (const double max_norm : {0.5, 1.0, 1000.0}) {
    const auto mine = make_parameters({{70, 50}, {3, 4, 5}, {17}, {}});
    const auto theirs = make_parameters({{70, 50}, {3, 4, 5}, {17}, {}});
    const double norm = clip_gradients(mine, max_norm);
    const double expected = torch::nn::utils::clip_grad_norm_(theirs, max_norm);
    EXPECT_NEAR(norm, expected, 1e-6 * expected);
    for (size_t i = 0; i < mine.size(); ++i) {
      EXPECT_TRUE(torch::allclose(mine[i].grad(), theirs[i].grad(), 1e-6, 0));
    }
  }
}

TEST(ClipGradients, ChangesNoBitBelowTheLimit) {
  const auto parameters = make_parameters({{30}});
  const auto before = gradients(parameters);
  EXPECT_LT(clip_gradients(parameters, 100), 100);
  EXPECT_TRUE(torch::equal(parameters[0].grad(), before[0]));
}

TEST(ClipGradients, OnlyMeasuresWhereTheLimitIsZero) {
  const auto parameters = make_parameters({{30}});
  const auto before = gradients(parameters);
  EXPECT_NEAR(clip_gradients(parameters, 0), before[0].norm().item<double>(), 1e-5);
  EXPECT_TRUE(torch::equal(parameters[0].grad(), before[0]));
}

TEST(ClipGradients, ReturnsANonFiniteNormAndLeavesTheGradientsAlone) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float bad : {infinity, -infinity, std::nanf("")}) {
    const auto parameters = make_parameters({{30}, {4}});
    parameters[1].mutable_grad()[2] = bad;
    const auto before = gradients(parameters);
    EXPECT_FALSE(std::isfinite(clip_gradients(parameters, 0.1)));
    EXPECT_TRUE(torch::equal(parameters[0].grad(), before[0]));
    EXPECT_TRUE(torch::allclose(parameters[1].grad(), before[1], 0, 0, /*equal_nan=*/true));
  }
}

TEST(ClipGradients, MeasuresWhatWouldOverflowInSinglePrecision) {
  const auto parameters = make_parameters({{4}});
  parameters[0].mutable_grad() = torch::full({4}, 1e30f);
  EXPECT_NEAR(clip_gradients(parameters, 1.0), 2e30, 1e24);
  EXPECT_TRUE(torch::allclose(parameters[0].grad(), torch::full({4}, 0.5f)));
}

TEST(ClipGradients, PassesOverMissingAndTakesEmptyAndStridedGradients) {
  auto parameters = make_parameters({{3, 5}, {4}, {0}});
  parameters[0].mutable_grad() = torch::ones({5, 3}).t();
  parameters[1].mutable_grad().reset();
  EXPECT_NEAR(clip_gradients(parameters, 1.0), std::sqrt(15.0), 1e-12);
  EXPECT_FALSE(parameters[1].grad().defined());
  EXPECT_NEAR(clip_gradients(parameters, 1.0), 1.0, 1e-6);
  EXPECT_EQ(clip_gradients({parameters[1]}, 1.0), 0.0);
  EXPECT_EQ(clip_gradients({}, 1.0), 0.0);
}

TEST(ClipGradients, GivesTheSameBitsWithAnyNumberOfThreads) {
  const int threads_before = at::get_num_threads();
  const auto run = [](int threads) {
    at::set_num_threads(threads);
    const auto parameters = make_parameters({{331, 1009}, {77}});
    const double norm = clip_gradients(parameters, 1.0);
    return std::pair(norm, parameters[0].grad());
  };
  const auto [norm, gradient] = run(1);
  for (const int threads : {2, 3, 7}) {
    const auto [other_norm, other_gradient] = run(threads);
    EXPECT_EQ(norm, other_norm) << threads;
    EXPECT_TRUE(torch::equal(gradient, other_gradient)) << threads;
  }
  at::set_num_threads(threads_before);
}

}  // namespace
}  // namespace lorikeet
