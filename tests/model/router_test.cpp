#include "lorikeet/model/router.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

namespace lorikeet {
namespace {

using torch::Tensor;

ModelConfig config_with(const SmearConfig& smear) {
  ModelConfig config;
  config.hidden_size = 6;
  config.feed_forward.kind = FeedForwardKind::kMerged;
  config.feed_forward.num_experts = 3;
  config.feed_forward.routing = Routing::kSequence;
  config.feed_forward.smear = smear;
  return config;
}

/// A router with every parameter drawn at random, and the parameters by name.
Router random_router(const ModelConfig& config) {
  Router router(config, torch::TensorOptions(torch::kDouble));
  torch::manual_seed(4);
  const torch::NoGradGuard no_grad;
  for (auto& parameter : router->parameters()) parameter.normal_();
  return router;
}

/// (x - mean) / sqrt(variance + 1e-5), row by row, by hand.
Tensor standardised(const Tensor& x) {
  const Tensor centred = x - x.mean(-1, true);
  return centred / (centred.square().mean(-1, true) + 1e-5).sqrt();
}

TEST(Router, PlainIsSoftmaxOfALinearMap) {
  Router router = random_router(config_with({}));
  const Tensor x = torch::randn({4, 6}, torch::kDouble);
  EXPECT_EQ(router->named_parameters().size(), 1u);
  EXPECT_TRUE(torch::allclose(router(x), torch::softmax(x.mm(router->weight.t()), -1)));
}

TEST(Router, SmearNormalisesThePooledInput) {
  Router router = random_router(config_with(
      {.input_norm = true, .router_norm = false, .router_bias = false, .expert_dropout = 0}));
  const auto p = router->named_parameters();
  const Tensor x = torch::randn({4, 6}, torch::kDouble);
  const Tensor normed = standardised(x) * p["input_norm_weight"] + p["input_norm_bias"];
  EXPECT_TRUE(torch::allclose(router(x), torch::softmax(normed.mm(p["weight"].t()), -1)));
}

TEST(Router, SmearNormalisesTheRoutersRowsTimesAGainAndAddsABias) {
  Router router = random_router(config_with(
      {.input_norm = false, .router_norm = true, .router_bias = true, .expert_dropout = 0}));
  const auto p = router->named_parameters();
  const Tensor x = torch::randn({4, 6}, torch::kDouble);
  const Tensor rows = standardised(p["weight"]) * p["gain"];
  EXPECT_TRUE(torch::allclose(router(x), torch::softmax(x.mm(rows.t()) + p["bias"], -1)));
}

TEST(Router, AllExpertsDroppedIsUniform) {
  Router router = random_router(config_with({.input_norm = false,
                                             .router_norm = false,
                                             .router_bias = false,
                                             .expert_dropout = 0.9999999}));
  const Tensor x = torch::randn({4, 6}, torch::kDouble);
  EXPECT_TRUE(torch::allclose(router(x), torch::full({4, 3}, 1.0 / 3, torch::kDouble)));
}

}  // namespace
}  // namespace lorikeet
