// One process plays the ranks of large worlds, one after another, and sends nothing.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>

#include "lorikeet/model/parameter_units.h"
#include "lorikeet/parallel/device_mesh.h"
#include "tests/model/test_models.h"

namespace lorikeet {
namespace {

struct Rehearsed {
  std::vector<std::string> collectives;  // in order by group: groups run beside each other
  int64_t bytes = 0;
  int64_t numel = 0;  // of all units, padded
};

Rehearsed rehearse(int64_t rank, MeshShape shape, int stage, int64_t micro_batches) {
  DeviceMesh mesh(nullptr, static_cast<int>(rank), shape, torch::kCPU, nullptr);
  mesh.monitor().record();
  LanguageModel model = testing_models::make_model(testing_models::tiny_config());
  ShardedParameters sharded(parameter_units(*model), stage, mesh);
  model->set_unit_schedule(&sharded);
  sharded.zero_grad();
  for (int64_t micro = 0; micro < micro_batches; ++micro) {
    sharded.begin_backward(micro + 1 == micro_batches);
    const torch::Tensor ids = torch::zeros({1, model->config().context_length}, torch::kLong);
    const ModelOutput output = model->forward(ids);
    model->logits(output.hidden_BLD).sum().backward();
    sharded.end_backward();
  }
  sharded.publish();
  sharded.while_gathered([] {});  // waits
  Rehearsed result;
  result.collectives = mesh.monitor().recorded();
  std::stable_sort(result.collectives.begin(), result.collectives.end(),
                   [](const std::string& a, const std::string& b) {
                     return a.substr(0, a.find('/')) < b.substr(0, b.find('/'));
                   });
  for (const auto& [kind, count] : mesh.monitor().counts()) result.bytes += count.bytes_sent;
  for (int64_t unit = 0; unit < sharded.num_units(); ++unit) {
    result.numel += sharded.padded_numel(unit);
  }
  return result;
}

void expect_all_ranks_alike(int64_t world, MeshShape shape, int stage, int64_t step) {
  const Rehearsed first = rehearse(0, shape, stage, 2);
  ASSERT_FALSE(first.collectives.empty());
  for (int64_t rank = step; rank < world; rank += step) {
    const Rehearsed other = rehearse(rank, shape, stage, 2);
    ASSERT_EQ(first.collectives, other.collectives) << "rank " << rank << " of " << world;
    ASSERT_EQ(first.bytes, other.bytes);
  }
}

TEST(Rehearsal, RanksOfEightAndSixtyFourMakeTheSameCollectives) {
  for (const int stage : {1, 2, 3}) {
    expect_all_ranks_alike(8, {1, 8}, stage, 1);
    expect_all_ranks_alike(8, {2, 4}, stage, 1);
    expect_all_ranks_alike(64, {8, 8}, stage, 7);
  }
  expect_all_ranks_alike(8, {8, 1}, 0, 1);
}

TEST(SlowRehearsal, RanksOfAThousandAndTwentyFourMakeTheSameCollectives) {
  for (const int stage : {1, 2, 3}) {
    expect_all_ranks_alike(1024, {128, 8}, stage, 1);
    expect_all_ranks_alike(1024, {1, 1024}, stage, 61);
  }
}

/// docs/parallel.md: two micro-batches, S = 8, R = 4, 4n bytes of parameters.
TEST(Rehearsal, SendsTheBytesOfTheFormulas) {
  const Rehearsed one = rehearse(3, {4, 8}, 1, 2);
  const int64_t n = 4 * one.numel, part = n * 7 / 8;
  // A unit's shard of up to 16 KiB is gathered whole by the replicas.
  const int64_t between_replicas = one.bytes - 2 * part;
  EXPECT_GE(between_replicas, 2 * 3 * n / 8 / 4);
  EXPECT_LE(between_replicas, 3 * n / 8);
  EXPECT_EQ(rehearse(3, {1, 8}, 1, 2).bytes, 2 * part);
  EXPECT_EQ(rehearse(3, {1, 8}, 2, 2).bytes, 3 * part);
}

}  // namespace
}  // namespace lorikeet
