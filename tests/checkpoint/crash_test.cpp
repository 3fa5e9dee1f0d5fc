// Writers that are killed, and disks that are full.
#include <gmock/gmock.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <random>

#include "tests/checkpoint/content.h"

namespace lorikeet {
namespace {

using namespace lorikeet::testing;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int64_t kElements = 100'000;

/// A child that saves steps from `first` on until it is killed. One thread: OpenMP's do not survive
/// a fork.
pid_t start_saving(const std::string& run, int64_t first) {
  const pid_t child = ::fork();
  if (child != 0) return child;
  try {
    torch::set_num_threads(1);
    CheckpointStore store(run, keep(2), quick_retry());
    for (int64_t step = first;; ++step) {
      if (step % 3 == 0) {
        store.save_in_background(make_content(step, kElements));
      } else {
        store.save(make_content(step, kElements));
      }
      if (step % 4 == 0) store.save(make_content(step, kElements));  // replaces
    }
  } catch (...) {
  }
  ::_exit(1);
}

TEST(SlowCheckpointCrash, LeavesAWholeCheckpointWheneverTheWriterIsKilled) {
  const TemporaryFolder folder;
  const std::string run = folder / "run";
  CheckpointStore store(run, keep(2), quick_retry());
  store.save(make_content(1, kElements));
  std::mt19937 random(1);
  int num_leftovers = 0;
  for (int round = 0; round < 40; ++round) {
    const int64_t newest = store.list().front();
    const pid_t child = start_saving(run, newest + 1);
    ASSERT_GT(child, 0);
    ::usleep(std::uniform_int_distribution<useconds_t>(1'000, 80'000)(random));
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the child failed by itself";

    for (const std::string& name : folder.list(run + "/checkpoints")) {
      num_leftovers += name.find(".tmp") != std::string::npos ? 1 : 0;
    }
    const std::vector<int64_t> steps = store.list();
    ASSERT_GE(steps.front(), newest);
    for (const int64_t step : steps) expect_equal(store.load(step), make_content(step, kElements));
  }
  EXPECT_GT(num_leftovers, 0) << "no writer was killed while it wrote";
  EXPECT_GT(store.list().front(), 1) << "no writer saved anything";
  const int64_t last = store.list().front() + 1;
  store.save(make_content(last, kElements));
  EXPECT_EQ(store.list().front(), last);
  EXPECT_EQ(folder.list(run + "/checkpoints").size(), 2u) << "leftovers were not cleared";
}

/// Writes beyond `bytes` fail while it lives.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : old_handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &old_limit_);
    const rlimit limit = {bytes, old_limit_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &old_limit_);
    std::signal(SIGXFSZ, old_handler_);
  }

 private:
  rlimit old_limit_ = {};
  void (*old_handler_)(int);
};

TEST(CheckpointCrash, AWriteThatFailsMidwayLeavesTheOldOnesAndNothingElse) {
  const TemporaryFolder folder;
  CheckpointStore store(folder / "run", keep(1), quick_retry());
  store.save(make_content(1));
  {
    const FileSizeLimit limit(1 << 20);
    const std::string message =
        error_of(ExitCode::kCheckpoint, [&] { store.save(make_content(2, 1 << 20)); });
    EXPECT_THAT(message, AllOf(HasSubstr("step_00000002"), HasSubstr("needs 4,")));
    store.save_in_background(make_content(2, 1 << 20));
    store.wait();
    EXPECT_TRUE(store.take_error().has_value());
  }
  EXPECT_THAT(folder.list(folder / "run/checkpoints"), ElementsAre("step_00000001"));
  expect_equal(*store.load_newest(), make_content(1));
}

/// A small disk in memory, where mounting is permitted.
class SmallDisk {
 public:
  explicit SmallDisk(const std::string& options) {
    is_mounted_ = ::mount("tmpfs", folder_.path().c_str(), "tmpfs", 0, options.c_str()) == 0;
  }
  ~SmallDisk() {
    if (is_mounted_) ::umount2(folder_.path().c_str(), MNT_DETACH);
  }
  bool is_mounted() const { return is_mounted_; }
  const TemporaryFolder& folder() const { return folder_; }

 private:
  TemporaryFolder folder_;
  bool is_mounted_ = false;
};

TEST(CheckpointCrash, AFullDiskIsNamedBeforeAnythingIsWritten) {
  const SmallDisk disk("size=4m");
  if (!disk.is_mounted()) GTEST_SKIP() << "mounting a tmpfs is not permitted here";
  const std::string run = disk.folder() / "run";
  CheckpointStore store(run, keep(5), quick_retry());
  for (const int64_t step : {1, 2}) store.save(make_content(step, 400'000));  // 1.6 MB each
  const std::string message =
      error_of(ExitCode::kCheckpoint, [&] { store.save(make_content(3, 400'000)); });
  EXPECT_THAT(message, AllOf(HasSubstr(store.path_of(3)), HasSubstr("needs 1,6"),
                             HasSubstr("bytes, but the disk has "), HasSubstr("make room")));
  EXPECT_THAT(disk.folder().list(run + "/checkpoints"),
              ElementsAre("step_00000001", "step_00000002"));
  for (const int64_t step : {1, 2}) expect_equal(store.load(step), make_content(step, 400'000));
}

TEST(CheckpointCrash, ADiskThatFillsDuringTheWriteLeavesNothing) {
  // Room for the bytes, but not for the files: the free space looks sufficient.
  const SmallDisk disk("size=64m,nr_inodes=10");
  if (!disk.is_mounted()) GTEST_SKIP() << "mounting a tmpfs is not permitted here";
  const std::string run = disk.folder() / "run";
  CheckpointStore store(run, keep(5), quick_retry());
  store.save(make_content(1));  // root, run, checkpoints, step_1 and three files: 7 of 10
  const std::string message = error_of(ExitCode::kCheckpoint, [&] { store.save(make_content(2)); });
  EXPECT_THAT(message, AllOf(HasSubstr("step_00000002"), HasSubstr("disk is full")));
  EXPECT_THAT(disk.folder().list(run + "/checkpoints"), ElementsAre("step_00000001"));
  expect_equal(*store.load_newest(), make_content(1));
}

}  // namespace
}  // namespace lorikeet
