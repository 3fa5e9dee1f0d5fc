// configs/paper/: the ten models of the Lory paper (arXiv 2405.03133).
#include "config_testing.h"

namespace lorikeet {
namespace {

struct PaperModel {
  const char* name;
  int64_t num_layers, hidden_size, num_heads, ffn_size;
  int64_t num_experts;  // 0: dense
};

constexpr PaperModel kModels[] = {
    {"lory_0.3b_dense", 24, 1024, 16, 2816, 0}, {"lory_0.3b_8e", 24, 1024, 16, 2816, 8},
    {"lory_0.3b_16e", 24, 1024, 16, 2816, 16},  {"lory_0.3b_32e", 24, 1024, 16, 2816, 32},
    {"lory_1.5b_dense", 48, 1536, 24, 4096, 0}, {"lory_1.5b_8e", 48, 1536, 24, 4096, 8},
    {"lory_1.5b_16e", 48, 1536, 24, 4096, 16},  {"lory_1.5b_32e", 48, 1536, 24, 4096, 32},
    {"lory_7b_dense", 32, 4096, 32, 11008, 0},  {"lory_7b_4e", 32, 4096, 32, 11008, 4},
};

RunConfig load_paper(const std::string& name) {
  return load_run_config(in_source("configs/paper/" + name + ".yaml"));
}

/// What a paper configuration is, written independently of the files.
RunConfig expected_config(const PaperModel& paper) {
  RunConfig config;
  config.name = paper.name;
  config.model.num_layers = paper.num_layers;
  config.model.hidden_size = paper.hidden_size;
  config.model.num_heads = paper.num_heads;
  config.model.num_kv_heads = paper.num_heads;
  config.model.ffn_size = paper.ffn_size;
  config.model.vocab_size = 32000;
  config.model.context_length = 4096;
  if (paper.num_experts > 0) {
    config.model.feed_forward.kind = FeedForwardKind::kMerged;
    config.model.feed_forward.num_experts = paper.num_experts;
    config.model.feed_forward.expert_init = ExpertInit::kCopied;
    config.train.dense_warmup = Period::percent(5);
  }
  config.data.shards = "data/commoncrawl";
  config.data.tokenizer = "data/llama.model";
  config.data.order = "similarity";
  config.train.tokens = {150'000'000'000};
  config.train.batch_sequences = 256;
  config.train.precision = Precision::kBf16;
  config.checkpoint.keep_every = Period::steps(5000);
  config.parallel.shard = 8;
  config.parallel.zero = 3;
  return config;
}

TEST(PaperConfigs, DifferFromEachOtherOnlyWhereThePaperDoes) {
  for (const PaperModel& paper : kModels) {
    RunConfig config = load_paper(paper.name);
    // Where and how a rank's share is computed is ours, and may follow the model's size.
    EXPECT_EQ(config.train.device, DeviceChoice::kCuda);
    config.train.device = TrainConfig().device;
    config.train.micro_batch = TrainConfig().micro_batch;
    config.train.activation_checkpointing = ActivationCheckpointing::kNone;
    EXPECT_EQ(dump_run_config(config), dump_run_config(expected_config(paper)));
  }
}

TEST(PaperConfigs, RunFor143051StepsOfAMillionTokens) {
  for (const PaperModel& paper : kModels) {
    const RunConfig config = load_paper(paper.name);
    EXPECT_EQ(tokens_per_step(config), 1'048'576);
    EXPECT_EQ(total_steps(config), 143'051);
    EXPECT_EQ(config.schedule.warmup.to_steps(143'051, 1'048'576), 7153);
  }
}

TEST(PaperConfigs, KeepAMicroBatchThatSixtyFourRanksCanHold) {
  for (const PaperModel& paper : kModels) {
    EXPECT_EQ(256 % (64 * load_paper(paper.name).train.micro_batch), 0) << paper.name;
  }
}

}  // namespace
}  // namespace lorikeet
