// A run that was killed and resumed is the run that was not.
#include "tests/train/program.h"

namespace lorikeet {
namespace {

using namespace train_testing;

class Resume : public TrainProgram {};
class SlowResume : public TrainProgram {};

TEST_F(Resume, ThirtyStepsEqualTenAndAKillAndTwentyMore) {
  finish("straight", slow_steps());
  ASSERT_EQ(course("straight").size(), 30u);
  kill_at("killed", 12, slow_steps());
  finish("killed", slow_steps());
  expect_same("straight", "killed");
  EXPECT_THAT(read_text(file("killed", "log.txt")), ::testing::HasSubstr("resumed at step 10"));
}

TEST_F(SlowResume, CrossesTheEndOfTheDenseWarmupAndKillsOnBothSidesOfIt) {
  const Settings settings = slow_steps() + Settings{"train.dense_warmup=15steps"};
  finish("straight", settings);
  EXPECT_FALSE(course("straight")[14].contains("routing"));
  EXPECT_TRUE(course("straight")[15].contains("routing"));
  kill_at("killed", 12, settings);
  kill_at("killed", 22, settings);
  finish("killed", settings);
  expect_same("straight", "killed");
}

TEST_F(SlowResume, KeepsTheMomentsOfTheDenseWarmupAcrossAKill) {
  const Settings reset = slow_steps() + Settings{"train.dense_warmup=15steps"};
  const Settings keep = reset + Settings{"train.dense_warmup_optimizer=keep"};
  finish("reset", reset);
  finish("straight", keep);
  EXPECT_EQ(losses("straight")[15], losses("reset")[15]) << "the weights are the same";
  EXPECT_NE(losses("straight")[16], losses("reset")[16]) << "the moments are not";
  kill_at("killed", 12, keep);
  finish("killed", keep);
  expect_same("straight", "killed");
}

TEST_F(SlowResume, WindowsOfTheLogGoOnAcrossACheckpointInTheirMiddle) {
  const Settings settings = {"log.every=7steps", "checkpoint.every=5steps"};
  finish("straight", settings + Settings{"checkpoint.every=never"});
  finish("parts", settings);
  std::filesystem::remove_all(file("parts", "checkpoints/step_00000030"));
  std::filesystem::remove_all(file("parts", "checkpoints/step_00000025"));
  finish("parts", settings);  // from 20, where the window holds 6 steps
  EXPECT_EQ(course("straight").size(), 4u);
  expect_same("straight", "parts");
}

/// With a learning rate of nearly 0 the loss of a step tells which sequences it had.
TEST_F(Resume, AnotherBatchSizeTakesTheNextSequencesOfTheSameOrder) {
  const Settings frozen = {"schedule.peak=1e-30"};
  finish("straight", frozen);
  finish("changed", frozen + Settings{"train.steps=10"});
  finish("changed", frozen + Settings{"train.steps=20", "train.batch_sequences=8"});
  const std::vector<double> four = losses("straight"), changed = losses("changed");
  ASSERT_EQ(changed.size(), 20u);
  for (size_t i = 0; i < 10; ++i) {  // steps 11 to 20 with 8 sequences are 11 to 30 with 4
    EXPECT_EQ(changed[i], four[i]);
    EXPECT_NEAR(changed[10 + i], (four[10 + 2 * i] + four[11 + 2 * i]) / 2, 1e-5) << i;
    EXPECT_GT(std::abs(four[i] - four[i + 1]), 1e-4) << "the loss tells nothing";
  }
  EXPECT_EQ(course("changed").back().at("tokens"), (10 * 4 + 10 * 8) * 32);
}

/// A run of so many tokens stays one, and its schedule goes by them.
TEST_F(Resume, AnotherBatchSizeLeavesARunOfTokensItsLength) {
  const Settings tokens = {"train.steps=0", "train.tokens=3840", "schedule.warmup=50%"};
  finish("straight", tokens);
  ASSERT_EQ(course("straight").size(), 30u) << "of 4 sequences of 32";
  finish("changed", tokens);
  finish("changed", tokens + Settings{"train.batch_sequences=8", "checkpoint.every=never"},
         {"--resume", file("changed", "checkpoints/step_00000010")});
  const std::vector<Json> four = course("straight"), changed = course("changed");
  ASSERT_EQ(changed.size(), 20u);
  EXPECT_EQ(changed.back().at("tokens"), 3840);
  for (size_t i = 0; i < 10; ++i) {
    const double as_before = four[10 + 2 * i].at("learning_rate");  // after as many tokens
    EXPECT_NEAR(changed[10 + i].at("learning_rate").get<double>(), as_before, 1e-3) << i;
  }
}

/// The final anneal has a shuffle of its own, which begins where it did however often one resumes.
TEST_F(Resume, FindsTheReshuffleOfTheAnneal) {
  const Settings anneal = {"schedule.anneal=12steps", "checkpoint.every=5steps",
                           "checkpoint.keep_last=9"};
  const auto reshuffled_at = [&](const std::string& name, int64_t step) {
    const std::string path = fmt::format("checkpoints/step_{:08}/state.json", step);
    return Json::parse(read_text(file(name, path))).at("data").at("reshuffled_at").get<int64_t>();
  };
  finish("straight", anneal);
  EXPECT_EQ(reshuffled_at("straight", 5), 18 * 4);
  EXPECT_EQ(reshuffled_at("straight", 25), 18 * 4);
  const Settings frozen = {"schedule.peak=1e-30"};  // a batch's loss is its finger print
  finish("annealed", frozen + anneal);
  finish("plain", frozen);
  EXPECT_NE(losses("annealed")[18], losses("plain")[18]) << "no other shuffle";
  EXPECT_EQ(losses("annealed")[17], losses("plain")[17]);
  for (const int64_t step : {10, 20, 25}) {
    const std::string name = fmt::format("from_{}", step);
    finish(name, anneal);
    finish(name, anneal, {"--resume", file(name, fmt::format("checkpoints/step_{:08}", step))});
    expect_same(course(name), course("straight"));
  }
  // Twice the batch from step 10 on: the anneal begins at step 18 all the same.
  finish("wider", anneal);
  finish("wider", anneal + Settings{"train.batch_sequences=8"},
         {"--resume", file("wider", "checkpoints/step_00000010")});
  EXPECT_EQ(reshuffled_at("wider", 25), 10 * 4 + 8 * 8);
}

TEST_F(Resume, TheDeterministicModeIsTheSameRunOnTheCpu) {
  finish("plain");
  finish("deterministic", {"train.deterministic=true"});
  expect_same(course("deterministic"), course("plain"));
  EXPECT_TRUE(model_bytes("deterministic") == model_bytes("plain"));
}

TEST_F(Resume, FromAGivenCheckpointDropsWhatCameAfterIt) {
  finish("run");
  const std::vector<Json> first = course("run");
  const std::string weights = model_bytes("run");
  finish("run", {}, {"--resume", file("run", "checkpoints/step_00000010")});
  expect_same(course("run"), first);
  EXPECT_TRUE(model_bytes("run") == weights);
  EXPECT_THAT(read_text(file("run", "log.txt")), ::testing::HasSubstr("resumed at step 10"));
}

TEST_F(Resume, AFinishedRunChangesNothingAndSaysTheSameAgain) {
  for (const char* every : {"never", "15steps"}) {  // 15: the last step's validation is a usual one
    const std::string name = fmt::format("every_{}", every);
    const Settings settings = {fmt::format("evaluate.every={}", every)};
    const Ended first = run(name, settings);
    ASSERT_EQ(first.code, 0) << first.err;
    EXPECT_THAT(first.out, ::testing::HasSubstr("mean"));
    const std::string weights = model_bytes(name), rows = read_text(file(name, "metrics.jsonl"));
    const auto written = [&] {
      return std::filesystem::last_write_time(file(name, "model/model.safetensors"));
    };
    const auto when = written();
    const Ended again = run(name, settings);
    EXPECT_EQ(again.code, 0) << again.err;
    EXPECT_EQ(again.out, first.out);
    EXPECT_THAT(again.err, ::testing::HasSubstr("finished already"));
    EXPECT_EQ(read_text(file(name, "metrics.jsonl")), rows);
    EXPECT_TRUE(model_bytes(name) == weights);
    EXPECT_EQ(written(), when) << "the model was written again";
    EXPECT_EQ(status(name).at("state"), "finished");
  }
}

TEST_F(Resume, AFinishedRunBringsBackWhatWasDeleted) {
  finish("run");
  const std::string weights = model_bytes("run");
  const Json validation = metrics("run").back();
  std::filesystem::remove_all(file("run", "model"));
  std::filesystem::remove(file("run", "metrics.jsonl"));
  finish("run");
  EXPECT_TRUE(model_bytes("run") == weights);
  EXPECT_EQ(metrics("run").back(), validation);
  finish("run", {"train.steps=40"});
  EXPECT_EQ(course("run").size(), 10u) << "more steps are no reason to stay finished";
}

/// Kills as soon as a half-written checkpoint shows, again and again.
TEST_F(SlowResume, SurvivesKillsInTheMiddleOfASave) {
  const Settings settings = slow_steps() + Settings{"checkpoint.every=1steps"};
  finish("straight", settings);
  const auto half_written = [&] {
    if (!exists("killed", "checkpoints")) return false;
    try {
      for (const std::string& name : checkpoints("killed")) {
        if (name.ends_with(".tmp")) return true;
      }
    } catch (const std::filesystem::filesystem_error&) {  // renamed while it was listed
    }
    return false;
  };
  int num_half = 0;
  for (int round = 0; round < 6; ++round) {
    Child child = start("killed", settings);
    // Leftovers of the last kill lie there until the first save: wait for a new step.
    const int64_t step = logged_step("killed") + 2;
    child.wait_until([&] { return logged_step("killed") >= step && half_written(); });
    child.send(SIGKILL);
    if (child.wait().code == 0) break;
    num_half += half_written() ? 1 : 0;
  }
  EXPECT_GT(num_half, 0) << "no kill fell into a save";
  finish("killed", settings);
  expect_same("straight", "killed");
  EXPECT_FALSE(half_written()) << "leftovers were not cleared";
}

}  // namespace
}  // namespace lorikeet
