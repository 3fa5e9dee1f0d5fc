// What must not grow with the length of a run.
#include "tests/train/program.h"

namespace lorikeet {
namespace {

using namespace train_testing;

class SlowLongRun : public TrainProgram {};

TEST_F(SlowLongRun, NeitherMemoryNorFilesGrowOver2000Steps) {
  finish("run",
         {"train.steps=2000", "checkpoint.every=50steps", "checkpoint.keep_last=2",
          "checkpoint.keep_every=1000steps", "evaluate.every=100steps", "log.tensorboard=true"});
  const std::vector<Json> rows = course("run");
  ASSERT_EQ(rows.size(), 2000u);
  std::vector<double> peaks;  // of the process so far
  for (const Json& row : metrics("run")) {
    if (row.contains("peak_memory_bytes")) peaks.push_back(row.at("peak_memory_bytes"));
  }
  const double growth = peaks.at(1999) - peaks.at(499);
  // 10,000 parameters and their moments are 0.12 MB: one kept every step would be 180 MB.
  EXPECT_LT(growth, 4e6) << "from " << peaks.at(499);
  EXPECT_THAT(checkpoints("run"),
              ::testing::ElementsAre("step_00001000", "step_00001950", "step_00002000"));
  EXPECT_THAT(
      folder_.list(folder_ / "run"),
      ::testing::UnorderedElementsAre("checkpoints", "config.yaml", "lock", "log.txt",
                                      "metrics.jsonl", "model", "status.json", "tensorboard"));
  EXPECT_EQ(folder_.list(folder_ / "run/tensorboard").size(), 1u);
  EXPECT_LT(rows.back().at("loss"), 0.8 * rows.front().at("loss").get<double>());
}

}  // namespace
}  // namespace lorikeet
