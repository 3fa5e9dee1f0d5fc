#pragma once
#include <unistd.h>

#include <string>
#include <utility>

#include "lorikeet/core/error.h"

/// Shared by file.cpp and atomic_folder.cpp.
namespace lorikeet::file_internal {

/// Owns a file descriptor.
class Descriptor {
 public:
  explicit Descriptor(int descriptor) : descriptor_(descriptor) {}
  ~Descriptor() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  Descriptor(Descriptor&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  Descriptor& operator=(Descriptor&&) = delete;
  int get() const { return descriptor_; }
  int release() { return std::exchange(descriptor_, -1); }

 private:
  int descriptor_;
};

/// "PATH: cannot ACTION: reason", with a hint where there is one to give.
[[noreturn]] void throw_errno(ExitCode code, const std::string& action, const std::string& path,
                              int error);
/// Absolute, symbolic links followed, no trailing slash.
std::string resolve(const std::string& path);
std::string parent_of(const std::string& path);
void fsync_path(const std::string& path, ExitCode code);

}  // namespace lorikeet::file_internal
