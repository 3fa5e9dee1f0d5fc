// Writers that are killed, and disks that are full.
#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <random>

#include "lorikeet/core/log.h"
#include "tests/checkpoint/content.h"
#include "tests/checkpoint/file_size_limit.h"
#include "tests/checkpoint/ranks.h"
#include "tests/checkpoint/small_disk.h"

namespace lorikeet {
namespace {

using namespace lorikeet::testing;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int64_t kElements = 100'000;

int num_unfinished(const std::vector<std::string>& names) {
  return static_cast<int>(std::count_if(names.begin(), names.end(), [](const std::string& name) {
    return name.find(".tmp") != std::string::npos;
  }));
}

/// After a writer was killed: nothing is lost and all that has a name is whole.
/// @param names  in the folder of the checkpoints
/// @param newest  step that was there before
/// @return how many unfinished folders are left
int expect_whole(const CheckpointStore& store, const std::vector<std::string>& names,
                 int64_t newest) {
  const std::vector<int64_t> steps = store.list();
  EXPECT_GE(steps.empty() ? 0 : steps.front(), newest);
  for (const int64_t step : steps) expect_equal(store.load(step), make_content(step, kElements));
  return num_unfinished(names);
}

/// A child that saves steps from `first` on until it is killed. One thread: OpenMP's do not survive
/// a fork.
/// @param local  checkpoint.local
pid_t start_saving(const std::string& run, int64_t first, const std::string& local) {
  const pid_t child = ::fork();
  if (child != 0) return child;
  try {
    torch::set_num_threads(1);
    CheckpointStore store(run, keep_locally(2, local), one_rank(), quick_retry());
    for (int64_t step = first;; ++step) {
      if (step % 3 == 0 || !local.empty()) {
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
  CheckpointStore store(run, keep(2), one_rank(), quick_retry());
  store.save(make_content(1, kElements));
  std::filesystem::create_directory(folder / "local");
  std::mt19937 random(1);
  int num_leftovers = 0, num_local_leftovers = 0;
  for (int round = 0; round < 40; ++round) {
    const int64_t newest = store.list().front();
    const std::string local = round % 2 == 0 ? "" : folder / "local";
    const pid_t child = start_saving(run, newest + 1, local);
    ASSERT_GT(child, 0);
    ::usleep(std::uniform_int_distribution<useconds_t>(1'000, 80'000)(random));
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the child failed by itself";

    num_leftovers += expect_whole(store, folder.list(run + "/checkpoints"), newest);
    if (!local.empty()) {
      num_local_leftovers += std::filesystem::is_empty(local) ? 0 : 1;
      CheckpointStore(run, keep_locally(2, local), one_rank()).clear_leftovers();  // a new start
      EXPECT_TRUE(std::filesystem::is_empty(local));
    }
  }
  EXPECT_GT(num_leftovers, 0) << "no writer was killed while it wrote";
  EXPECT_GT(num_local_leftovers, 0) << "no writer was killed while it had a local folder";
  EXPECT_GT(store.list().front(), 1) << "no writer saved anything";
  const int64_t last = store.list().front() + 1;
  store.save(make_content(last, kElements));
  EXPECT_EQ(store.list().front(), last);
  EXPECT_EQ(folder.list(run + "/checkpoints").size(), 2u) << "leftovers were not cleared";
}

/// A child that saves its share as one of several ranks until one of them is killed.
pid_t start_rank(const std::string& run, const std::string& exchange, int rank, int size,
                 int64_t first) {
  const pid_t child = ::fork();
  if (child != 0) return child;
  try {
    torch::set_num_threads(1);
    set_log_level(LogLevel::kError);
    CheckpointStore store(
        run, keep(2), std::make_shared<FolderExchange>(exchange, rank, size, /*timeout_seconds=*/4),
        quick_retry());
    for (int64_t step = first;; ++step) {
      store.save_in_background(share_of(make_content(step, kElements), rank, size));
      store.wait();
      if (const auto error = store.take_error()) throw *error;
    }
  } catch (const Error& error) {
    ::_exit(std::string(error.what()).find("did not answer") != std::string::npos ? 10 : 1);
  } catch (...) {
  }
  ::_exit(2);
}

TEST(SlowCheckpointCrash, OfOneRankEndsTheOthersInTimeAndLeavesAWholeCheckpoint) {
  constexpr int kSize = 3;
  const TemporaryFolder folder;
  const std::string run = folder / "run";
  CheckpointStore store(run, keep(2), one_rank(), quick_retry());
  store.save(make_content(1, kElements));
  std::mt19937 random(2);
  int num_leftovers = 0;
  for (int round = 0; round < 15; ++round) {
    const int64_t newest = store.list().front();
    const TemporaryFolder exchange;
    std::vector<pid_t> children;
    for (int rank = 0; rank < kSize; ++rank) {
      children.push_back(start_rank(run, exchange.path(), rank, kSize, newest + 1));
      ASSERT_GT(children.back(), 0);
    }
    // Somewhere in one of the first saves, however fast the machine is.
    const int64_t progress = newest + std::uniform_int_distribution<int64_t>(0, 2)(random);
    for (int i = 0; i < 20'000 && store.list().front() < progress; ++i) ::usleep(1'000);
    ::usleep(std::uniform_int_distribution<useconds_t>(1'000, 40'000)(random));
    const auto victim = static_cast<size_t>(round % kSize);
    // Rank 0, which makes the folders, while it has one in hand.
    const std::string checkpoints = run + "/checkpoints";
    for (int i = 0; victim == 0 && i < 20'000; ++i) {
      if (num_unfinished(folder.list(checkpoints)) > 0) break;
      ::usleep(100);
    }
    ::kill(children[victim], SIGKILL);
    for (size_t rank = 0; rank < children.size(); ++rank) {
      int status = 0;
      ::waitpid(children[rank], &status, 0);
      if (rank != victim) {
        EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 10)
            << "rank " << rank << " ended with " << status;
      } else {
        ASSERT_TRUE(WIFSIGNALED(status)) << "the child failed by itself";
      }
    }
    num_leftovers += expect_whole(store, folder.list(checkpoints), newest);
  }
  EXPECT_GT(num_leftovers, 0) << "rank 0 was never killed while it wrote";
  EXPECT_GT(store.list().front(), 1) << "nothing was saved";
}

TEST(CheckpointCrash, AWriteThatFailsMidwayLeavesTheOldOnesAndNothingElse) {
  const TemporaryFolder folder;
  CheckpointStore store(folder / "run", keep(1), one_rank(), quick_retry());
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

TEST(CheckpointCrash, AFullDiskIsNamedBeforeAnythingIsWritten) {
  const SmallDisk disk("size=4m");
  if (!disk.is_mounted()) GTEST_SKIP() << "mounting a tmpfs is not permitted here";
  const std::string run = disk.folder() / "run";
  CheckpointStore store(run, keep(5), one_rank(), quick_retry());
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
  CheckpointStore store(run, keep(5), one_rank(), quick_retry());
  store.save(make_content(1));  // root, run, checkpoints, step_1 and three files: 7 of 10
  const std::string message = error_of(ExitCode::kCheckpoint, [&] { store.save(make_content(2)); });
  EXPECT_THAT(message, AllOf(HasSubstr("step_00000002"), HasSubstr("disk is full")));
  EXPECT_THAT(disk.folder().list(run + "/checkpoints"), ElementsAre("step_00000001"));
  expect_equal(*store.load_newest(), make_content(1));
}

}  // namespace
}  // namespace lorikeet
