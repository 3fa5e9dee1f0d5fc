// Signals to the real program.
#include "tests/train/program.h"

namespace lorikeet {
namespace {

using namespace train_testing;
using ::testing::HasSubstr;

class Signals : public TrainProgram {};

TEST_F(Signals, SigtermAndSigintFinishTheStepLeaveACheckpointAndExit75) {
  const Settings settings = slow_steps() + Settings{"checkpoint.every=never"};
  finish("straight", settings);
  for (const int signal : {SIGTERM, SIGINT}) {
    const std::string name = fmt::format("signal_{}", signal);
    Child child = start(name, settings);
    ASSERT_TRUE(child.wait_until([&] { return logged_step(name) >= 3; }));
    child.send(signal);
    const Ended ended = child.wait();
    ASSERT_EQ(ended.code, 75) << ended.err;
    const int64_t step = status(name).at("step");
    EXPECT_EQ(status(name).at("state"), "preempted");
    EXPECT_EQ(logged_step(name), step);
    EXPECT_LT(step, 30);
    EXPECT_THAT(checkpoints(name), ::testing::ElementsAre(fmt::format("step_{:08}", step)));
    EXPECT_THAT(ended.err, HasSubstr(fmt::format("stopped at step {}", step)));
    EXPECT_THAT(ended.err, HasSubstr("hint: the same command goes on"));
    EXPECT_FALSE(exists(name, "model"));

    finish(name, settings);
    expect_same("straight", name);
  }
}

/// The lock is taken before data and model are opened, and half a second of set-up comes after it
/// where the machine's peak is measured.
TEST_F(Signals, BeforeTheFirstStepLeaveARunThatGoesOnLikeAnyOther) {
  const Settings settings = {"log.peak_flops=0", "schedule.kind=constant", "schedule.warmup=never"};
  finish("straight", settings);
  for (const int signal : {SIGTERM, SIGINT}) {
    const std::string name = fmt::format("signal_{}", signal);
    const auto stop_in_set_up = [&](const Settings& how) {
      std::filesystem::remove(file(name, "lock"));
      Child child = start(name, how);
      child.wait_until([&] { return exists(name, "lock"); });
      child.send(signal);
      const Ended ended = child.wait();
      EXPECT_EQ(ended.code, 75) << ended.err;
      EXPECT_EQ(status(name).at("state"), "preempted");
      EXPECT_THAT(ended.err, HasSubstr("hint: the same command goes on"));
      return ended;
    };
    const Ended ended = stop_in_set_up(settings);
    EXPECT_THAT(ended.err, HasSubstr("error: stopped by request before the first step"));
    EXPECT_EQ(status(name).at("step"), 0);
    EXPECT_THAT(metrics(name), ::testing::IsEmpty());
    EXPECT_FALSE(exists(name, "checkpoints/step_00000000")) << "there is nothing to keep";

    finish(name, settings + Settings{"train.steps=10"});
    const Ended resumed = stop_in_set_up(settings);
    EXPECT_THAT(resumed.err, HasSubstr("stopped at step 10 by request; a checkpoint was left"));
    EXPECT_EQ(status(name).at("step"), 10);
    EXPECT_THAT(checkpoints(name), ::testing::ElementsAre("step_00000010"));
    EXPECT_EQ(course(name).size(), 10u);
    finish(name, settings);
    expect_same("straight", name);
  }
}

TEST_F(Signals, Sigusr1LeavesACheckpointAndTrainingGoesOn) {
  const Settings settings = slow_steps() + Settings{"checkpoint.every=never"};
  Child child = start("run", settings);
  ASSERT_TRUE(child.wait_until([&] { return logged_step("run") >= 3; }));
  child.send(SIGUSR1);
  const Ended ended = child.wait();
  ASSERT_EQ(ended.code, 0) << ended.err;
  EXPECT_EQ(course("run").size(), 30u);
  const std::vector<std::string> names = checkpoints("run");
  ASSERT_EQ(names.size(), 2u) << "the one asked for, and the last";
  EXPECT_GE(names[0], "step_00000003");
  EXPECT_LT(names[0], "step_00000030");
  EXPECT_EQ(names[1], "step_00000030");
}

}  // namespace
}  // namespace lorikeet
