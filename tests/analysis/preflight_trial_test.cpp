// Preflight's trial, apart: what runs in child processes, how it is compared, what it leaves.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "src/analysis/preflight/checks.h"
#include "src/analysis/preflight/child_run.h"
#include "src/analysis/preflight/meeting.h"
#include "tests/checkpoint/ranks.h"

namespace lorikeet {
namespace {

using ::testing::HasSubstr;
using testing::TemporaryFolder;

// --- Courses

Course course_of(const std::vector<double>& losses) {
  Course course;
  for (size_t i = 0; i < losses.size(); ++i) course.losses[static_cast<int64_t>(i) + 1] = losses[i];
  return course;
}

TEST(CompareCourses, FindsALossThatDiffers) {
  const Course first = course_of({5, 4, 3, 2}), other = course_of({9, 4, 3, 2.25, 1});
  EXPECT_EQ(compare_courses(first, other, 1).largest_difference, 0.25);
  EXPECT_EQ(compare_courses(first, other, 1).failure, "");
  EXPECT_EQ(compare_courses(first, other, 0).largest_difference, 4);
  EXPECT_EQ(compare_courses(first, first, 0).largest_difference, 0);
}

TEST(CompareCourses, SaysWhichStepIsMissingOrIsNoNumber) {
  EXPECT_EQ(compare_courses(course_of({5, 4, 3}), course_of({5, 4}), 1).failure,
            "step 3 was not taken again");
  EXPECT_EQ(compare_courses(course_of({5, NAN}), course_of({5, NAN}), 1).failure,
            "the loss of step 2 is not a number");
}

TEST(Courses, AreReadWhileTheyAreWritten) {
  const TemporaryFolder folder;
  const std::string path = folder / "metrics.jsonl";
  EXPECT_EQ(read_course(path).last(), 0);
  std::ofstream(path)
      << R"({"step": 1, "loss": 2.5, "tokens_per_second": null, "peak_memory_bytes": 7})" << '\n'
      << R"({"step": 1, "validation": {}})" << '\n'
      << R"({"step": 2, "loss": null, "tokens_per_second": 10, "peak_memory_bytes": 9})" << '\n'
      << R"({"step": 3, "loss": 2)";
  const Course course = read_course(path);
  EXPECT_EQ(course.last(), 2);
  EXPECT_EQ(course.losses.at(1), 2.5);
  EXPECT_TRUE(std::isnan(course.losses.at(2)));
  EXPECT_EQ(course.peak_memory, 7);
  EXPECT_EQ(median_rate(course), 10);  // of the one number
  EXPECT_EQ(median_rate(Course()), 0);
}

// --- What lies on disk

TEST(ScratchFile, HasNoName) {
  const TemporaryFolder folder;
  ScratchFile file(folder / "made");
  file.write({'a', 'b'});
  EXPECT_TRUE(folder.list(folder / "made").empty());
  file.rewind();
  std::vector<char> read(3);
  EXPECT_EQ(file.read(read), 2u);
  EXPECT_EQ(read[1], 'b');
}

TEST(ScratchFolder, OfAProcessThatIsGoneIsClearedAndAnotherIsNot) {
  const TemporaryFolder parent;
  const std::string dead = parent / ".preflight_dead", other = parent / "run";
  std::filesystem::create_directories(dead + "/trial");
  std::ofstream(dead + "/lock");
  std::filesystem::create_directories(other);
  {
    const ScratchFolder living(parent.path(), ScratchFolder::free_name("run"));
    const ScratchFolder shared(parent.path(), std::filesystem::path(living.path()).filename());
    const ScratchFolder second(parent.path(), ScratchFolder::free_name("run"));
    EXPECT_NE(second.path(), living.path());
    EXPECT_FALSE(std::filesystem::exists(dead));
    EXPECT_TRUE(std::filesystem::exists(living.path()));
  }
  EXPECT_THAT(parent.list(), ::testing::ElementsAre("run"));
}

// --- The trial with children that are not the program

/// A shell script in the place of the program.
std::string script(const TemporaryFolder& folder, const std::string& name,
                   const std::string& lines) {
  const std::string path = folder / name;
  std::ofstream(path) << "#!/bin/sh\n" << lines << '\n';
  std::filesystem::permissions(path, std::filesystem::perms::owner_all);
  return path;
}

class RunTrial : public ::testing::Test {
 protected:
  RunTrial() {
    config_.output = runs_.path();
    config_.checkpoint.local = local_.path();
  }
  ~RunTrial() override {
    EXPECT_TRUE(runs_.list().empty());
    EXPECT_TRUE(local_.list().empty());
  }
  Trial run(const std::string& program, double seconds = 60) const {
    OneRank alone;
    return run_trial(config_, alone, options(program, seconds));
  }
  /// With a program for each of two ranks. @return what each rank got
  std::vector<Trial> run_two(const std::string& first, const std::string& second) const {
    std::vector<Trial> trials(2);
    for (const std::string& thrown :
         testing::on_ranks(2, [&](const std::shared_ptr<Exchange>& ranks) {
           trials[static_cast<size_t>(ranks->rank())] =
               run_trial(config_, *ranks, options(ranks->rank() == 0 ? first : second, 60));
         })) {
      EXPECT_EQ(thrown, "");
    }
    return trials;
  }
  static PreflightOptions options(const std::string& program, double seconds) {
    return {.program = program, .limits = {.trial_seconds = seconds}};
  }

  const TemporaryFolder runs_, local_, scripts_;
  RunConfig config_;
};

TEST_F(RunTrial, SaysWhyTheRunDoesNotStart) {
  EXPECT_EQ(run("/bin/false").failure, "the run ended with code 1");
}

TEST_F(RunTrial, OfAChildThatHangsEndsInTime) {
  EXPECT_EQ(run(script(scripts_, "hang", "exec sleep 1000"), 0.3).failure,
            "the run was at step 0 after 0 s");
}

// $2 is SCRATCH/config.yaml, and the run's folder SCRATCH/trial.
TEST_F(RunTrial, WhatCannotBeReadOnTheFirstRankIsAFinding) {
  const std::string lines =
      "run=$(dirname \"$2\")/trial; mkdir -p \"$run/checkpoints/step_00000004\"\n"
      "echo '{\"step\": \"four\", \"loss\": 1}' > \"$run/metrics.jsonl\"; exec sleep 1000";
  EXPECT_THAT(run(script(scripts_, "odd", lines)).failure, HasSubstr("type must be number"));
}

TEST_F(RunTrial, ASecondRanksDeathIsTheFailureOfBoth) {
  const std::string hang = script(scripts_, "hang", "exec sleep 1000");
  const std::string die = script(scripts_, "die", "echo 'error: no GPU' >&2; exit 3");
  for (const Trial& trial : run_two(hang, die)) {
    EXPECT_EQ(trial.failure, "the run ended with code 3: no GPU");
  }
}

TEST_F(RunTrial, TheRankThatDiedFirstIsNamedAndNotThoseThatLostIt) {
  const std::string lost = script(scripts_, "lost", "exit 6");
  const std::string late = script(scripts_, "late", "sleep 0.4; kill -9 $$");
  for (const Trial& trial : run_two(lost, late)) {
    EXPECT_EQ(trial.failure, "the run was killed by signal 9");
  }
}

TEST_F(RunTrial, AFolderThatCannotBeMadeIsTheFailure) {
  config_.output = script(scripts_, "file", "");
  EXPECT_THAT(run("/bin/false").failure, HasSubstr("cannot be made"));
}

TEST_F(RunTrial, ARankThatIsLostEndsItAndNothingIsLeft) {
  const std::string hang = script(scripts_, "hang", "exec sleep 1000");
  const auto thrown = testing::on_ranks(
      2,
      [&](const std::shared_ptr<Exchange>& ranks) {
        if (ranks->rank() == 1) {  // as far as the first rank's child has started
          for (int round = 0; round < 3; ++round) ranks->gather("go ");
          return;
        }
        run_trial(config_, *ranks, options(hang, 60));
      },
      /*timeout_seconds=*/1);
  EXPECT_THAT(thrown[0], HasSubstr("rank 1 did not answer in time"));
}

TEST(TrialConfig, TrainsTheMergedModelFromItsFirstStepInAFolderOfItsOwn) {
  RunConfig config;
  config.output = "somewhere";
  config.checkpoint.local = "/fast";
  config.train.dense_warmup = Period::percent(50);
  config.train.tokens = Count{1000};
  const RunConfig trial = trial_config(config, ".preflight_1");
  EXPECT_TRUE(trial.train.dense_warmup.is_never());
  EXPECT_EQ(total_steps(trial), 1'000'000);
  EXPECT_EQ(trial.output, "somewhere/.preflight_1");
  EXPECT_EQ(trial.checkpoint.local, "/fast/.preflight_1");
  EXPECT_EQ(trial.model, config.model);
  config.checkpoint.local = "";
  EXPECT_EQ(trial_config(config, "x").checkpoint.local, "");
}

// --- The verdicts

/// Kill and resume, memory, speed.
std::vector<Verdict> judge_trial(const Trial& trial, const RunConfig& config = {}) {
  RunPlan plan;
  plan.memory.parameters = 1000;
  OneRank alone;
  Checklist list(alone);
  check_trial(list, trial, config, plan, {.memory_slack = 100});
  std::vector<Verdict> verdicts;
  for (const PreflightCheck& check : list.report().checks) verdicts.push_back(check.verdict);
  return verdicts;
}

constexpr auto kGo = Verdict::kGo, kNoGo = Verdict::kNoGo, kSkipped = Verdict::kSkipped;
const Trial kGood{.resumed_at = 4, .killed_at = 5, .tokens_per_second = 10, .peak_memory = 1200};

TEST(CheckTrial, JudgesLossesAndMemory) {
  EXPECT_THAT(judge_trial(kGood), ::testing::ElementsAre(kGo, kGo, kGo));
  Trial trial = kGood;
  trial.peak_memory = 1201;
  EXPECT_THAT(judge_trial(trial), ::testing::ElementsAre(kGo, kNoGo, kGo));
  trial = kGood;
  trial.largest_difference = 1e-7;
  EXPECT_THAT(judge_trial(trial), ::testing::ElementsAre(kNoGo, kGo, kSkipped));
  trial = kGood;
  trial.tokens_per_second = 0;
  EXPECT_THAT(judge_trial(trial), ::testing::ElementsAre(kGo, kGo, kSkipped));
  trial = {.failure = "out of memory"};
  EXPECT_THAT(judge_trial(trial), ::testing::ElementsAre(kNoGo, kSkipped, kSkipped));
}

TEST(CheckTrial, AllowsOtherOrdersOfSumsOnAGpuThatIsNotDeterministic) {
  RunConfig config;
  config.train.deterministic = false;
  Trial trial = kGood;
  trial.largest_difference = 1e-3;
  EXPECT_EQ(judge_trial(trial, config)[0], kNoGo);  // a CPU
  config.train.device = DeviceChoice::kCuda;
  EXPECT_EQ(judge_trial(trial, config)[0], kGo);
  trial.largest_difference = 0.1;
  EXPECT_EQ(judge_trial(trial, config)[0], kNoGo);
  config.train.deterministic = true;
  trial.largest_difference = 1e-7;
  EXPECT_EQ(judge_trial(trial, config)[0], kNoGo);
}

TEST(OwnAddress, IsNumericAndOnTheWay) {
  EXPECT_EQ(address_towards("127.0.0.1"), "127.0.0.1");
  EXPECT_EQ(address_towards("no such host"), "");
  LaunchEnvironment environment;
  environment.world_size = environment.local_world_size = 2;
  EXPECT_EQ(own_address(environment), "127.0.0.1");
  environment.world_size = 4;
  environment.master_address = "127.0.0.1";  // this machine's by any name that others know
  environment.agent_hosts_store = true;
  EXPECT_EQ(own_address(environment), "127.0.0.1");
  environment.agent_hosts_store = false;
  environment.master_address = "first";
  EXPECT_EQ(own_address(environment), "first");
}

}  // namespace
}  // namespace lorikeet
