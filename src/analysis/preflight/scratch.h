#pragma once
#include <cstddef>
#include <string>
#include <vector>

namespace lorikeet {

/// A file without a name: its space comes back with the object, or with the process.
class ScratchFile {
 public:
  /// @param folder  made where it is missing
  /// @throws Error(kCheckpoint) where no file can be made in it, as all of these do
  explicit ScratchFile(const std::string& folder);
  ~ScratchFile();
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;

  void write(const std::vector<char>& chunk);
  void sync();
  /// To the start; from the disk, as far as the system grants it.
  void rewind();
  /// @return how many bytes it read into `chunk`; 0 at the end
  size_t read(std::vector<char>& chunk);

 private:
  std::string folder_;
  int descriptor_;
};

/// A hidden folder that is gone with the object. A killed process leaves it; the next one to make
/// a folder in the same place clears it, since the lock in it is held by nobody.
class ScratchFolder {
 public:
  /// A name that no other folder has. @param stem  what it is for
  static std::string free_name(const std::string& stem);

  /// @param name  from free_name(), maybe of another process: those of one node share a folder,
  /// which the first of them to leave removes
  /// @throws Error(kUsage) where it cannot be made
  ScratchFolder(const std::string& parent, const std::string& name);
  ~ScratchFolder();
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
  int lock_ = -1;
};

}  // namespace lorikeet
