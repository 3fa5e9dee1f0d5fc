#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include "file_internal.h"
#include "lorikeet/core/file.h"

namespace lorikeet {

namespace fs = std::filesystem;
using namespace file_internal;

namespace {

bool is_taken(const std::string& path) {
  std::error_code error;
  return fs::exists(fs::symlink_status(path, error)) && !fs::is_empty(path, error);
}

void refuse_existing(const std::string& path, ExitCode code) {
  throw Error(code, path + ": already exists and is not empty",
              "choose another folder, or remove this one");
}

void fsync_tree(const std::string& folder, ExitCode code) {
  std::error_code error;
  for (fs::recursive_directory_iterator it(folder, error), end; !error && it != end;
       it.increment(error)) {
    if (!it->is_symlink()) fsync_path(it->path().string(), code);
  }
  if (error) throw_errno(code, "list", folder, error.value());
  fsync_path(folder, code);
}

void remove_contents(const std::string& folder, ExitCode code) {
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    fs::remove_all(it->path(), error);
    if (error) break;
  }
  if (error) throw_errno(code, "clear", folder, error.value());
}

}  // namespace

AtomicFolder::AtomicFolder(const std::string& path, ExistingFolder existing, ExitCode code)
    : path_(resolve(path)), temporary_(path_ + ".tmp"), existing_(existing), code_(code) {
  std::error_code error;
  const fs::file_status status = fs::status(path_, error);
  if (fs::exists(status) && !fs::is_directory(status)) {
    throw Error(code, path + ": is a file, a folder is to be written there",
                "choose another name for the folder");
  }
  if (path_ == "/" || path_.empty()) {
    throw Error(code, "'" + path + "': is no name for a folder", "name a folder to be made");
  }
  // Before hours of work, not after; commit() looks again.
  if (existing_ == ExistingFolder::kRefuse && is_taken(path_)) refuse_existing(path, code);
  fs::create_directories(parent_of(path_), error);
  if (error) throw_errno(code, "make the folder", parent_of(path_), error.value());
  open_and_lock();
  try {
    remove_contents(temporary_, code_);
  } catch (...) {  // no destructor runs; the lock must not stay
    ::close(lock_);
    throw;
  }
}

void AtomicFolder::open_and_lock() {
  while (true) {
    if (::mkdir(temporary_.c_str(), 0777) != 0 && errno != EEXIST) {
      throw_errno(code_, "make the folder", temporary_, errno);
    }
    Descriptor descriptor(::open(temporary_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (descriptor.get() < 0 && errno == ENOENT) continue;  // another writer just finished
    if (descriptor.get() < 0) throw_errno(code_, "open", temporary_, errno);
    if (::flock(descriptor.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
      throw Error(code_, temporary_ + ": another process is writing this folder",
                  "wait for it to end, or choose another folder");
    }
    // Another writer may have renamed or removed it between open and lock: then this is not
    // NAME.tmp any more.
    struct stat held, named;
    if (::fstat(descriptor.get(), &held) == 0 && ::stat(temporary_.c_str(), &named) == 0 &&
        held.st_dev == named.st_dev && held.st_ino == named.st_ino) {
      lock_ = descriptor.release();
      return;
    }
  }
}

AtomicFolder::~AtomicFolder() {
  if (lock_ < 0) return;
  std::error_code ignored;
  fs::remove_all(temporary_, ignored);
  ::close(lock_);
}

void AtomicFolder::commit() {
  fsync_tree(temporary_, code_);
  // A rename takes the place of an empty folder, and of nothing else.
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) {
    if (errno != ENOTEMPTY && errno != EEXIST) throw_errno(code_, "write", path_, errno);
    if (existing_ == ExistingFolder::kRefuse) refuse_existing(path_, code_);
    replace();
  }
  ::close(lock_);
  lock_ = -1;
  fsync_folder(parent_of(path_), code_);
}

void AtomicFolder::replace() {
  std::string old = temporary_;  // where the old folder is after the exchange
  // Locked, so that a writer who comes before it is gone does not take it for its own.
  const Descriptor old_lock(::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (old_lock.get() >= 0) ::flock(old_lock.get(), LOCK_EX | LOCK_NB);
  if (::renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, path_.c_str(), RENAME_EXCHANGE) != 0) {
    if (errno != EINVAL && errno != ENOSYS) throw_errno(code_, "replace", path_, errno);
    old = path_ + ".old";
    if (::rename(path_.c_str(), old.c_str()) != 0) throw_errno(code_, "replace", path_, errno);
    if (::rename(temporary_.c_str(), path_.c_str()) != 0) {
      const int error = errno;
      ::rename(old.c_str(), path_.c_str());
      throw_errno(code_, "replace", path_, error);
    }
  }
  fsync_folder(parent_of(path_), code_);  // the new name is safe before the old data goes
  std::error_code error;
  fs::remove_all(old, error);
  if (error) throw_errno(code_, "remove", old, error.value());
}

}  // namespace lorikeet
