#include "lorikeet/model/recompute.h"

#include <gtest/gtest.h>

#include "test_models.h"
#include "tests/support/tensor_memory.h"

namespace lorikeet {
namespace {

using namespace testing_models;
using torch::Tensor;

class Checkpointing : public testing::TestWithParam<ActivationCheckpointing> {};

TEST_P(Checkpointing, ChangesNoBitOfLossGradientsOrRoutingRecords) {
  for (const auto kind : {FeedForwardKind::kDense, FeedForwardKind::kMerged}) {
    const ModelConfig config = tiny_config(kind);
    const Tensor ids = random_ids(config, 2, 16);
    LanguageModel plain = make_model(config), recomputed = make_model(config);
    recomputed->set_checkpointing(GetParam());
    const Tensor expected = mean_loss(plain, ids), actual = mean_loss(recomputed, ids);
    EXPECT_TRUE(torch::equal(expected, actual));
    expected.backward();
    actual.backward();
    for (const auto& p : plain->named_parameters()) {
      const Tensor gradient = recomputed->named_parameters()[p.key()].grad();
      ASSERT_TRUE(gradient.defined()) << p.key();
      EXPECT_TRUE(torch::equal(p.value().grad(), gradient)) << p.key();
    }
    const auto a = plain->forward(ids), b = recomputed->forward(ids);
    for (size_t i = 0; kind == FeedForwardKind::kMerged && i < a.routing.size(); ++i) {
      EXPECT_TRUE(torch::equal(a.routing[i].weights_GE, b.routing[i].weights_GE));
      EXPECT_FALSE(b.routing[i].weights_GE.requires_grad());
    }
  }
}

TEST_P(Checkpointing, DropsTheSameExpertsWhenItRunsAgain) {
  ModelConfig config = tiny_config();
  config.feed_forward.routing = Routing::kSequence;
  config.feed_forward.smear.expert_dropout = 0.5;
  const Tensor ids = random_ids(config, 4, 16);
  LanguageModel plain = make_model(config), recomputed = make_model(config);
  recomputed->set_checkpointing(GetParam());
  for (LanguageModel* model : {&plain, &recomputed}) {
    torch::manual_seed(9);
    mean_loss(*model, ids).backward();
  }
  for (const auto& p : plain->named_parameters()) {
    EXPECT_TRUE(torch::equal(p.value().grad(), recomputed->named_parameters()[p.key()].grad()))
        << p.key();
  }
}

INSTANTIATE_TEST_SUITE_P(All, Checkpointing,
                         testing::Values(ActivationCheckpointing::kAttention,
                                         ActivationCheckpointing::kFfn,
                                         ActivationCheckpointing::kBlock));

TEST(Recompute, KeepsWhatTheBodyTakesAndGivesAlone) {
  const Tensor w = torch::ones({1 << 16}, torch::kFloat).requires_grad_();
  const Tensor x = torch::ones_like(w).requires_grad_();
  const auto body = [&](const Tensor& input) -> RecomputeOutput {
    return {(input * w).exp().sin(), {}};  // sin's gradient wants exp's result
  };
  const auto kept = [&](const auto& forward) {
    const TensorMemory memory;
    const Tensor y = forward();
    return memory.bytes();
  };
  const auto one = static_cast<int64_t>(w.nbytes());
  EXPECT_EQ(kept([&] { return body(x).y; }), 2 * one);
  const int64_t recomputed = kept([&] { return recompute(body, x, {w}).y; });
  EXPECT_GE(recomputed, one);
  EXPECT_LT(recomputed, one + one / 16) << "beside y the generator's state, some 5 KB";
}

TEST(Recompute, RunsTheBodyTwice) {
  const Tensor w = torch::ones({4}, torch::kDouble).requires_grad_();
  const Tensor x = torch::ones({4}, torch::kDouble).requires_grad_();
  int runs = 0;
  const auto body = [&](const Tensor& input) -> RecomputeOutput {
    ++runs;
    return {(input * w).exp(), {}};
  };
  const Tensor y = recompute(body, x, {w}).y;
  EXPECT_EQ(runs, 1);
  y.sum().backward();
  EXPECT_EQ(runs, 2);
  EXPECT_TRUE(torch::allclose(w.grad(), torch::full({4}, std::exp(1.0), torch::kDouble)));
}

}  // namespace
}  // namespace lorikeet
