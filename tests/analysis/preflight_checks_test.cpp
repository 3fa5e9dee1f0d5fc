// The parts of preflight, apart; the whole of it is in preflight_test.cpp.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "lorikeet/core/error.h"
#include "src/analysis/preflight/checks.h"
#include "src/analysis/preflight/child_process.h"
#include "tests/core/temporary_folder.h"

namespace lorikeet {
namespace {

using ::testing::HasSubstr;

/// Two ranks of which the other always finds the same.
class WithAnother : public Exchange {
 public:
  explicit WithAnother(std::string others) : others_(std::move(others)) {}
  int rank() const override { return 0; }
  int size() const override { return 2; }
  std::vector<std::string> gather(const std::string& mine) override { return {mine, others_}; }

 private:
  std::string others_;
};

TEST(Checklist, ShowsTheWorstRank) {
  WithAnother ranks(R"({"verdict": 0, "figure": "slow", "severity": 2})");
  Checklist list(ranks);
  EXPECT_TRUE(list.run("faster", "", [] { return go("fast", 1); }));
  EXPECT_EQ(list.report().checks[0].figure, "slow");
  EXPECT_EQ(list.report().checks[0].rank, 1);
  EXPECT_TRUE(list.run("slower", "", [] { return go("slowest", 3); }));
  EXPECT_EQ(list.report().checks[1].figure, "slowest");
  EXPECT_TRUE(list.report().is_go());
  EXPECT_FALSE(list.run("worse", "", [] { return no_go("broken", 0); }));
  EXPECT_EQ(list.report().checks[2].figure, "broken");
  EXPECT_FALSE(list.report().is_go());
}

TEST(Checklist, TheOtherRanksNoGoIsOurs) {
  WithAnother ranks(R"({"verdict": 2, "figure": "broken", "severity": null})");
  Checklist list(ranks);
  EXPECT_FALSE(list.run("check", "", [] { return go("fine"); }));
  EXPECT_EQ(list.report().checks[0].rank, 1);
}

TEST(Checklist, WhatIsThrownIsANoGoButALostRank) {
  OneRank alone;
  Checklist list(alone);
  EXPECT_FALSE(
      list.run("disk", "", []() -> Finding { throw Error(ExitCode::kCheckpoint, "full"); }));
  EXPECT_FALSE(
      list.run("device", "", []() -> Finding { throw std::runtime_error("lost\nat 0x1"); }));
  EXPECT_EQ(list.report().checks[0].figure, "full");
  EXPECT_EQ(list.report().checks[1].figure, "lost");
  EXPECT_THROW(
      list.run("ranks", "", []() -> Finding { throw Error(ExitCode::kCommunication, "gone"); }),
      Error);
}

TEST(PreflightReport, SaysItsLastWord) {
  PreflightReport report;
  report.checks = {{"memory", Verdict::kGo, "1 GB", "at most 2 GB"},
                   {"step", Verdict::kSkipped, "no GPU"}};
  EXPECT_THAT(to_text(report), ::testing::EndsWith("\ngo\n"));
  EXPECT_THAT(to_text(report), HasSubstr("go       memory  1 GB    [at most 2 GB]\n"));
  report.checks.push_back({"disk", Verdict::kNoGo, "0 GB", "some", 0, 3});
  EXPECT_THAT(to_text(report), HasSubstr("no-go    disk    0 GB (rank 3)  [some]\n"));
  EXPECT_THAT(to_text(report), ::testing::EndsWith("\nno-go: 1 of 3\n"));
}

TEST(CheckLayout, RefusesAnotherNumberOfRanks) {
  RunConfig config;
  config.parallel.shard = 2;
  EXPECT_EQ(check_layout(config, 4).verdict, Verdict::kGo);
  EXPECT_EQ(check_layout(config, 3).verdict, Verdict::kNoGo);
  config.train.batch_sequences = 6;
  config.train.micro_batch = 2;
  EXPECT_EQ(check_layout(config, 2).verdict, Verdict::kNoGo);  // 4 at once
  EXPECT_THAT(check_layout(config, 2).figure, HasSubstr("no multiple of 4"));
}

ModelConfig small_model() {
  ModelConfig model;
  model.hidden_size = 32;
  model.num_layers = 3;
  model.num_heads = model.num_kv_heads = 2;
  model.ffn_size = 48;
  model.vocab_size = 64;
  model.context_length = 64;
  model.feed_forward.kind = FeedForwardKind::kMerged;
  model.feed_forward.num_experts = 3;
  model.feed_forward.segment_length = 16;
  return model;
}

TEST(OperatorErrors, AreRoundingOnTheCpu) {
  for (const auto& [name, dtype, error] : operator_errors(small_model(), torch::kCPU)) {
    EXPECT_LT(error, dtype == "fp32" ? 1e-5 : 2e-2) << name << " " << dtype;
    // bf16 results cannot be exact: an error of 0 would be a comparison with itself.
    EXPECT_GT(error, dtype == "bf16" ? 1e-4 : 0) << name;
  }
}

TEST(FirstStep, IsTheSameByAnotherWayAndAnotherFromAnotherSeed) {
  RunConfig config;
  config.model = small_model();
  const FirstStep tiled = first_step(config, torch::kCPU);
  config.model.feed_forward.kernel = Kernel::kReference;
  const FirstStep reference = first_step(config, torch::kCPU);
  const auto difference = [&](const FirstStep& step) {
    return ((step.gradients - tiled.gradients).norm() / tiled.gradients.norm()).item<double>();
  };
  EXPECT_NEAR(reference.loss, tiled.loss, 1e-5);
  EXPECT_LT(difference(reference), 1e-4);
  config.seed = 2;
  EXPECT_GT(difference(first_step(config, torch::kCPU)), 0.1);
}

TEST(FirstStep, OnAGpuIsSkippedWithAReasonOnTheCpu) {
  OneRank alone;
  Checklist list(alone);
  check_first_step(list, RunConfig(), torch::kCPU);
  EXPECT_EQ(list.report().checks[0].verdict, Verdict::kSkipped);
  EXPECT_NE(list.report().checks[0].figure, "");
}

TEST(StorageNeeded, CountsTheCheckpointsThatLieTogether) {
  RunConfig config;
  config.model = small_model();
  config.train.steps = 100;
  config.checkpoint.every = Period::steps(10);
  config.checkpoint.keep_last = 3;
  const RunPlan plan = plan_run(config);
  const int64_t P = plan.parameters.total();
  EXPECT_EQ(storage_needed(config, plan), 4 * 12 * P + 4 * P);  // three and the one in the making
  config.checkpoint.keep_every = Period::steps(50);
  EXPECT_EQ(storage_needed(config, plan), 6 * 12 * P + 4 * P);
  config.checkpoint.keep_last = 1000;  // there are no more than eleven
  EXPECT_EQ(storage_needed(config, plan), 11 * 12 * P + 4 * P);
  config.checkpoint.every = Period::never();  // the last one
  EXPECT_EQ(storage_needed(config, plan), 12 * P + 4 * P);
}

/// The verdicts on a trial: kill and resume, memory, speed.
std::vector<Verdict> judge_trial(const Trial& trial) {
  RunConfig config;
  config.model = small_model();
  RunPlan plan;
  plan.memory.parameters = 1000;
  OneRank alone;
  Checklist list(alone);
  check_trial(list, trial, config, plan, {.memory_slack = 100});
  std::vector<Verdict> verdicts;
  for (const PreflightCheck& check : list.report().checks) verdicts.push_back(check.verdict);
  return verdicts;
}

TEST(CheckTrial, JudgesLossesAndMemory) {
  constexpr auto kGo = Verdict::kGo, kNoGo = Verdict::kNoGo, kSkipped = Verdict::kSkipped;
  const Trial good{.resumed_at = 4, .killed_at = 5, .tokens_per_second = 10, .peak_memory = 1200};
  EXPECT_THAT(judge_trial(good), ::testing::ElementsAre(kGo, kGo, kGo));
  Trial trial = good;
  trial.peak_memory = 1201;
  EXPECT_THAT(judge_trial(trial), ::testing::ElementsAre(kGo, kNoGo, kGo));
  trial = good;
  trial.largest_difference = 1e-7;
  EXPECT_THAT(judge_trial(trial), ::testing::ElementsAre(kNoGo, kGo, kSkipped));
  trial = {.failure = "out of memory"};
  EXPECT_THAT(judge_trial(trial), ::testing::ElementsAre(kNoGo, kSkipped, kSkipped));
}

TEST(ChildProcess, SaysHowItEnded) {
  const testing::TemporaryFolder folder;
  const auto ended = [&](const std::string& script) {
    ChildProcess child({"/bin/sh", "-c", script}, {{"GREETING", "hello"}}, folder / "output");
    while (child.is_running()) {
    }
    return child.how_it_ended();
  };
  EXPECT_EQ(ended("exit 0"), "ended with code 0");
  EXPECT_EQ(ended("echo log; echo error: $GREETING >&2; exit 4"), "ended with code 4: hello");
  EXPECT_EQ(ended("kill -9 $$"), "was killed by signal 9");
}

TEST(RunTrial, SaysWhyTheRunDoesNotStart) {
  const testing::TemporaryFolder folder;
  RunConfig config;
  config.output = folder.path();
  const auto world = World::single(torch::kCPU);
  const Trial trial = run_trial(config, *world, {.program = "/bin/false"});
  EXPECT_EQ(trial.failure, "the run ended with code 1");
  EXPECT_TRUE(folder.list().empty());
}

TEST(TrialConfig, TrainsTheMergedModelFromItsFirstStep) {
  RunConfig config;
  config.train.dense_warmup = Period::percent(50);
  config.train.tokens = Count{1000};
  const RunConfig trial = trial_config(config, "somewhere");
  EXPECT_TRUE(trial.train.dense_warmup.is_never());
  EXPECT_EQ(total_steps(trial), 1'000'000);
  EXPECT_EQ(trial.output, "somewhere");
  EXPECT_EQ(trial.model, config.model);
}

}  // namespace
}  // namespace lorikeet
