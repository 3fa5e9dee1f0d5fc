#include "scratch.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <random>
#include <string_view>
#include <thread>

#include "lorikeet/core/error.h"

namespace lorikeet {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = ".preflight_";

[[noreturn]] void fail(const std::string& path, const char* what) {
  throw Error(ExitCode::kCheckpoint, fmt::format("{}: {}: {}", path, what, std::strerror(errno)));
}

/// A lock on the folder's own file, or -1 where another process has it.
/// @param how  LOCK_SH or LOCK_EX
int try_lock(const std::string& folder, int how) {
  const std::string path = folder + "/lock";
  const int descriptor = ::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644);
  if (descriptor < 0) return -1;
  struct stat state {};
  // One that was removed meanwhile locks nothing.
  const bool is_locked = ::flock(descriptor, how | LOCK_NB) == 0 &&
                         ::fstat(descriptor, &state) == 0 && state.st_nlink > 0;
  if (is_locked) return descriptor;
  ::close(descriptor);
  return -1;
}

/// Removes the folders of processes that are gone.
void clear_leftovers(const std::string& parent) {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(parent, ignored)) {
    const std::string path = entry.path().string();
    if (!entry.path().filename().string().starts_with(kPrefix)) continue;
    if (!fs::is_directory(entry.symlink_status(ignored))) continue;
    const int lock = try_lock(path, LOCK_EX);
    if (lock < 0) continue;
    fs::remove_all(path, ignored);
    ::close(lock);
  }
}

}  // namespace

ScratchFile::ScratchFile(const std::string& folder) : folder_(folder) {
  std::error_code ignored;  // mkostemp says what is wrong
  fs::create_directories(folder, ignored);
  std::string path = fmt::format("{}/{}XXXXXX", folder, kPrefix);
  descriptor_ = ::mkostemp(path.data(), O_CLOEXEC);
  if (descriptor_ < 0) fail(folder, "no file can be made in it");
  ::unlink(path.c_str());
}

ScratchFile::~ScratchFile() { ::close(descriptor_); }

void ScratchFile::write(const std::vector<char>& chunk) {
  for (size_t done = 0; done < chunk.size();) {
    const ssize_t n = ::write(descriptor_, chunk.data() + done, chunk.size() - done);
    if (n < 0 && errno != EINTR) fail(folder_, "cannot be written to");
    if (n > 0) done += static_cast<size_t>(n);
  }
}

void ScratchFile::sync() {
  if (::fsync(descriptor_) != 0) fail(folder_, "cannot be synced");
}

void ScratchFile::rewind() {
  ::posix_fadvise(descriptor_, 0, 0, POSIX_FADV_DONTNEED);
  if (::lseek(descriptor_, 0, SEEK_SET) != 0) fail(folder_, "cannot be read");
}

size_t ScratchFile::read(std::vector<char>& chunk) {
  const ssize_t n = ::read(descriptor_, chunk.data(), chunk.size());
  if (n < 0) fail(folder_, "cannot be read");
  return static_cast<size_t>(n);
}

std::string ScratchFolder::free_name(const std::string& stem) {
  std::random_device random;
  return fmt::format("{}{}_{:08x}{:08x}", kPrefix, stem, random(), random());
}

ScratchFolder::ScratchFolder(const std::string& parent, const std::string& name)
    : path_(parent + "/" + name) {
  constexpr int kAttempts = 100;
  clear_leftovers(parent);
  std::error_code error;
  for (int attempt = 0; attempt < kAttempts && !error; ++attempt) {
    // Another process may clear it before it is locked.
    fs::create_directories(path_, error);
    lock_ = try_lock(path_, LOCK_SH);
    if (lock_ >= 0) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  throw Error(ExitCode::kUsage,
              fmt::format("{}: cannot be made: {}", path_,
                          error ? error.message() : "its lock cannot be taken"),
              "preflight needs a folder there that it may write to");
}

ScratchFolder::~ScratchFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
  ::close(lock_);
}

}  // namespace lorikeet
