#include "lorikeet/core/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <cstring>
#include <fstream>
#include <thread>
#include <vector>

#include "tests/core/temporary_folder.h"

namespace lorikeet {
namespace {

using ::testing::ElementsAre;
using testing::error_of;
using ::testing::HasSubstr;
using testing::TemporaryFolder;

constexpr ExitCode kCode = ExitCode::kData;

TEST(ReadTextFile, ReturnsEveryByte) {
  const TemporaryFolder folder;
  std::string text(200000, 'x');
  text[7] = '\0';
  write_file_atomically(folder / "a", text, kCode);
  EXPECT_EQ(read_text_file(folder / "a", kCode), text);
}

TEST(ReadTextFile, NamesWhatIsMissingOrNotAFile) {
  const TemporaryFolder folder;
  EXPECT_THAT(error_of(kCode, [&] { read_text_file(folder / "none", kCode); }),
              AllOf(HasSubstr(folder / "none"), HasSubstr("No such file")));
  EXPECT_THAT(error_of(kCode, [&] { read_text_file(folder.path(), kCode); }),
              HasSubstr("is a folder"));
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_THAT(error_of(kCode, [&] { read_text_file(folder / "pipe", kCode); }),
              HasSubstr("not a regular file"));
}

TEST(AtomicFile, ReplacesTheOldFileAndLeavesNothingElse) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a", "old", kCode);
  write_file_atomically(folder / "a", "new", kCode);
  EXPECT_EQ(read_text_file(folder / "a", kCode), "new");
  EXPECT_THAT(folder.list(), ElementsAre("a"));
}

TEST(AtomicFile, AnInterruptedWriteLeavesTheOldFileIntact) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a", "old", kCode);
  {
    AtomicFile file(folder / "a", kCode);
    file.write("half of the ne");
    EXPECT_EQ(read_text_file(folder / "a", kCode), "old");
  }
  EXPECT_EQ(read_text_file(folder / "a", kCode), "old");
  EXPECT_THAT(folder.list(), ElementsAre("a"));
}

TEST(AtomicFile, TwoWritersDoNotMixAndTheLastCommitWins) {
  const TemporaryFolder folder;
  AtomicFile first(folder / "a", kCode);
  AtomicFile second(folder / "a", kCode);
  first.write("fir");
  second.write("second");
  first.write("st");
  second.commit();
  EXPECT_EQ(read_text_file(folder / "a", kCode), "second");
  first.commit();
  EXPECT_EQ(read_text_file(folder / "a", kCode), "first");
}

TEST(AtomicFile, ManyThreadsWritingOneFileLeaveOneOfTheirs) {
  const TemporaryFolder folder;
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      for (int n = 0; n < 10; ++n) {
        write_file_atomically(folder / "a", std::string(10000, static_cast<char>('0' + i)), kCode);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  const std::string text = read_text_file(folder / "a", kCode);
  EXPECT_EQ(text, std::string(10000, text[0]));
  EXPECT_THAT(folder.list(), ElementsAre("a"));
}

TEST(AtomicFile, FollowsASymbolicLink) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "real", "old", kCode);
  std::filesystem::create_symlink("real", folder / "link");
  write_file_atomically(folder / "link", "new", kCode);
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "link"));
  EXPECT_EQ(read_text_file(folder / "real", kCode), "new");
}

TEST(AtomicFile, RefusesFoldersDevicesAndMissingParents) {
  const TemporaryFolder folder;
  EXPECT_THAT(error_of(kCode, [&] { AtomicFile(folder.path(), kCode); }), HasSubstr("is a folder"));
  EXPECT_THAT(error_of(kCode, [&] { AtomicFile("/dev/full", kCode); }),
              HasSubstr("not a regular file"));
  EXPECT_THAT(error_of(kCode, [&] { AtomicFile(folder / "none/a", kCode); }),
              AllOf(HasSubstr(folder / "none/a"), HasSubstr("No such file")));
}

TEST(AtomicFile, NamesMissingPermission) {
  if (::geteuid() == 0) GTEST_SKIP() << "the super-user may write everywhere";
  const TemporaryFolder folder;
  ::chmod(folder.path().c_str(), 0500);
  EXPECT_THAT(error_of(kCode, [&] { AtomicFile(folder / "a", kCode); }),
              AllOf(HasSubstr("Permission denied"), HasSubstr("check the permissions")));
  ::chmod(folder.path().c_str(), 0700);
}

// A limit on the size of files stands for a disk that fails in the middle of a write: no rights are
// needed.
TEST(AtomicFile, AFailedWriteNamesTheReasonAndLeavesNothingBehind) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a", "old", kCode);
  rlimit before;
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{100000, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::string error = error_of(
      kCode, [&] { write_file_atomically(folder / "a", std::string(200000, 'x'), kCode); });
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, old_handler);
  EXPECT_THAT(error, AllOf(HasSubstr(folder / "a"), HasSubstr("File too large")));
  EXPECT_EQ(read_text_file(folder / "a", kCode), "old");
  EXPECT_THAT(folder.list(), ElementsAre("a"));
}

TEST(AtomicFile, AFullDiskIsNamedAndLeavesTheOldFile) {
  const TemporaryFolder folder;
  if (::mount("tmpfs", folder.path().c_str(), "tmpfs", 0, "size=1m") != 0) {
    GTEST_SKIP() << "a small disk needs the right to mount: " << std::strerror(errno);
  }
  write_file_atomically(folder / "a", "old", kCode);
  const uint64_t free_before = free_disk_bytes(folder.path(), kCode);
  const std::string error = error_of(
      kCode, [&] { write_file_atomically(folder / "a", std::string(2 << 20, 'x'), kCode); });
  const std::string text = read_text_file(folder / "a", kCode);
  const auto names = folder.list();
  const uint64_t free_after = free_disk_bytes(folder.path(), kCode);
  ::umount(folder.path().c_str());
  EXPECT_THAT(error, AllOf(HasSubstr("ENOSPC"), HasSubstr("disk is full"), HasSubstr("make room")));
  EXPECT_EQ(text, "old");
  EXPECT_THAT(names, ElementsAre("a"));
  EXPECT_EQ(free_after, free_before);
  EXPECT_LT(free_before, 1u << 20);
}

TEST(FreeDiskBytes, AnswersForAPathThatDoesNotExistYet) {
  const TemporaryFolder folder;
  EXPECT_GT(free_disk_bytes(folder / "not/yet/there", kCode), 0u);
}

TEST(MappedFile, ShowsTheFileAndMoves) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a", "hello", kCode);
  MappedFile first(folder / "a", kCode);
  MappedFile second(std::move(first));
  EXPECT_EQ(second.text(), "hello");
  EXPECT_EQ(second.size(), 5u);
  write_file_atomically(folder / "a", "other text", kCode);
  EXPECT_EQ(second.text(), "hello") << "a replaced file must not change under a reader";
  second = MappedFile(folder / "a", kCode);
  EXPECT_EQ(second.text(), "other text");
}

TEST(MappedFile, AnEmptyFileHasNoData) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a", "", kCode);
  const MappedFile file(folder / "a", kCode);
  EXPECT_EQ(file.size(), 0u);
  EXPECT_EQ(file.data(), nullptr);
  EXPECT_EQ(file.text(), "");
}

TEST(MappedFile, RefusesAFolder) {
  const TemporaryFolder folder;
  EXPECT_THAT(error_of(kCode, [&] { MappedFile(folder.path(), kCode); }), HasSubstr("is a folder"));
}

}  // namespace
}  // namespace lorikeet
