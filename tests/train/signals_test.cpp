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
