#include "lorikeet/config/load.h"

#include <filesystem>

#include "config_testing.h"

namespace lorikeet {
namespace {

constexpr const char* kDesignExample = R"(
name: lory_0.3b_8e
output: runs
seed: 1
model:
  hidden_size: 1024
  num_layers: 24
  num_heads: 16
  num_kv_heads: 16
  ffn_size: 2816
  vocab_size: 32000
  context_length: 4096
  feed_forward:
    kind: merged                  # a comment
    num_experts: 8
    segment_length: 256
    routing: causal_segment
    first_segment: self_stop_gradient
    segment_scope: context
    expert_init: preserve
    kernel: auto
data:
  shards: data/commoncrawl
  tokenizer: data/llama.model
  order: similarity
train:
  device: auto
  tokens: 150B
  batch_sequences: 256
  micro_batch: 4
  precision: bf16
  dense_warmup: 5%
  activation_checkpointing: none
optimizer: {kind: adamw, betas: [0.9, 0.95], eps: 1.0e-8, weight_decay: 0.1, clip_norm: 1.0}
schedule: {kind: cosine, peak: 2.0e-4, warmup: 5%, final_fraction: 0.1}
checkpoint: {every: 1000steps, keep_last: 3, keep_every: 5000steps}
evaluate: {every: 500steps, batches: 50}
log: {every: 10steps, tensorboard: true}
parallel: {replicate: auto, shard: 8, zero: 3, slice: 1}
)";

TEST(LoadRunConfig, ReadsTheExampleOfTheDesign) {
  const RunConfig config = parse_run_config(kDesignExample, "run.yaml");
  EXPECT_EQ(config.name, "lory_0.3b_8e");
  EXPECT_EQ(config.model.ffn_size, 2816);
  EXPECT_EQ(config.model.feed_forward.routing, Routing::kCausalSegment);
  EXPECT_EQ(config.model.feed_forward.expert_init, ExpertInit::kPreserve);
  EXPECT_TRUE(config.model.is_merged());
  EXPECT_EQ(config.data.order, "similarity");
  EXPECT_EQ(config.train.tokens.value, 150'000'000'000);
  EXPECT_EQ(config.train.precision, Precision::kBf16);
  EXPECT_EQ(config.train.dense_warmup, Period::percent(5));
  EXPECT_EQ(config.optimizer.betas, (std::vector{0.9, 0.95}));
  EXPECT_EQ(config.optimizer.eps, 1e-8);
  EXPECT_EQ(config.schedule.peak, 2e-4);
  EXPECT_EQ(config.checkpoint.keep_every, Period::steps(5000));
  EXPECT_TRUE(config.log.tensorboard);
  EXPECT_EQ(config.parallel.replicate, 0);
  EXPECT_EQ(config.parallel.zero, 3);
  EXPECT_EQ(tokens_per_step(config), 1'048'576);
  EXPECT_EQ(total_steps(config), 143'051);
}

TEST(LoadRunConfig, LeavesDefaultsWhereNothingIsSet) {
  RunConfig expected;
  expected.train.steps = 7;
  EXPECT_EQ(parse_run_config("train: {steps: 7}", "run.yaml"), expected);
}

TEST(LoadRunConfig, OverridesWinOverTheFileAndLaterOnesOverEarlier) {
  const RunConfig config =
      parse_run_config("seed: 2\ntrain: {steps: 7}\n", "run.yaml",
                       {"seed=3", "seed=4", "model.num_layers=2",
                        "schedule={kind: linear, warmup: 1steps}", "name=a=b"});
  EXPECT_EQ(config.seed, 4);
  EXPECT_EQ(config.train.steps, 7);
  EXPECT_EQ(config.model.num_layers, 2);
  EXPECT_EQ(config.schedule.kind, ScheduleKind::kLinear);
  EXPECT_EQ(config.schedule.warmup, Period::steps(1));
  EXPECT_EQ(config.schedule.peak, ScheduleConfig().peak);
  EXPECT_EQ(config.name, "a=b");
}

TEST(LoadRunConfig, OverridesOneDomainOfTheMixture) {
  const std::string yaml = run_with("data:\n  mixture: {books: 1, c4.en: 0.5}\n");
  const RunConfig config =
      parse_run_config(yaml, "run.yaml", {"data.mixture.books=2", "data.mixture={web: 3}"});
  const std::vector<MixtureWeight> expected = {{"books", 2}, {"c4.en", 0.5}, {"web", 3}};
  EXPECT_EQ(config.data.mixture, expected);
}

TEST(LoadRunConfig, FollowsAnchorsAndAliases) {
  const auto config = parse_run_config(
      "train: {steps: 9}\nlog: &often {every: 3steps}\nevaluate: *often\n", "run.yaml");
  EXPECT_EQ(config.evaluate.every, Period::steps(3));
}

TEST(LoadRunConfig, AcceptsQuotedValuesAndWindowsLineEnds) {
  const auto config = parse_run_config(
      "\xEF\xBB\xBFname: 'null'\r\nseed: \"5\"\r\ntrain: {steps: 9}\r\n", "run.yaml");
  EXPECT_EQ(config.name, "null");
  EXPECT_EQ(config.seed, 5);
}

TEST(LoadRunConfig, ReadsAFileAndNamesItAsTheUserDid) {
  const auto path = std::filesystem::temp_directory_path() / "lorikeet_load_test.yaml";
  std::ofstream(path) << "train: {steps: 12}\n";
  EXPECT_EQ(load_run_config(path.string()).train.steps, 12);
  std::ofstream(path) << "train: {steps: x}\n";
  try {
    load_run_config(path.string());
    FAIL();
  } catch (const Error& error) {
    EXPECT_TRUE(std::string(error.what()).starts_with(path.string() + ":1: train.steps: x is not"))
        << error.what();
  }
  std::filesystem::remove(path);
}

std::string load_error(const std::string& path) {
  try {
    load_run_config(path);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kUsage);
    return error.what();
  }
  return "";
}

TEST(LoadRunConfig, RefusesAMissingFileADirectoryAndSomethingHuge) {
  EXPECT_EQ(load_error("missing.yaml"), "missing.yaml: no such configuration file");
  EXPECT_EQ(load_error(""), ": no such configuration file");
  EXPECT_EQ(load_error("/"), "/: a directory, not a configuration file");
  EXPECT_EQ(load_error("/dev/zero"), "/dev/zero: larger than 1 MiB");
}

TEST(TotalSteps, RoundsTokensToTheNearestStepAndAtLeastOne) {
  RunConfig config;
  config.train.batch_sequences = 10;
  config.model.context_length = 100;
  const auto steps = [&](int64_t tokens) {
    config.train.tokens.value = tokens;
    return total_steps(config);
  };
  EXPECT_EQ(steps(1), 1);
  EXPECT_EQ(steps(1499), 1);
  EXPECT_EQ(steps(1500), 2);
  EXPECT_EQ(steps(1'000'000), 1000);
  EXPECT_EQ(steps(INT64_MAX), INT64_MAX / 1000 + 1);
  config.train.steps = 5;
  EXPECT_EQ(total_steps(config), 5);
}

}  // namespace
}  // namespace lorikeet
