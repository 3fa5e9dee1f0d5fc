// checkpoint.local: snapshots wait on a disk of the node while they are copied to the run's folder.
#include <gmock/gmock.h>

#include <atomic>
#include <filesystem>
#include <future>

#include "lorikeet/core/log.h"
#include "tests/checkpoint/ranks.h"
#include "tests/checkpoint/small_disk.h"

namespace lorikeet {
namespace {

using namespace lorikeet::testing;
using ::testing::AllOf;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;
using Ranks = std::shared_ptr<Exchange>;

constexpr int64_t kElements = 100'000;

/// Lines of this process's address space that are views of files below `folder`.
std::vector<std::string> views_of(const std::string& folder) {
  std::vector<std::string> lines;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    if (line.find(folder) != std::string::npos) lines.push_back(line);
  }
  return lines;
}

/// A view lies there, and its file has lost its name: between the two a snapshot has both.
bool holds_a_nameless_view(const std::string& folder) {
  const auto views = views_of(folder);
  return !views.empty() && views.front().find("(deleted)") != std::string::npos;
}

/// Files anywhere below, by name.
std::vector<std::string> files_below(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) names.push_back(entry.path().filename().string());
  }
  return names;
}

/// Rank 0's snapshot lies on the local disk; rank 1 comes to the save when the test lets it.
/// @param meanwhile  what happens while rank 0 waits
/// @return what take_error() says, by rank
std::vector<std::string> save_held_up(const std::string& run, const std::string& local,
                                      const std::function<void()>& meanwhile) {
  std::promise<void> go;
  const std::shared_future<void> may_go = go.get_future().share();
  return on_ranks(2, [&](const Ranks& ranks) {
    CheckpointStore store(run, keep_locally(9, local), ranks, quick_retry());
    ranks->gather("");  // nobody saves before all have cleared the folder
    if (ranks->rank() == 1) may_go.wait();
    store.save_in_background(share_of(make_content(1, kElements), ranks->rank(), 2));
    if (ranks->rank() == 0) {
      for (int i = 0; i < 10'000 && !holds_a_nameless_view(local); ++i) ::usleep(1'000);
      meanwhile();
      go.set_value();
    }
    store.wait();
    if (const auto error = store.take_error()) throw *error;
  });
}

TEST(CheckpointLocalDisk, HoldsASnapshotWithoutANameUntilItIsCopied) {
  const TemporaryFolder folder;
  const std::string run = folder / "run", local = folder / "local";
  EXPECT_THAT(
      save_held_up(run, local,
                   [&] {
                     const auto views = views_of(local);
                     ASSERT_EQ(views.size(), 1u) << "the snapshot is elsewhere";
                     EXPECT_THAT(views[0], HasSubstr("(deleted)"));
                     EXPECT_THAT(files_below(local), IsEmpty());
                     EXPECT_FALSE(std::filesystem::exists(run + "/checkpoints/step_00000001"));
                   }),
      Each(IsEmpty()));
  expect_equal(CheckpointStore::load(run + "/checkpoints/step_00000001"),
               make_content(1, kElements));
  EXPECT_THAT(views_of(local), IsEmpty()) << "the disk does not get its space back";
  EXPECT_TRUE(std::filesystem::is_empty(local));
}

TEST(CheckpointLocalDisk, ChangesNoByteOfACheckpoint) {
  const TemporaryFolder folder;
  CheckpointContent content = make_content(1, kElements);
  content.tensors.push_back(whole_piece("half", torch::randn({6, 6}).t().to(torch::kBFloat16)));
  content.tensors.push_back(whole_piece("empty", torch::empty({0, 4})));
  for (const std::string name : {"plain", "local"}) {
    const std::string local = name == "local" ? folder / "disk" : "";
    EXPECT_THAT(on_ranks(3,
                         [&](const Ranks& ranks) {
                           CheckpointStore store(folder / name, keep_locally(9, local), ranks,
                                                 quick_retry());
                           ranks->gather("");
                           store.save_in_background(share_of(content, ranks->rank(), 3));
                           store.wait();
                           if (const auto error = store.take_error()) throw *error;
                         }),
                Each(IsEmpty()));
  }
  const std::string plain = folder / "plain/checkpoints/step_00000001/";
  ASSERT_EQ(folder.list(plain).size(), 5u);
  for (const std::string& file : folder.list(plain)) {
    EXPECT_TRUE(read_file(plain + file) ==
                read_file(folder / "local/checkpoints/step_00000001/" + file))
        << file;
  }
}

TEST(CheckpointLocalDisk, IsDoneWithoutWhereItCannotBeWritten) {
  const TemporaryFolder folder;
  overwrite_file(folder / "local", "a file in the way");
  open_log_file(folder / "log");
  CheckpointStore store(folder / "run", keep_locally(3, folder / "local"), one_rank(),
                        quick_retry());
  store.save_in_background(make_content(1));
  store.wait();
  EXPECT_FALSE(store.take_error().has_value());
  expect_equal(store.load(1), make_content(1));
  EXPECT_THAT(read_file(folder / "log"),
              AllOf(HasSubstr("the checkpoint of step 1 is written without checkpoint.local"),
                    HasSubstr(folder / "local")));
}

TEST(CheckpointLocalDisk, IsDoneWithoutWhereItIsFull) {
  const SmallDisk disk("size=1m");
  if (!disk.is_mounted()) GTEST_SKIP() << "mounting a tmpfs is not permitted here";
  const TemporaryFolder folder;
  open_log_file(folder / "log");
  CheckpointStore store(folder / "run", keep_locally(3, disk.folder().path()), one_rank(),
                        quick_retry());
  for (const int64_t elements : {400'000, 50'000}) {  // 1.6 MB, 0.2 MB
    store.save_in_background(make_content(elements, elements));
    store.wait();
    EXPECT_FALSE(store.take_error().has_value());
    expect_equal(store.load(elements), make_content(elements, elements));
    EXPECT_THAT(files_below(disk.folder().path()), IsEmpty());
  }
  EXPECT_THAT(read_file(folder / "log"),
              AllOf(HasSubstr("step 400000 is written without checkpoint.local"),
                    HasSubstr("needs 1,6"), Not(HasSubstr("step 50000 is written without"))));
}

/// Writes through the view's line of /proc/self/maps, since the file has no name any more.
bool flip_a_byte(const std::string& view, int64_t offset) {
  const std::string file = "/proc/self/map_files/" + view.substr(0, view.find(' '));
  std::fstream stream(file, std::ios::binary | std::ios::in | std::ios::out);
  if (!stream) return false;
  stream.seekg(offset);
  const int byte = stream.get();
  stream.seekp(offset);
  stream.put(static_cast<char>(byte ^ 1));
  return stream.flush().good();
}

TEST(CheckpointLocalDisk, IsNotTrusted) {
  const TemporaryFolder folder;
  bool is_flipped = false;
  const auto messages = save_held_up(folder / "run", folder / "local", [&] {
    is_flipped = flip_a_byte(views_of(folder / "local").at(0), /*offset=*/50'000);
  });
  if (!is_flipped) GTEST_SKIP() << "files without a name cannot be opened here";
  EXPECT_THAT(messages, Each(AllOf(StartsWith("4: rank 0: "), HasSubstr("held of step 1"),
                                   HasSubstr("set checkpoint.local"))));
  EXPECT_THAT(folder.list(folder / "run/checkpoints"), IsEmpty());
}

TEST(CheckpointLocalDisk, IsClearedOfThisRunsLeftoversAtTheStart) {
  const TemporaryFolder folder;
  const std::string local = folder / "local";
  std::string of_run;
  EXPECT_THAT(save_held_up(folder / "run", local,
                           [&] {
                             of_run = local + "/" + folder.list(local).at(0);
                             // of a rank that this node had then
                             overwrite_file(of_run + "/tensors_rank_00007.safetensors.x", "half");
                           }),
              Each(IsEmpty()));
  std::filesystem::create_directory(local + "/run-0123456789abcdef");  // a namesake elsewhere
  overwrite_file(local + "/run-0123456789abcdef/tensors_rank_00000.safetensors.x", "its own");
  ASSERT_THAT(folder.list(of_run), Not(IsEmpty()));
  CheckpointStore(folder / "run", keep_locally(9, ""), one_rank()).clear_leftovers();
  CheckpointStore(folder / "run", keep_locally(9, local), one_rank());  // another run's rank
  EXPECT_TRUE(std::filesystem::exists(of_run));
  CheckpointStore(folder / "run", keep_locally(9, local), one_rank()).clear_leftovers();
  EXPECT_THAT(folder.list(local), ::testing::ElementsAre("run-0123456789abcdef"));
  EXPECT_THAT(files_below(local), ::testing::SizeIs(1));
}

}  // namespace
}  // namespace lorikeet
