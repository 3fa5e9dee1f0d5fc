#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

#include <cerrno>
#include <cstring>

#include "lorikeet/core/file.h"
#include "tests/core/temporary_folder.h"

namespace lorikeet {
namespace {

using ::testing::ElementsAre;
using testing::error_of;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::TemporaryFolder;

constexpr ExitCode kCode = ExitCode::kCheckpoint;

void put(const std::string& path, const std::string& text) {
  write_file_atomically(path, text, kCode);
}

TEST(AtomicFolder, AppearsWholeOnCommit) {
  const TemporaryFolder folder;
  AtomicFolder step(folder / "step", ExistingFolder::kRefuse, kCode);
  EXPECT_EQ(step.path(), folder / "step.tmp");
  std::filesystem::create_directory(step.path() + "/inner");
  put(step.path() + "/inner/a", "text");
  EXPECT_THAT(folder.list(), ElementsAre("step.tmp"));
  step.commit();
  EXPECT_THAT(folder.list(), ElementsAre("step"));
  EXPECT_EQ(read_text_file(folder / "step/inner/a", kCode), "text");
}

TEST(AtomicFolder, IsRemovedWhenNotCommitted) {
  const TemporaryFolder folder;
  {
    const AtomicFolder step(folder / "step", ExistingFolder::kRefuse, kCode);
    put(step.path() + "/a", "text");
  }
  EXPECT_THAT(folder.list(), IsEmpty());
}

TEST(AtomicFolder, ClearsWhatAKilledWriterLeft) {
  const TemporaryFolder folder;
  std::filesystem::create_directories(folder / "step.tmp/inner");
  put(folder / "step.tmp/inner/stale", "text");
  AtomicFolder step(folder / "step", ExistingFolder::kRefuse, kCode);
  put(step.path() + "/fresh", "text");
  step.commit();
  EXPECT_THAT(folder.list(folder / "step"), ElementsAre("fresh"));
}

TEST(AtomicFolder, ASecondWriterIsRefusedAndHarmsNothing) {
  const TemporaryFolder folder;
  AtomicFolder first(folder / "step", ExistingFolder::kReplace, kCode);
  put(first.path() + "/a", "text");
  EXPECT_THAT(
      error_of(kCode, [&] { AtomicFolder(folder / "step", ExistingFolder::kReplace, kCode); }),
      HasSubstr("another process is writing"));
  first.commit();
  EXPECT_EQ(read_text_file(folder / "step/a", kCode), "text");
  AtomicFolder third(folder / "step", ExistingFolder::kReplace, kCode);
  third.commit();
  EXPECT_THAT(folder.list(folder / "step"), IsEmpty());
}

TEST(AtomicFolder, ReplacesTheOldFolderOnlyOnCommit) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "step");
  put(folder / "step/old", "text");
  { const AtomicFolder dropped(folder / "step", ExistingFolder::kReplace, kCode); }
  EXPECT_THAT(folder.list(folder / "step"), ElementsAre("old"));
  AtomicFolder step(folder / "step", ExistingFolder::kReplace, kCode);
  put(step.path() + "/new", "text");
  EXPECT_THAT(folder.list(folder / "step"), ElementsAre("old"));
  step.commit();
  EXPECT_THAT(folder.list(folder / "step"), ElementsAre("new"));
  EXPECT_THAT(folder.list(), ElementsAre("step"));
}

TEST(AtomicFolder, RefusesAFolderThatIsNotEmptyBeforeAndAfterTheWork) {
  const TemporaryFolder folder;
  AtomicFolder step(folder / "step", ExistingFolder::kRefuse, kCode);
  std::filesystem::create_directory(folder / "step");
  put(folder / "step/old", "text");
  EXPECT_THAT(error_of(kCode, [&] { step.commit(); }), HasSubstr("already exists"));
  EXPECT_THAT(
      error_of(kCode, [&] { AtomicFolder(folder / "step", ExistingFolder::kRefuse, kCode); }),
      HasSubstr("already exists"));
  EXPECT_THAT(folder.list(folder / "step"), ElementsAre("old"));
}

TEST(AtomicFolder, TakesThePlaceOfAnEmptyFolderAndMakesParents) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "step");
  AtomicFolder step((folder / "step") + "/", ExistingFolder::kRefuse, kCode);
  put(step.path() + "/a", "text");
  step.commit();
  EXPECT_THAT(folder.list(folder / "step"), ElementsAre("a"));
  AtomicFolder deep(folder / "x/y/z", ExistingFolder::kRefuse, kCode);
  deep.commit();
  EXPECT_TRUE(std::filesystem::is_directory(folder / "x/y/z"));
}

TEST(AtomicFolder, RefusesAFileAndTheRoot) {
  const TemporaryFolder folder;
  put(folder / "file", "text");
  EXPECT_THAT(
      error_of(kCode, [&] { AtomicFolder(folder / "file", ExistingFolder::kReplace, kCode); }),
      HasSubstr("is a file"));
  EXPECT_THAT(error_of(kCode, [&] { AtomicFolder("/", ExistingFolder::kReplace, kCode); }),
              HasSubstr("no name for a folder"));
  EXPECT_THAT(error_of(kCode, [&] { AtomicFolder("", ExistingFolder::kReplace, kCode); }),
              HasSubstr("no name for a folder"));
}

TEST(AtomicFolder, AFullDiskLeavesTheOldFolder) {
  const TemporaryFolder folder;
  if (::mount("tmpfs", folder.path().c_str(), "tmpfs", 0, "size=1m") != 0) {
    GTEST_SKIP() << "a small disk needs the right to mount: " << std::strerror(errno);
  }
  std::filesystem::create_directory(folder / "step");
  put(folder / "step/old", "text");
  const std::string error = error_of(kCode, [&] {
    const AtomicFolder step(folder / "step", ExistingFolder::kReplace, kCode);
    put(step.path() + "/new", std::string(2 << 20, 'x'));
  });
  const auto names = folder.list();
  const std::string text = read_text_file(folder / "step/old", kCode);
  ::umount(folder.path().c_str());
  EXPECT_THAT(error, HasSubstr("ENOSPC"));
  EXPECT_THAT(names, ElementsAre("step"));
  EXPECT_EQ(text, "text");
}

}  // namespace
}  // namespace lorikeet
