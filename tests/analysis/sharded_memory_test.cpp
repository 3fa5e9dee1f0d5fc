// What the plan says shards hold, and what they hold: one process plays a rank, and sends nothing.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <tuple>

#include "lorikeet/analysis/plan.h"
#include "lorikeet/model/parameter_units.h"
#include "lorikeet/parallel/device_mesh.h"
#include "tests/model/test_models.h"

namespace lorikeet {
namespace {

RunConfig wide_enough_that_padding_is_little() {
  RunConfig config;
  config.model = testing_models::tiny_config();
  config.model.hidden_size = 128;
  config.model.ffn_size = 352;
  config.model.num_layers = 5;
  config.model.vocab_size = 4096;
  config.train.precision = Precision::kFp32;
  return config;
}

/// At the height of two steps of two micro-batches.
int64_t held_bytes(const RunConfig& config) {
  const MeshShape shape{config.parallel.replicate, config.parallel.shard};
  DeviceMesh mesh(nullptr, /*rank=*/3, shape, torch::kCPU, nullptr);
  LanguageModel model = testing_models::make_model(config.model);
  ShardedParameters sharded(parameter_units(*model), static_cast<int>(config.parallel.zero), mesh);
  model->set_unit_schedule(&sharded);
  for (int step = 0; step < 2; ++step) {
    sharded.zero_grad();
    for (const bool is_last : {false, true}) {
      sharded.begin_backward(is_last);
      const torch::Tensor ids = torch::zeros({1, config.model.context_length}, torch::kLong);
      model->logits(model->forward(ids).hidden_BLD).sum().backward();
      sharded.end_backward();
    }
    sharded.publish();
  }
  const int64_t bytes = sharded.held_bytes();  // what a unit has had waits for the next
  sharded.while_gathered([] {});               // waits
  return bytes;
}

class ShardedMemory : public testing::TestWithParam<std::tuple<int, int, bool>> {};

TEST_P(ShardedMemory, IsThatOfThePlan) {
  RunConfig config = wide_enough_that_padding_is_little();
  const auto [zero, shard, is_tied] = GetParam();
  config.parallel.zero = zero;
  config.parallel.shard = shard;
  config.parallel.replicate = 8 / shard;
  config.model.tie_embeddings = is_tied;
  const MemoryPlan plan = plan_run(config).memory;
  const auto planned = static_cast<double>(plan.parameters + plan.gradients + plan.whole_units);
  EXPECT_NEAR(static_cast<double>(held_bytes(config)) / planned, 1, 0.02);
}

INSTANTIATE_TEST_SUITE_P(Layouts, ShardedMemory,
                         testing::Combine(testing::Values(1, 2, 3), testing::Values(4, 8),
                                          testing::Bool()));

}  // namespace
}  // namespace lorikeet
