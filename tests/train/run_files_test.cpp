// What lies in a run's folder, and when it is written.
#include <gmock/gmock.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "lorikeet/train/metrics_file.h"
#include "lorikeet/train/period_clock.h"
#include "lorikeet/train/run_folder.h"
#include "tests/checkpoint/file_size_limit.h"
#include "tests/checkpoint/small_disk.h"
#include "tests/core/temporary_folder.h"
#include "tests/data/data_testing.h"

namespace lorikeet {
namespace {

using data_testing::read_text;
using data_testing::write_text;
using ::testing::AllOf;
using testing::error_of;
using ::testing::HasSubstr;
using testing::TemporaryFolder;

TEST(MetricsFile, WritesALineARowAndNullForWhatIsNotFinite) {
  const TemporaryFolder folder;
  MetricsFile file(folder / "m", 0);
  file.write({{"step", 1}, {"loss", 2.5}});
  file.write({{"step", 2}, {"loss", NAN}, {"norm", INFINITY}});
  EXPECT_EQ(read_text(folder / "m"),
            "{\"loss\":2.5,\"step\":1}\n{\"loss\":null,\"norm\":null,\"step\":2}\n");
}

TEST(MetricsFile, IsCutBackToTheStepARunGoesOnFrom) {
  const TemporaryFolder folder;
  const std::string kept =
      "{\"loss\":3,\"step\":10}\n{\"step\":10,\"validation\":{}}\n{\"step\": 20}\n";
  write_text(folder / "m", kept + "{\"step\":21}\n{\"step\":30,\"validation\":{}}\n");
  MetricsFile file(folder / "m", 20);
  EXPECT_EQ(read_text(folder / "m"), kept);
  file.write({{"step", 21}});
  EXPECT_EQ(read_text(folder / "m"), kept + "{\"step\":21}\n");
}

TEST(MetricsFile, DropsAHalfLineAndWhatIsNoRow) {
  const TemporaryFolder folder;
  write_text(folder / "m", "{\"step\":1}\nnonsense\n[3]\n{\"loss\":1}\n{\"step\":2}\n{\"step\":3");
  MetricsFile file(folder / "m", 100);
  file.write({{"step", 3}});
  EXPECT_EQ(read_text(folder / "m"), "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n");
}

TEST(MetricsFile, IsEmptiedByARunFromTheBeginning) {
  const TemporaryFolder folder;
  write_text(folder / "m", "{\"step\":1}\n");
  const MetricsFile file(folder / "m", 0);
  EXPECT_EQ(read_text(folder / "m"), "");
}

TEST(MetricsFile, AFailedWriteIsLoggedOnceAndDoesNotEndTraining) {
  const TemporaryFolder folder;
  ::testing::internal::CaptureStderr();
  MetricsFile file(folder / "none/m", 0);
  file.write({{"step", 1}});
  file.write({{"step", 2}});
  const std::string log = ::testing::internal::GetCapturedStderr();
  EXPECT_THAT(log, HasSubstr("none/m: cannot be written; training goes on"));
  EXPECT_EQ(log.find("none/m"), log.rfind("none/m")) << log;
}

TEST(MetricsFile, LosesWholeRowsOnAFullDiskAndGoesOnBehindThem) {
  const TemporaryFolder folder;
  MetricsFile file(folder / "m", 0);
  file.write({{"step", 1}});
  {
    const testing::FileSizeLimit limit(15);  // room for four bytes of the next row
    file.write({{"step", 2}});
  }
  file.write({{"step", 3}});
  EXPECT_EQ(read_text(folder / "m"), "{\"step\":1}\n{\"step\":3}\n");
}

TEST(RunFolder, SaysOnAFullDiskWhatBecameOfTheRun) {
  const testing::SmallDisk disk("size=64k");
  if (!disk.is_mounted()) GTEST_SKIP() << "mounting a tmpfs is not permitted here";
  const RunFolder folder(disk.folder() / "run");
  folder.set_status({RunState::kRunning, 1, 10, std::string(100, 'x')});
  std::ofstream(disk.folder() / "fill") << std::string(1 << 20, 'f');
  folder.set_status({RunState::kDiverged, 12, 10, "loss"});
  EXPECT_EQ(folder.status()->state, RunState::kDiverged);
  EXPECT_EQ(folder.status()->step, 12);
  EXPECT_EQ(folder.status()->message, "loss");
}

TEST(MetricsFile, TellsTheLatestValidationAfterAStep) {
  const TemporaryFolder folder;
  EXPECT_TRUE(read_validation(folder / "m", 10).is_null());
  write_text(folder / "m",
             "{\"step\":10,\"validation\":{\"news\":3}}\n{\"step\":20,\"loss\":1}\n"
             "{\"step\":20,\"validation\":{\"news\":2}}\n\"validation\"\n{\"step\":30,\"valida");
  EXPECT_EQ(read_validation(folder / "m", 10).at("news"), 3);
  EXPECT_EQ(read_validation(folder / "m", 20).at("news"), 2);
  EXPECT_TRUE(read_validation(folder / "m", 30).is_null());
}

TEST(RunFolder, BelongsToOneAtATime) {
  const TemporaryFolder folder;
  {
    const RunFolder first(folder / "a/b");
    const std::string message =
        error_of(ExitCode::kUsage, [&] { RunFolder second(folder / "a/b"); });
    EXPECT_THAT(message, AllOf(HasSubstr(folder / "a/b"), HasSubstr("another process"),
                               HasSubstr("another `name`")));
    const RunFolder other(folder / "a/c");
  }
  const RunFolder again(folder / "a/b");
}

TEST(RunFolder, NamesAFolderThatCannotBeMade) {
  const TemporaryFolder folder;
  write_text(folder / "file", "");
  EXPECT_THAT(error_of(ExitCode::kUsage, [&] { RunFolder run(folder / "file/run"); }),
              AllOf(HasSubstr(folder / "file/run"), HasSubstr("`output`")));
}

TEST(RunFolder, TheStatusComesBack) {
  const TemporaryFolder folder;
  const RunFolder run(folder / "run");
  EXPECT_FALSE(run.status().has_value());
  for (const RunState state : {RunState::kRunning, RunState::kPreempted, RunState::kDiverged,
                               RunState::kFinished, RunState::kFailed}) {
    run.set_status({state, 7, 30, "why \"so\""});
    const auto status = run.status();
    ASSERT_TRUE(status.has_value());
    EXPECT_EQ(status->state, state);
    EXPECT_EQ(status->step, 7);
    EXPECT_EQ(status->total_steps, 30);
    EXPECT_EQ(status->message, "why \"so\"");
  }
  EXPECT_EQ(nlohmann::json::parse(read_text(run.file("status.json"))).at("state"), "failed");
  for (const char* text : {"", "{}", "[]", R"({"state": "happy", "step": 1})"}) {
    write_text(run.file("status.json"), text);
    EXPECT_THAT(error_of(ExitCode::kCheckpoint, [&] { run.status(); }), HasSubstr("status.json"))
        << text;
  }
}

TEST(RunFolder, TellsOfARefusedStartWithoutMakingAFolderOrWakingADivergedRun) {
  const TemporaryFolder folder;
  RunFolder::record_refusal(folder / "none", "no data");
  EXPECT_FALSE(std::filesystem::exists(folder / "none"));
  const auto after_refusal = [&](RunState before) {
    RunFolder(folder / "run").set_status({before, 7, 30, "as it was"});
    RunFolder::record_refusal(folder / "run", "no data");
    return *RunFolder(folder / "run").status();
  };
  for (const RunState before :
       {RunState::kRunning, RunState::kPreempted, RunState::kFinished, RunState::kFailed}) {
    const RunStatus status = after_refusal(before);
    EXPECT_EQ(status.state, RunState::kFailed);
    EXPECT_EQ(status.step, 7);
    EXPECT_EQ(status.total_steps, 30);
    EXPECT_EQ(status.message, "no data");
  }
  EXPECT_EQ(after_refusal(RunState::kDiverged).state, RunState::kDiverged);
  const RunFolder held(folder / "run");
  held.set_status({RunState::kRunning, 8, 30, ""});
  RunFolder::record_refusal(folder / "run", "another process is training");
  EXPECT_EQ(held.status()->state, RunState::kRunning);
}

TEST(PeriodClock, TurnsStepsTokensAndPercentIntoSteps) {
  const auto due = [](const Period& period) {
    PeriodClock clock(period, 200, 1000);
    std::vector<int64_t> steps;
    for (int64_t step = 1; step <= 30; ++step) {
      if (clock.is_due(step, 0)) steps.push_back(step);
    }
    return steps;
  };
  EXPECT_THAT(due(Period::steps(12)), ::testing::ElementsAre(12, 24));
  EXPECT_THAT(due(Period::tokens(14'600)), ::testing::ElementsAre(15, 30));
  EXPECT_THAT(due(Period::percent(5)), ::testing::ElementsAre(10, 20, 30));
  EXPECT_THAT(due(Period::never()), ::testing::IsEmpty());
  EXPECT_THAT(due(Period::seconds(0)), ::testing::IsEmpty());
}

TEST(PeriodClock, CountsSecondsFromTheLastTime) {
  PeriodClock clock(Period::seconds(5), 200, 1000);
  EXPECT_TRUE(clock.is_timed());
  EXPECT_FALSE(clock.is_due_at(0));
  EXPECT_FALSE(clock.is_due(1, 4.9));
  EXPECT_TRUE(clock.is_due(2, 5.5));
  EXPECT_FALSE(clock.is_due(3, 10.4)) << "5 s after the last";
  EXPECT_TRUE(clock.is_due(4, 10.5));
}

}  // namespace
}  // namespace lorikeet
