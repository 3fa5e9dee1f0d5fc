// What must not depend on how experts are arranged, for every kind of routing: log-probabilities
// and gradients, in double.
#include <gtest/gtest.h>

#include "test_models.h"

namespace lorikeet {
namespace {

using namespace testing_models;
using torch::Tensor;

struct Kind {
  const char* name;
  Routing routing;
  FirstSegment first;
};

void PrintTo(const Kind& kind, std::ostream* out) { *out << kind.name; }

class RoutingKinds : public testing::TestWithParam<Kind> {
 protected:
  static ModelConfig config(int64_t num_experts) {
    ModelConfig config = tiny_config();
    config.feed_forward.num_experts = num_experts;
    config.feed_forward.routing = GetParam().routing;
    config.feed_forward.first_segment = GetParam().first;
    return config;
  }
};

// Merging and its gradient are sums in another order than a dense product: a few roundings of
// 1e-16.
constexpr double kRounding = 1e-11;

void expect_close(const Tensor& actual, const Tensor& expected, const std::string& name) {
  ASSERT_TRUE(actual.defined() && expected.defined()) << name;
  EXPECT_TRUE(torch::allclose(actual, expected, kRounding, kRounding)) << name;
}

/// A merged model whose experts are all the dense layer: what merging gives is that layer, and the
/// experts share its gradient.
void expect_equals_dense(const ModelConfig& merged_config) {
  ModelConfig dense_config = merged_config;
  dense_config.feed_forward.kind = FeedForwardKind::kDense;
  LanguageModel dense = make_model(dense_config, torch::kDouble);
  LanguageModel merged = make_model(merged_config, torch::kDouble, 2);
  copy_dense_into_experts(*dense, *merged, 3);
  const Tensor ids = random_ids(dense_config, 2, 15);  // the last segment is short
  expect_close(log_probabilities(merged, ids), log_probabilities(dense, ids), "log-probabilities");
  mean_loss(dense, ids).backward();
  mean_loss(merged, ids).backward();
  const auto dense_parameters = dense->named_parameters();
  for (const auto& p : merged->named_parameters()) {
    std::string name = p.key();
    Tensor gradient = p.value().grad();
    if (const auto at = name.find(".experts."); at != std::string::npos) {
      name.replace(at, std::string(".experts.").size(), ".");
      gradient = gradient.sum(0);
    }
    if (name.find(".router.") == std::string::npos) {
      expect_close(gradient, dense_parameters[name].grad(), p.key());
    } else {
      expect_close(gradient, torch::zeros_like(p.value()), p.key());
    }
  }
}

TEST_P(RoutingKinds, OneExpertEqualsDense) { expect_equals_dense(config(1)); }

TEST_P(RoutingKinds, CopiesOfADenseLayerInEveryExpertEqualDense) { expect_equals_dense(config(3)); }

TEST_P(RoutingKinds, PermutingExpertsChangesNothing) {
  const Tensor order = torch::tensor({3, 1, 4, 0, 2});
  LanguageModel model = make_model(config(5), torch::kDouble);
  LanguageModel permuted = make_model(config(5), torch::kDouble);
  auto from = model->named_parameters(), to = permuted->named_parameters();
  {
    const torch::NoGradGuard no_grad;
    for (auto& p : from) {
      if (p.key().ends_with(".prior")) p.value().normal_();  // uniform has no order to lose
      const bool has_experts = p.key().find(".mlp.") != std::string::npos;
      to[p.key()].copy_(has_experts ? p.value().index_select(0, order) : p.value());
    }
  }
  const Tensor ids = random_ids(model->config(), 2, 15);
  expect_close(log_probabilities(permuted, ids), log_probabilities(model, ids),
               "log-probabilities");
  mean_loss(model, ids).backward();
  mean_loss(permuted, ids).backward();
  for (const auto& p : from) {
    const bool has_experts = p.key().find(".mlp.") != std::string::npos;
    const Tensor gradient = p.value().grad();
    ASSERT_TRUE(gradient.defined()) << p.key();
    EXPECT_GT(gradient.abs().max().item<double>(), 1e-6) << p.key() << " matters";
    expect_close(to[p.key()].grad(), has_experts ? gradient.index_select(0, order) : gradient,
                 p.key());
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, RoutingKinds,
    testing::Values(Kind{"causal_self", Routing::kCausalSegment, FirstSegment::kSelfStopGradient},
                    Kind{"causal_learned", Routing::kCausalSegment, FirstSegment::kLearned},
                    Kind{"prefix_self", Routing::kPrefix, FirstSegment::kSelfStopGradient},
                    Kind{"prefix_learned", Routing::kPrefix, FirstSegment::kLearned},
                    Kind{"sequence", Routing::kSequence, FirstSegment::kSelfStopGradient}));

}  // namespace
}  // namespace lorikeet
