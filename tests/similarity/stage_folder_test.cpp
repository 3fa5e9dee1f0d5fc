// Files of the stages, and what ranks that share them do when one fails.
#include "lorikeet/similarity/stage_folder.h"

#include <chrono>
#include <filesystem>
#include <thread>

#include "tests/data/data_testing.h"

namespace lorikeet {
namespace {

using data_testing::error_of;
using data_testing::TemporaryFolder;
using data_testing::write_text;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr uint64_t kData = 7;
const std::vector<std::string> kNames = {"a.stage", "b.stage", "c.stage"};

class StageFolders : public ::testing::Test {
 protected:
  // Every file of the rank, in place of what a stage computes.
  void make(int64_t rank, double patience_seconds, bool fails = false) {
    const StageFolder folder(folder_ / "work", kData, false);
    const Crew crew{.rank = rank, .world_size = 2, .patience_seconds = patience_seconds};
    make_files(folder, crew, "test", kNames, "key", [&](size_t i) {
      if (fails) throw Error(ExitCode::kData, "the disk is full");
      folder.write(kNames[i], "key", {bytes_of(std::vector<size_t>{i})});
    });
  }
  TemporaryFolder folder_;
};

TEST_F(StageFolders, TellTheOthersOfARankThatFailed) {
  EXPECT_THAT(error_of([&] { make(1, 60, true); }), HasSubstr("the disk is full"));
  EXPECT_THAT(error_of([&] { make(0, 0.2); }, ExitCode::kCommunication),
              AllOf(HasSubstr("b.stage: rank 1"), HasSubstr("b.stage: the disk is full")));
}

TEST_F(StageFolders, ForgetAFailureWhenItsRankIsStartedAgain) {
  error_of([&] { make(1, 60, true); });
  std::jthread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    make(1, 60);
  });
  make(0, 60);
  later.join();
  EXPECT_FALSE(std::filesystem::exists(folder_ / "work/failed_1"));
}

TEST_F(StageFolders, StartOverWithoutWhatKilledWritersLeft) {
  const std::string work = folder_ / "work";
  std::filesystem::create_directory(work);
  for (const char* name : {"a.stage", "a.stage.123-4.tmp", "report.html", "mine.tmp"}) {
    write_text(work + "/" + name, "");
  }
  const StageFolder folder(work, kData, true);
  EXPECT_FALSE(std::filesystem::exists(work + "/a.stage"));
  EXPECT_FALSE(std::filesystem::exists(work + "/a.stage.123-4.tmp"));
  EXPECT_TRUE(std::filesystem::exists(work + "/report.html"));
  EXPECT_TRUE(std::filesystem::exists(work + "/mine.tmp"));
}

TEST_F(StageFolders, SayWhatTheyCannotRemove) {
  const std::string work = folder_ / "work";
  std::filesystem::create_directories(work + "/a.stage/within");
  EXPECT_THAT(error_of([&] { StageFolder(work, kData, true); }),
              HasSubstr("a.stage: cannot be removed"));
}

}  // namespace
}  // namespace lorikeet
