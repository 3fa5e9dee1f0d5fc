#include "lorikeet/model/initialise.h"

#include <gtest/gtest.h>

#include "test_models.h"

namespace lorikeet {
namespace {

using namespace testing_models;
using torch::Tensor;

Tensor parameter(const ModelConfig& config, const std::string& name, int64_t seed = 1) {
  return make_model(config, torch::kFloat32, seed)->named_parameters()[name].detach();
}

const std::string kGate = "model.layers.0.mlp.experts.gate_proj.weight";
const std::string kQuery = "model.layers.0.self_attn.q_proj.weight";

ModelConfig wide_config() {
  ModelConfig config = tiny_config();
  config.hidden_size = 64;
  config.ffn_size = 96;
  config.feed_forward.num_experts = 4;
  config.init_std = 0.02;
  return config;
}

TEST(Initialise, IsAFunctionOfSeedAndNameAlone) {
  ModelConfig config = wide_config();
  const Tensor query = parameter(config, kQuery);
  EXPECT_TRUE(torch::equal(query, parameter(config, kQuery)));
  EXPECT_FALSE(torch::equal(query, parameter(config, kQuery, 2)));
  EXPECT_FALSE(torch::equal(query, parameter(config, "model.layers.1.self_attn.q_proj.weight")));
  config.feed_forward.kind = FeedForwardKind::kDense;
  config.num_layers = 5;
  EXPECT_TRUE(torch::equal(query, parameter(config, kQuery))) << "other parameters do not matter";
}

TEST(Initialise, PreserveGivesTheUniformAverageTheDenseVariance) {
  // 24,576 values: the sample deviation is good to 1/sqrt(2 * 6144) = 0.9%; 4 of those are allowed.
  ModelConfig config = wide_config();
  const auto merged_std = [&](ExpertInit init) {
    config.feed_forward.expert_init = init;
    return parameter(config, kGate).mean(0).std().item<double>();
  };
  EXPECT_NEAR(merged_std(ExpertInit::kPreserve), 0.02, 0.0008);
  EXPECT_NEAR(merged_std(ExpertInit::kIndependent), 0.01, 0.0004);
  EXPECT_NEAR(merged_std(ExpertInit::kCopied), 0.02, 0.0008);
}

TEST(Initialise, CopiedExpertsAreBitEqualAndOthersDiffer) {
  ModelConfig config = wide_config();
  config.feed_forward.expert_init = ExpertInit::kCopied;
  const Tensor copied = parameter(config, kGate);
  EXPECT_TRUE(torch::equal(copied[0], copied[3]));
  config.feed_forward.expert_init = ExpertInit::kIndependent;
  const Tensor independent = parameter(config, kGate);
  EXPECT_FALSE(torch::equal(independent[0], independent[3]));
}

TEST(Initialise, TruncationBoundsValuesAndKeepsTheRest) {
  ModelConfig config = wide_config();
  config.init_truncation = 2;
  const Tensor embedding = parameter(config, "model.embed_tokens.weight");
  EXPECT_LE(embedding.abs().max().item<double>(), 0.04 + 1e-9);
  EXPECT_GT(embedding.abs().max().item<double>(), 0.035);
  // A normal truncated at 2 standard deviations has deviation 0.8796.
  EXPECT_NEAR(embedding.std().item<double>(), 0.02 * 0.8796, 0.001);
}

TEST(Initialise, NormsAreOneAndThePriorIsUniform) {
  ModelConfig config = wide_config();
  config.feed_forward.first_segment = FirstSegment::kLearned;
  EXPECT_TRUE((parameter(config, "model.norm.weight") == 1).all().item<bool>());
  EXPECT_TRUE((parameter(config, "model.layers.1.mlp.router.prior") == 0).all().item<bool>());
  config.feed_forward.router_init_std = 0.5;
  EXPECT_NEAR(parameter(config, "model.layers.0.mlp.router.weight").std().item<double>(), 0.5, 0.1);
}

TEST(Initialise, AModelOnMetaIsRefused) {
  LanguageModel model(tiny_config(), torch::TensorOptions(torch::kMeta));
  EXPECT_THROW(initialise_parameters(*model, 1), c10::Error);
}

}  // namespace
}  // namespace lorikeet
