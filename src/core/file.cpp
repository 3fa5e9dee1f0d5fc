#include "lorikeet/core/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "file_internal.h"

namespace lorikeet {

namespace fs = std::filesystem;

namespace file_internal {

void throw_errno(ExitCode code, const std::string& action, const std::string& path, int error) {
  const std::string reason = std::generic_category().message(error);
  std::string hint;
  switch (error) {
    case ENOENT:
    case ENOTDIR:
    case ENAMETOOLONG:
    case ELOOP:
      hint = "check the path";
      break;
    case EACCES:
    case EPERM:
    case EROFS:
      hint = "check the permissions of the file and of its folder";
      break;
    case ENOSPC:
    case EDQUOT:
      hint = "make room on that disk, or choose another folder";
      break;
    default:
      break;
  }
  const std::string name = error == ENOSPC ? " (ENOSPC: the disk is full)" : "";
  throw Error(code, fmt::format("{}: cannot {}: {}{}", path, action, reason, name), hint);
}

std::string resolve(const std::string& path) {
  std::error_code error;
  const fs::path resolved = fs::weakly_canonical(fs::absolute(path, error), error);
  // What cannot be resolved fails with its reason when it is opened.
  return error || path.empty() ? path : resolved.string();
}

std::string parent_of(const std::string& path) {
  const std::string parent = fs::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

void fsync_path(const std::string& path, ExitCode code) {
  const Descriptor descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (descriptor.get() < 0) throw_errno(code, "open", path, errno);
  // Some network file systems cannot sync a folder and say EINVAL: nothing more can be done there.
  if (::fsync(descriptor.get()) != 0 && errno != EINVAL) throw_errno(code, "sync", path, errno);
}

}  // namespace file_internal

using namespace file_internal;

namespace {

/// Opens for reading and refuses all but regular files. O_NONBLOCK: a named pipe must not hang us.
Descriptor open_regular(const std::string& path, ExitCode code, struct stat* status) {
  Descriptor descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (descriptor.get() < 0) throw_errno(code, "open", path, errno);
  if (::fstat(descriptor.get(), status) != 0) throw_errno(code, "read", path, errno);
  if (S_ISDIR(status->st_mode)) {
    throw Error(code, path + ": is a folder, a file is needed", "give the path of a file");
  }
  if (!S_ISREG(status->st_mode)) {
    throw Error(code, path + ": is not a regular file", "give the path of a regular file");
  }
  return descriptor;
}

}  // namespace

std::string read_text_file(const std::string& path, ExitCode code) {
  struct stat status;
  const Descriptor descriptor = open_regular(path, code, &status);
  // The size is a hint only: files of /proc say 0, and a log may grow meanwhile.
  std::string text;
  text.reserve(static_cast<size_t>(status.st_size));
  char buffer[1 << 16];
  while (true) {
    const ssize_t got = ::read(descriptor.get(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw_errno(code, "read", path, errno);
    if (got == 0) return text;
    text.append(buffer, static_cast<size_t>(got));
  }
}

void write_file_atomically(const std::string& path, std::string_view content, ExitCode code) {
  AtomicFile file(path, code);
  file.write(content);
  file.commit();
}

void fsync_folder(const std::string& folder, ExitCode code) { fsync_path(folder, code); }

uint64_t free_disk_bytes(const std::string& path, ExitCode code) {
  std::string existing = resolve(path);
  struct statvfs status;
  while (::statvfs(existing.c_str(), &status) != 0) {
    const int error = errno;
    const std::string parent = parent_of(existing);
    if (error != ENOENT || parent == existing) throw_errno(code, "ask for free space", path, error);
    existing = parent;
  }
  return static_cast<uint64_t>(status.f_bavail) * status.f_frsize;
}

AtomicFile::AtomicFile(const std::string& path, ExitCode code) : path_(resolve(path)), code_(code) {
  struct stat status;
  if (::stat(path_.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) {
    // A rename would replace a device such as /dev/null.
    throw Error(code,
                path + (S_ISDIR(status.st_mode) ? ": is a folder, a file is to be written there"
                                                : ": is not a regular file"),
                "choose another name for the file");
  }
  static std::atomic<uint64_t> counter{0};
  do {
    temporary_ = fmt::format("{}.{}-{}.tmp", path_, ::getpid(), counter++);
    descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  } while (descriptor_ < 0 && errno == EEXIST);
  if (descriptor_ < 0) throw_errno(code_, "write", path, errno);
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::write(const void* data, size_t size) {
  const char* bytes = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t written = ::write(descriptor_, bytes, size);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw_errno(code_, "write", path_, errno);
    bytes += written;
    size -= static_cast<size_t>(written);
  }
}

void AtomicFile::commit() {
  // Full disks and quotas of network file systems show here, or on close.
  if (::fsync(descriptor_) != 0) throw_errno(code_, "write", path_, errno);
  if (::close(std::exchange(descriptor_, -1)) != 0) throw_errno(code_, "write", path_, errno);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) throw_errno(code_, "write", path_, errno);
  temporary_.clear();
  fsync_folder(parent_of(path_), code_);
}

MappedFile::MappedFile(const std::string& path, ExitCode code) : path_(path) {
  struct stat status;
  const Descriptor descriptor = open_regular(path, code, &status);
  size_ = static_cast<size_t>(status.st_size);
  if (size_ == 0) return;
  void* address = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, descriptor.get(), 0);
  if (address == MAP_FAILED) throw_errno(code, "map", path, errno);
  data_ = static_cast<const std::byte*>(address);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

}  // namespace lorikeet
