#include "lorikeet/model/language_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lorikeet/model/parameter_count.h"
#include "test_models.h"

namespace lorikeet {
namespace {

using namespace testing_models;
using torch::Tensor;

TEST(LanguageModel, ParametersCarryHuggingFaceNamesAndStackedExperts) {
  ModelConfig config = tiny_config();
  config.num_layers = 1;
  config.qk_norm = QkNorm::kHead;
  config.num_kv_heads = 1;
  config.feed_forward.first_segment = FirstSegment::kLearned;
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const auto& p : LanguageModel(config)->named_parameters()) {
    shapes[p.key()] = p.value().sizes().vec();
  }
  const std::string layer = "model.layers.0.";
  const std::map<std::string, std::vector<int64_t>> expected = {
      {"model.embed_tokens.weight", {50, 16}},
      {layer + "input_layernorm.weight", {16}},
      {layer + "self_attn.q_proj.weight", {16, 16}},
      {layer + "self_attn.k_proj.weight", {8, 16}},
      {layer + "self_attn.v_proj.weight", {8, 16}},
      {layer + "self_attn.o_proj.weight", {16, 16}},
      {layer + "self_attn.q_norm.weight", {8}},
      {layer + "self_attn.k_norm.weight", {8}},
      {layer + "post_attention_layernorm.weight", {16}},
      {layer + "mlp.router.weight", {3, 16}},
      {layer + "mlp.router.prior", {3}},
      {layer + "mlp.experts.gate_proj.weight", {3, 24, 16}},
      {layer + "mlp.experts.up_proj.weight", {3, 24, 16}},
      {layer + "mlp.experts.down_proj.weight", {3, 16, 24}},
      {"model.norm.weight", {16}},
      {"lm_head.weight", {50, 16}}};
  EXPECT_EQ(shapes, expected);
}

struct Variant {
  const char* name;
  void (*set)(ModelConfig&);
};

void PrintTo(const Variant& variant, std::ostream* out) { *out << variant.name; }

class ModelVariants : public testing::TestWithParam<Variant> {};

TEST_P(ModelVariants, GradientsEqualFiniteDifferences) {
  ModelConfig config = tiny_config();
  GetParam().set(config);
  LanguageModel model = make_model(config, torch::kDouble);
  const Tensor ids = random_ids(config, 2, 15);
  mean_loss(model, ids).backward();
  const torch::NoGradGuard no_grad;
  for (auto& p : model->named_parameters()) {
    Tensor& value = p.value();
    torch::manual_seed(11);
    const Tensor direction = torch::randn_like(value) * (0.1 / std::sqrt(value.numel()));
    const double step = 1e-4;
    value.add_(direction, step);
    const double above = mean_loss(model, ids).item<double>();
    value.add_(direction, -2 * step);
    const double below = mean_loss(model, ids).item<double>();
    value.add_(direction, step);
    const double numeric = (above - below) / (2 * step);
    ASSERT_TRUE(value.grad().defined()) << p.key();
    const double analytic = (value.grad() * direction).sum().item<double>();
    // The central difference errs by step^2 times the third derivative, and by 1e-16 / step.
    EXPECT_NEAR(analytic, numeric, 1e-8 + 1e-5 * std::abs(numeric)) << p.key();
  }
}

// Stop-gradient first segments are left out on purpose: there the gradient is not the derivative of
// the loss.
INSTANTIATE_TEST_SUITE_P(
    All, ModelVariants,
    testing::Values(
        Variant{"dense", [](ModelConfig& c) { c.feed_forward.kind = FeedForwardKind::kDense; }},
        Variant{"causal_uniform",
                [](ModelConfig& c) { c.feed_forward.first_segment = FirstSegment::kUniform; }},
        Variant{"causal_learned",
                [](ModelConfig& c) { c.feed_forward.first_segment = FirstSegment::kLearned; }},
        Variant{"prefix_learned",
                [](ModelConfig& c) {
                  c.feed_forward.routing = Routing::kPrefix;
                  c.feed_forward.first_segment = FirstSegment::kLearned;
                }},
        Variant{"sequence", [](ModelConfig& c) { c.feed_forward.routing = Routing::kSequence; }},
        Variant{"smear",
                [](ModelConfig& c) {
                  c.feed_forward.routing = Routing::kSequence;
                  c.feed_forward.smear = {true, true, true, 0.0};
                }},
        Variant{"grouped_queries_tied_qk_norm",
                [](ModelConfig& c) {
                  c.feed_forward.first_segment = FirstSegment::kUniform;
                  c.num_heads = 4;
                  c.num_kv_heads = 2;
                  c.tie_embeddings = true;
                  c.qk_norm = QkNorm::kFull;
                }},
        Variant{"qk_norm_per_head", [](ModelConfig& c) {
                  c.feed_forward.kind = FeedForwardKind::kDense;
                  c.qk_norm = QkNorm::kHead;
                  c.head_dim = 12;
                }}));

TEST(StopGradient, AloneInTheContextTheFirstSegmentTeachesTheRouterNothing) {
  const ModelConfig config = tiny_config();
  LanguageModel model = make_model(config, torch::kDouble);
  mean_loss(model, random_ids(config, 2, config.feed_forward.segment_length + 1)).backward();
  const auto parameters = model->named_parameters();
  EXPECT_EQ(parameters["model.layers.0.mlp.router.weight"].grad().abs().max().item<double>(), 0);
  EXPECT_GT(
      parameters["model.layers.0.mlp.experts.up_proj.weight"].grad().abs().max().item<double>(), 0);
  mean_loss(model, random_ids(config, 2, 2 * config.feed_forward.segment_length + 1)).backward();
  EXPECT_GT(parameters["model.layers.0.mlp.router.weight"].grad().abs().max().item<double>(), 0);
}

/// Largest distance between two experts' gate matrices in layer 0 after `steps` of plain gradient
/// descent.
double expert_distance(double router_std, int steps) {
  ModelConfig config = tiny_config();
  config.feed_forward.expert_init = ExpertInit::kCopied;
  config.feed_forward.router_init_std = router_std;
  LanguageModel model = make_model(config, torch::kDouble);
  const Tensor ids = random_ids(config, 2, 17);
  for (int step = 0; step < steps; ++step) {
    model->zero_grad();
    mean_loss(model, ids).backward();
    const torch::NoGradGuard no_grad;
    for (auto& p : model->parameters()) p.sub_(p.grad(), 0.1);
  }
  const Tensor gate = model->named_parameters()["model.layers.0.mlp.experts.gate_proj.weight"];
  return (gate - gate.narrow(0, 0, 1)).abs().max().item<double>();
}

TEST(Symmetry, OfCopiedExpertsBreaksWithARandomRouterAndNeverWithAZeroOne) {
  EXPECT_EQ(expert_distance(1.0, 0), 0);
  EXPECT_GT(expert_distance(1.0, 3), 1e-6);
  EXPECT_LT(expert_distance(0.0, 3), 1e-15) << "identical but for the rounding of sums";
}

TEST(LanguageModel, RoutingRecordsAreDistributionsOverExpertsForEveryLayerAndSegment) {
  const ModelConfig config = tiny_config();
  LanguageModel model = make_model(config);
  const ModelOutput output = model->forward(random_ids(config, 2, 14));
  ASSERT_EQ(output.routing.size(), 2u);
  for (const RoutingRecord& record : output.routing) {
    EXPECT_EQ(record.weights_GE.sizes(), torch::IntArrayRef({8, 3}));
    EXPECT_TRUE(torch::allclose(record.weights_GE.sum(-1), torch::ones({8})));
    EXPECT_FALSE(record.weights_GE.requires_grad());
  }
}

TEST(LanguageModel, Bf16ComputeStaysNearFp32AndKeepsRoutingInFp32) {
  const ModelConfig config = tiny_config();
  LanguageModel model = make_model(config);
  const Tensor ids = random_ids(config, 2, 16), exact = log_probabilities(model, ids);
  model->set_compute_dtype(torch::kBFloat16);
  const ModelOutput output = model->forward(ids);
  EXPECT_EQ(output.hidden_BLD.scalar_type(), torch::kBFloat16);
  EXPECT_EQ(output.routing[0].weights_GE.scalar_type(), torch::kFloat);
  const Tensor rough = log_probabilities(model, ids).to(torch::kFloat);
  // 8 bits of mantissa through two layers of width 16: a few per cent.
  EXPECT_LT((rough - exact).norm().item<float>() / exact.norm().item<float>(), 0.05);
  mean_loss(model, ids).backward();
  for (const auto& p : model->named_parameters()) {
    EXPECT_EQ(p.value().grad().scalar_type(), torch::kFloat) << p.key();
  }
}

TEST(LanguageModel, GroupedQueriesEqualRepeatedKeysAndValues) {
  ModelConfig grouped = tiny_config(FeedForwardKind::kDense), full = grouped;
  grouped.num_heads = full.num_heads = 4;
  grouped.num_kv_heads = 2;
  LanguageModel a = make_model(grouped, torch::kDouble), b = make_model(full, torch::kDouble);
  const torch::NoGradGuard no_grad;
  for (auto& p : b->named_parameters()) {
    Tensor source = a->named_parameters()[p.key()];
    if (p.value().sizes() != source.sizes()) {  // [2 heads of 4, D] -> each head twice in a row
      source = source.view({2, 1, 4, 16}).expand({2, 2, 4, 16}).reshape({16, 16});
    }
    p.value().copy_(source);
  }
  const Tensor ids = random_ids(full, 2, 16);
  EXPECT_TRUE(torch::allclose(log_probabilities(a, ids), log_probabilities(b, ids), 1e-12, 1e-12));
}

TEST(Smear, ExpertDropoutRenormalisesInTrainingAndRestsInEvaluation) {
  ModelConfig config = tiny_config();
  config.feed_forward.routing = Routing::kSequence;
  config.feed_forward.smear.expert_dropout = 0.5;
  LanguageModel model = make_model(config);
  const Tensor ids = random_ids(config, 32, 8);
  torch::manual_seed(3);
  const Tensor dropped = model->forward(ids).routing[0].weights_GE;
  EXPECT_TRUE(torch::allclose(dropped.sum(-1), torch::ones({32})));
  const int64_t num_zeros = (dropped < 1e-6).sum().item<int64_t>();
  EXPECT_GT(num_zeros, 20);  // of 96, 48 expected
  EXPECT_LT(num_zeros, 76);
  model->eval();
  EXPECT_TRUE((model->forward(ids).routing[0].weights_GE > 1e-6).all().item<bool>());
}

TEST(LanguageModel, MovesAsAWhole) {
  // To another dtype, since no second device is at hand: what was left behind would clash in a
  // product.
  ModelConfig config = tiny_config();
  config.qk_norm = QkNorm::kFull;
  config.feed_forward.routing = Routing::kSequence;
  config.feed_forward.smear = {true, true, true, 0.0};
  LanguageModel model = make_model(config);
  const Tensor ids = random_ids(config, 2, 16), before = log_probabilities(model, ids);
  model->to(torch::kDouble);
  model->set_compute_dtype(torch::kDouble);
  for (const auto& p : model->named_parameters()) {
    EXPECT_EQ(p.value().scalar_type(), torch::kDouble) << p.key();
  }
  EXPECT_TRUE(model->buffers().empty()) << "nothing else holds memory";
  const Tensor after = log_probabilities(model, ids);
  EXPECT_TRUE(torch::allclose(after, before.to(torch::kDouble), 1e-3, 1e-4));
}

TEST(GpuLanguageModel, GivesTheCpusLogProbabilitiesAndGradients) {
  if (!torch::cuda::is_available()) GTEST_SKIP() << "no CUDA device";
  LanguageModel cpu = make_model(tiny_config()), gpu = make_model(tiny_config());
  gpu->to(torch::kCUDA);
  const Tensor ids = random_ids(tiny_config(), 2, 17);
  mean_loss(cpu, ids).backward();
  mean_loss(gpu, ids.to(torch::kCUDA)).backward();
  for (const auto& p : cpu->named_parameters()) {
    const Tensor gradient = gpu->named_parameters()[p.key()].grad().to(torch::kCPU);
    EXPECT_TRUE(torch::allclose(p.value().grad(), gradient, 1e-3, 1e-5)) << p.key();
  }
}

}  // namespace
}  // namespace lorikeet
