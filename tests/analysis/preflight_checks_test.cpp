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

TEST(OperatorErrors, AreOfShapesThatTakeTheModelsWay) {
  ModelConfig model = small_model();
  EXPECT_THAT(operator_widths(model), ::testing::ElementsAre(3, 32, 48));
  model.hidden_size = 1030;
  model.ffn_size = 2816;
  model.feed_forward.num_experts = 64;
  const std::vector<int64_t> widths = operator_widths(model);
  EXPECT_EQ(widths[0], 64);
  EXPECT_EQ(widths[1] % 8, 1030 % 8);
  EXPECT_EQ(widths[2] % 8, 0);
  EXPECT_LE(widths[1], 512);
  EXPECT_LE(widths[0] * widths[1] * widths[2], 4 << 20);
  model.ffn_size = 1025;
  EXPECT_EQ(operator_widths(model)[2] % 8, 1);
}

TEST(FirstStep, IsTheSameByAnotherWayAndAnotherFromAnotherSeed) {
  RunConfig config;
  config.model = small_model();
  for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
    config.train.precision = precision;
    config.model.feed_forward.kernel = Kernel::kAuto;
    config.seed = 1;
    const FirstStep tiled = first_step(config, torch::kCPU);
    EXPECT_LT(tiled.next_loss, tiled.loss);
    config.model.feed_forward.kernel = Kernel::kReference;
    const StepDistance most = step_tolerance(precision);
    const StepDistance found = distance_of(first_step(config, torch::kCPU), tiled);
    EXPECT_LT(found.loss, most.loss);
    EXPECT_LT(found.gradients, most.gradients);
    EXPECT_LT(found.change, most.change);
    config.seed = 2;
    const StepDistance other = distance_of(first_step(config, torch::kCPU), tiled);
    EXPECT_GT(other.gradients, 0.5);
    EXPECT_GT(other.change, 0.5);
  }
}

TEST(FirstStep, WithoutItsStepOrWithAnotherRateIsFoundOut) {
  RunConfig config;
  config.model = small_model();
  const FirstStep right = first_step(config, torch::kCPU);
  config.schedule.peak *= 1.1;
  EXPECT_GT(distance_of(first_step(config, torch::kCPU), right).change,
            step_tolerance(Precision::kFp32).change);
  FirstStep none = right;
  none.change = torch::zeros_like(right.change);
  EXPECT_GT(distance_of(none, right).change, step_tolerance(Precision::kBf16).change);
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
  config.checkpoint.every = Period::never();  // the last one; the trial before it has three
  EXPECT_EQ(storage_needed(config, plan), 3 * 12 * P);
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

}  // namespace
}  // namespace lorikeet
