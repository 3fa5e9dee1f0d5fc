#include "lorikeet/model/feed_forward.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "lorikeet/ops/attention.h"
#include "tests/model/test_models.h"

namespace lorikeet {
namespace {

using testing_models::make_model;
using testing_models::mean_loss;
using testing_models::random_ids;
using testing_models::tiny_config;
using torch::Tensor;

/// The loss and all gradients of a tiny dense model, after each other in one row.
Tensor loss_and_gradients(Kernel kernel, torch::ScalarType compute) {
  ModelConfig config = tiny_config(FeedForwardKind::kDense);
  config.context_length = 40;
  config.feed_forward.kernel = kernel;
  LanguageModel model = make_model(config);
  model->set_compute_dtype(compute);
  const Tensor loss = mean_loss(model, random_ids(config, 3, 41));
  loss.backward();
  std::vector<Tensor> all{loss.detach().flatten()};
  for (const auto& p : model->named_parameters()) {
    EXPECT_EQ(p.value().grad().scalar_type(), torch::kFloat) << p.key();
    all.push_back(p.value().grad().flatten());
  }
  return torch::cat(all);
}

double distance(const Tensor& a, const Tensor& b) {
  return ((a - b).norm() / b.norm()).item<double>();
}

// 120 tokens of a layer of 24 features: sums of up to 120 numbers in another order, in fp32 and,
// where h and its gradients are rounded to 8 bits, in bf16.
TEST(DenseFeedForward, TheTiledFormTrainsLikeTheReference) {
  const Tensor expected = loss_and_gradients(Kernel::kReference, torch::kFloat);
  const Tensor tiled = loss_and_gradients(Kernel::kAuto, torch::kFloat);
  EXPECT_LT(distance(tiled, expected), 2e-6);
  EXPECT_FALSE(torch::equal(tiled, expected)) << "not the same code twice";
  EXPECT_LT(distance(loss_and_gradients(Kernel::kAuto, torch::kBFloat16),
                     loss_and_gradients(Kernel::kReference, torch::kBFloat16)),
            2e-2);
}

/// Whether the graph that made a tensor has a node whose name holds `name`.
bool has_node(const Tensor& t, const std::string& name) {
  std::vector<torch::autograd::Node*> open{t.grad_fn().get()};
  std::set<torch::autograd::Node*> seen;
  while (!open.empty()) {
    torch::autograd::Node* const node = open.back();
    open.pop_back();
    if (node == nullptr || !seen.insert(node).second) continue;
    if (node->name().find(name) != std::string::npos) return true;
    for (const auto& edge : node->next_edges()) open.push_back(edge.function.get());
  }
  return false;
}

TEST(ReferenceKernel, IsTheModelWithoutFusedOperators) {
  const Tensor q = torch::ones({1, 2, 16, 8}, torch::requires_grad());
  const bool is_tiled_here = has_node(ops::causal_attention(q, q, q), "CausalAttention");
  for (const Scope scope : {Scope::kContext, Scope::kDocument}) {
    ModelConfig config = tiny_config();
    config.attention_scope = scope;
    const auto hidden = [&](Kernel kernel) {
      config.feed_forward.kernel = kernel;
      return make_model(config)->forward(random_ids(config, 1, 16), {{7, 9}}).hidden_BLD;
    };
    EXPECT_EQ(has_node(hidden(Kernel::kAuto), "CausalAttention"), is_tiled_here);
    EXPECT_FALSE(has_node(hidden(Kernel::kReference), "CausalAttention"));
  }
}

}  // namespace
}  // namespace lorikeet
