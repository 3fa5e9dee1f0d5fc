#include "lorikeet/analysis/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "lorikeet/config/load.h"
#include "lorikeet/ops/processor_level.h"
#include "lorikeet/ops/workspace.h"
#include "tests/support/source_dir.h"

namespace lorikeet {
namespace {

RunConfig paper(const std::string& name, const std::vector<std::string>& overrides = {}) {
  return load_run_config(std::string(kSourceDir) + "/configs/paper/" + name + ".yaml", overrides);
}

struct PaperModel {
  const char* name;
  int64_t total;   ///< parameters
  int64_t active;  ///< a token meets
};

class PaperModels : public testing::TestWithParam<PaperModel> {};

TEST_P(PaperModels, HaveThePublishedTotals) {
  const RunPlan plan = plan_run(paper(GetParam().name));
  EXPECT_EQ(plan.parameters.total(), GetParam().total);
  EXPECT_EQ(plan.parameters.active(), GetParam().active);
}

// Lory, arXiv 2405.03133, table 1: 0.3B, 1.8B, 3.5B, 6.8B; 1.5B, 7.8B, 15.0B, 29.5B; 7B, 19.7B. By
// hand, with V = 32000: 2 V D + L (4 D^2 + 3 E D F + E D + 2 D) + D, without E D where dense.
INSTANTIATE_TEST_SUITE_P(All, PaperModels,
                         testing::Values(PaperModel{"lory_0.3b_dense", 373'867'520, 373'867'520},
                                         PaperModel{"lory_0.3b_8e", 1'827'390'464, 374'064'128},
                                         PaperModel{"lory_0.3b_16e", 3'488'531'456, 374'260'736},
                                         PaperModel{"lory_0.3b_32e", 6'810'813'440, 374'653'952},
                                         PaperModel{"lory_1.5b_dense", 1'457'407'488,
                                                    1'457'407'488},
                                         PaperModel{"lory_1.5b_8e", 7'799'784'960, 1'457'997'312},
                                         PaperModel{"lory_1.5b_16e", 15'048'132'096, 1'458'587'136},
                                         PaperModel{"lory_1.5b_32e", 29'544'826'368, 1'459'766'784},
                                         PaperModel{"lory_7b_dense", 6'738'415'616, 6'738'415'616},
                                         PaperModel{"lory_7b_4e", 19'724'505'088, 6'738'939'904}));

TEST(RunPlan, BatchArithmeticOfThePaper) {
  const RunPlan plan = plan_run(paper("lory_0.3b_8e"));
  EXPECT_EQ(plan.tokens_per_step, 1'048'576);
  EXPECT_EQ(plan.total_steps, 143'051);
  EXPECT_EQ(plan.warmup_steps, 7'153);
  EXPECT_EQ(plan.dense_warmup_steps, 7'153);
}

TEST(RunPlan, ShardingDividesWhatItsStageShards) {
  const auto memory = [](int64_t zero) {
    return plan_run(paper("lory_0.3b_8e", {"parallel.replicate=1", "parallel.shard=4",
                                           "parallel.zero=" + std::to_string(zero)}))
        .memory;
  };
  const int64_t fp32 = 4 * int64_t{1'827'390'464};
  EXPECT_EQ(memory(0).optimizer, 2 * fp32);
  EXPECT_EQ(memory(1).optimizer, fp32 / 2);
  EXPECT_EQ(memory(1).gradients, fp32);
  EXPECT_EQ(memory(2).gradients, fp32 / 4);
  EXPECT_EQ(memory(2).parameters, fp32);
  EXPECT_EQ(memory(3).parameters, fp32 / 4);
}

/// D = 8, F = 16: experts of 3 * 16 * 8 = 384 numbers. One context of L = 32 tokens.
RunConfig small(Precision precision, int64_t segment_length = 4) {
  RunConfig config = paper("lory_0.3b_8e");
  config.model.hidden_size = 8;
  config.model.ffn_size = 16;
  config.model.num_layers = 3;
  config.model.num_heads = config.model.num_kv_heads = 2;
  config.model.context_length = 32;
  config.model.feed_forward.num_experts = 5;
  config.model.feed_forward.segment_length = segment_length;
  config.train.micro_batch = 1;
  config.train.precision = precision;
  config.parallel = {};
  return config;
}

RunConfig reference(Precision precision, int64_t segment_length = 4) {
  RunConfig config = small(precision, segment_length);
  config.model.feed_forward.kernel = Kernel::kReference;
  return config;
}

TEST(MemoryPlan, HoldsTheWorkspaceOfTheMergedOperator) {
  const MemoryPlan fp32 = plan_run(reference(Precision::kFp32)).memory;
  // 8 segments: weights and gradients of 4 bytes; products of 4 tokens in ten tensors of 4 bytes.
  EXPECT_EQ(fp32.merge_workspace, 8 * 384 * (4 + 4) + 4 * 16 * 40);
  EXPECT_EQ(fp32.expert_copies, 0);
  EXPECT_EQ(fp32.expert_gradients, 5 * 384 * 4);

  const MemoryPlan bf16 = plan_run(reference(Precision::kBf16)).memory;
  EXPECT_EQ(bf16.merge_workspace, 8 * 384 * (2 + 4) + 4 * 16 * 36);
  EXPECT_EQ(bf16.expert_copies, 5 * 384 * 4);
  EXPECT_EQ(bf16.expert_gradients, 5 * 384 * 4);
  EXPECT_EQ(bf16.layer(), bf16.merge_workspace + bf16.expert_copies + bf16.expert_gradients);
  EXPECT_EQ(bf16.total(), bf16.parameters + bf16.gradients + bf16.optimizer + bf16.compute_copies +
                              bf16.activations + std::max(bf16.logits, bf16.layer()));
}

TEST(MemoryPlan, NoMoreThanSixteenSegmentsAreMergedAtOnce) {
  RunConfig config = reference(Precision::kFp32, /*segment_length=*/1);
  const int64_t products = 16 * 40;
  EXPECT_EQ(plan_run(config).memory.merge_workspace, 16 * 384 * 8 + products);
  config.model.feed_forward.segment_length = 2;
  EXPECT_EQ(plan_run(config).memory.merge_workspace, 16 * 384 * 8 + 2 * products);
  config.model.feed_forward.routing = Routing::kPrefix;  // 2 and 30 tokens
  EXPECT_EQ(plan_run(config).memory.merge_workspace, 2 * 384 * 8 + 30 * products);
  config.model.feed_forward.routing = Routing::kSequence;
  EXPECT_EQ(plan_run(config).memory.merge_workspace, 384 * 8 + 32 * products);
}

TEST(MemoryPlan, OnAGpuTheKernelsWorkInSlabsAndKeepTwoProducts) {
  RunConfig config = small(Precision::kBf16);
  const MemoryPlan memory = plan_run(config).memory;
  EXPECT_EQ(memory.merge_workspace,
            ops::slab_workspace_bytes({0, 4, 8, 12, 16, 20, 24, 28, 32}, 8, 16, 5, 2, 4));
  EXPECT_EQ(memory.expert_copies, 0);
  EXPECT_EQ(memory.expert_gradients, 5 * 384 * 4);
  const int64_t kept = memory.activations;
  config.model.ffn_size += 8;
  EXPECT_EQ(plan_run(config).memory.activations - kept, 3 * 32 * 2 * 8 * 2);
}

TEST(MemoryPlan, OnACpuTheTiledOperatorNeedsLittleAndKeepsTwoProducts) {
  RunConfig config = small(Precision::kFp32);
  const MemoryPlan elsewhere = plan_run(config).memory;
  config.train.device = DeviceChoice::kCpu;
  config.train.threads = 2;
  const MemoryPlan memory = plan_run(config).memory;
  // An eighth of the experts, two threads, and 32 tokens of 4 D and 16 F bytes.
  EXPECT_EQ(memory.merge_workspace, 5 * 384 * 4 / 8 + 2 * (2 << 20) + 32 * (4 * 8 + 16 * 16));
  EXPECT_EQ(memory.expert_copies, 0);
  EXPECT_EQ(memory.activations, elsewhere.activations);
  EXPECT_GT(memory.program, elsewhere.program);
}

TEST(MemoryPlan, DenseModelsMergeNothing) {
  RunConfig config = small(Precision::kBf16);
  config.model.feed_forward.kind = FeedForwardKind::kDense;
  const RunPlan plan = plan_run(config);
  EXPECT_EQ(plan.memory.merge_workspace + plan.memory.expert_gradients, 0);
  EXPECT_EQ(to_text(plan, config).find("merged weights"), std::string::npos);
}

TEST(MemoryPlan, CheckpointingMovesALayersActivationsToTheOneThatIsRebuilt) {
  RunConfig config = small(Precision::kFp32);
  const auto memory = [&](ActivationCheckpointing kind) {
    config.train.activation_checkpointing = kind;
    return plan_run(config).memory;
  };
  const MemoryPlan none = memory(ActivationCheckpointing::kNone);
  EXPECT_EQ(none.recomputed, 0);
  const int64_t input = 32 * 8 * 4;  // fp32 [32, 8]; two of them stand behind the last layer
  const int64_t layer = (none.activations - 2 * input) / 3, products = 2 * 32 * 16 * 4;
  const MemoryPlan block = memory(ActivationCheckpointing::kBlock);
  EXPECT_EQ(block.activations, (3 + 2) * input);
  EXPECT_EQ(block.recomputed, layer);
  // A norm's input, the merged layer's, gate and up.
  EXPECT_EQ(memory(ActivationCheckpointing::kFfn).recomputed, 2 * input + products);
  const MemoryPlan attention = memory(ActivationCheckpointing::kAttention);
  EXPECT_EQ(attention.recomputed, layer - 2 * input - products);
  EXPECT_EQ(attention.activations, 3 * (input + 2 * input + products) + 2 * input);
}

TEST(MemoryPlan, LogitsAreThoseOfOneChunk) {
  RunConfig config = small(Precision::kBf16);
  config.train.device = DeviceChoice::kCpu;
  config.train.micro_batch = 1000;  // of 32 tokens
  // In bf16 beside the head's weight in bf16, or in fp32 as rows and as columns.
  const bool widens = ops::widens_bf16();
  const auto logits = [&](int64_t rows, int64_t vocabulary) {
    return rows * vocabulary * (widens ? 8 : 2) + (widens ? 0 : 2 * 8 * vocabulary);
  };
  for (const int64_t vocabulary : {16384, 32768, 65536}) {
    config.model.vocab_size = vocabulary;
    EXPECT_EQ(plan_run(config).memory.logits, logits((1 << 24) / vocabulary, vocabulary));
  }
  config.train.micro_batch = 1;
  EXPECT_EQ(plan_run(config).memory.logits, logits(32, 65536));
  config.model.feed_forward.kernel = Kernel::kReference;
  EXPECT_EQ(plan_run(config).memory.logits, (2 + 4 + 4) * 32 * 65536 + 2 * 8 * 65536);
}

TEST(RunPlan, WhatARankSendsFollowsItsLayout) {
  RunConfig config;
  config.train.batch_sequences = 64;
  config.train.micro_batch = 2;  // over 8 ranks: 4 micro-batches
  config.parallel = {.replicate = 8, .shard = 1, .zero = 1};
  const int64_t all = 4 * plan_run(config).parameters.total();
  EXPECT_EQ(plan_run(config).wire.gradients, 2 * 7 * (all / 8));
  EXPECT_EQ(plan_run(config).wire.parameters, 0);
  config.parallel = {.replicate = 2, .shard = 4, .zero = 1};
  EXPECT_EQ(plan_run(config).wire.gradients, 3 * (all / 4) + 2 * (all / 4 / 2));
  EXPECT_EQ(plan_run(config).wire.parameters, 3 * (all / 4));
  config.parallel.zero = 2;
  EXPECT_EQ(plan_run(config).wire.gradients, 4 * 3 * (all / 4) + 2 * (all / 4 / 2));
  config.parallel.zero = 3;
  const int64_t embeddings = 4 * plan_run(config).parameters.embeddings;
  EXPECT_EQ(plan_run(config).wire.parameters, 4 * (2 * all - embeddings) / 4 * 3);
  config.parallel = {.replicate = 1, .shard = 1, .zero = 1};
  EXPECT_EQ(plan_run(config).wire.gradients, 0);
}

TEST(RunPlan, MergingCostsWhatTheFormulaSays) {
  // 4E/(3T) of the feed-forward layer: 4.17% at 8 experts and T = 256 (docs/moe.md).
  const double merged = plan_run(paper("lory_0.3b_8e")).flops_per_token;
  const double dense = plan_run(paper("lory_0.3b_dense")).flops_per_token;
  const double layer = 24.0 * 6 * 3 * 1024 * 2816;
  EXPECT_NEAR((merged - dense) / layer, 4.0 * 8 / (3 * 256), 1e-9);
}

TEST(RunPlan, TextShowsTotalsWithSeparators) {
  const RunConfig config = paper("lory_0.3b_8e");
  const std::string text = to_text(plan_run(config), config);
  EXPECT_THAT(text, testing::ContainsRegex("total +1,827,390,464"));
  EXPECT_THAT(text, testing::ContainsRegex("active a token +374,064,128"));
  EXPECT_THAT(text, testing::ContainsRegex("steps +143,051"));
  // Three of 16,384 tokens by 2816 in bf16, and a slab that stays in an A100's L2; 8 experts of
  // 3 * 1024 * 2816 in fp32.
  EXPECT_THAT(text, testing::ContainsRegex("merged weights +0.302 GB"));
  EXPECT_THAT(text, testing::ContainsRegex("expert gradients +0.277 GB"));
}

}  // namespace
}  // namespace lorikeet
