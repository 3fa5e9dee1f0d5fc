#include "lorikeet/analysis/step_bench.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

namespace lorikeet {
namespace {

RunConfig small_step() {
  RunConfig config;
  config.model.hidden_size = 32;
  config.model.num_layers = 2;
  config.model.num_heads = 2;
  config.model.ffn_size = 64;
  config.model.vocab_size = 64;
  config.model.context_length = 64;
  config.model.feed_forward.kind = FeedForwardKind::kMerged;
  config.model.feed_forward.num_experts = 4;
  config.model.feed_forward.segment_length = 16;
  config.train.batch_sequences = 4;
  config.train.micro_batch = 2;
  return config;
}

TEST(StepBench, DividesTheStepAmongTheModelsParts) {
  const StepTiming timing = bench_step(small_step(), /*repetitions=*/3);
  EXPECT_EQ(timing.tokens, 4 * 64);
  EXPECT_NEAR(timing.loss, std::log(64.0), 0.5) << "random tokens";
  EXPECT_GT(timing.matrix_flops_per_second, 0);
  EXPECT_GT(timing.peak_memory_bytes, 0);
  const std::map<std::string, double> phases(timing.phases.begin(), timing.phases.end());
  for (const char* part :
       {"data", "forward attention", "forward feed_forward", "forward head", "backward attention",
        "backward feed_forward", "backward head", "clip", "optimizer"}) {
    ASSERT_TRUE(phases.count(part)) << part;
    EXPECT_GT(phases.at(part), 0) << part;
  }
  double sum = 0;
  for (const auto& [name, seconds] : timing.phases) sum += seconds;
  EXPECT_LE(sum, timing.seconds);
  EXPECT_GE(sum, 0.5 * timing.seconds);
}

TEST(StepBench, UsesAsManyThreadsAsTheRunWould) {
  const int before = at::get_num_threads();
  RunConfig config = small_step();
  config.train.threads = before + 1;
  bench_step(config, 1);
  EXPECT_EQ(at::get_num_threads(), before + 1);
  at::set_num_threads(before);
}

TEST(StepBench, ShowsWhatIsRecomputed) {
  RunConfig config = small_step();
  config.train.activation_checkpointing = ActivationCheckpointing::kBlock;
  EXPECT_THAT(to_text(bench_step(config, 1)), ::testing::HasSubstr("recompute attention"));
}

TEST(StepBench, JsonNamesWhatIsMeasured) {
  StepTiming timing;
  timing.seconds = 2;
  timing.tokens = 100;
  timing.phases = {{"clip", 0.5}};
  const auto row = nlohmann::json::parse(to_json(timing));
  EXPECT_EQ(row.at("tokens_per_second"), 50);
  EXPECT_EQ(row.at("phases").at("clip"), 0.5);
  for (const char* key : {"peak_memory_bytes", "matrix_flops_per_second"}) {
    EXPECT_TRUE(row.contains(key)) << key;
  }
}

}  // namespace
}  // namespace lorikeet
