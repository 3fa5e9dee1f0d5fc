#pragma once
#include <sys/mount.h>

#include <string>

#include "tests/core/temporary_folder.h"

namespace lorikeet::testing {

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

}  // namespace lorikeet::testing
